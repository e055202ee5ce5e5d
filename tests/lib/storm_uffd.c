// SPDX-License-Identifier: GPL-2.0-only
/* The calls of userfaultfd, for a storm. */
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "storm.h"

/* Newer than the headers. */
#define FEATURE_WP_ASYNC (1 << 15)
#define FEATURE_RWP (1 << 17)
#define FEATURE_RWP_ASYNC (1 << 18)
#define MODE_MINOR (1 << 2)
#define MODE_RWP (1 << 3)
#define PROTECT_FURTHER _IOWR(UFFDIO, 0x09, struct uffdio_writeprotect)

/* Return a descriptor with one of these sets of features, or -1. */
static int open_uffd(struct storm_thread *thread, u64 *features)
{
	static const u64 sets[] = {
		FEATURE_WP_ASYNC, FEATURE_WP_ASYNC | UFFD_FEATURE_SIGBUS, UFFD_FEATURE_SIGBUS,
		UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM,
		FEATURE_WP_ASYNC | FEATURE_RWP | FEATURE_RWP_ASYNC,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	struct uffdio_api api = { .api = UFFD_API, .features = sets[storm_pick(thread, ARRAY_SIZE(sets))] };

	*features = api.features;
	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Fill a page as it was, or call what changes it and forget it. */
static void fill(struct storm_thread *thread, int fd, const struct storm_range *range)
{
	const struct storm_page *page = &range->slot->pages[range->at];
	u64 start = (uintptr_t)storm_address(range), length = page_size();
	struct uffdio_copy copy = { .dst = start, .len = length };
	struct uffdio_zeropage zero = { .range = { start, length } };
	struct uffdio_continue minor = { .range = { start, length } };

	if (!page->mapped || page->index * page_size() >= storm_files[page->file].size)
		return;
	copy.src = (uintptr_t)storm_files[page->file].content + page->index * page_size();
	switch (storm_pick(thread, 3)) {
	case 0:
		if (!page->written)
			ioctl(fd, UFFDIO_COPY, &copy);
		break;
	case 1:
		if (!ioctl(fd, UFFDIO_ZEROPAGE, &zero))
			storm_clear(thread, range);
		break;
	default:
		ioctl(fd, UFFDIO_CONTINUE, &minor);
	}
}

void storm_uffd(struct storm_thread *thread)
{
	static const u64 modes[] = {
		UFFDIO_REGISTER_MODE_WP, UFFDIO_REGISTER_MODE_WP, UFFDIO_REGISTER_MODE_WP, UFFDIO_REGISTER_MODE_MISSING,
		MODE_MINOR, MODE_RWP, MODE_RWP | UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect protect = {};
	struct uffdio_register area = { .mode = modes[storm_pick(thread, ARRAY_SIZE(modes))] };
	struct storm_range range, first;
	u64 features = 0;
	int fd, result;

	if (!storm_mapped_range(thread, &range))
		return;
	fd = open_uffd(thread, &features);
	if (fd < 0)
		return;
	area.range.start = (uintptr_t)storm_address(&range);
	area.range.len = storm_length(&range);
	storm_note(thread, "userfaultfd", area.range.start, range.count, area.mode, features);
	result = storm_noted(thread, ioctl(fd, UFFDIO_REGISTER, &area));
	thread->tolerant = !result;
	for (int i = 0; !result && i < 5; i++) {
		protect.range = area.range;
		protect.mode = storm_pick(thread, 2) ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
		storm_note(thread, "protect", i, protect.mode, 0, 0);
		storm_noted(thread, ioctl(fd, storm_pick(thread, 4) ? UFFDIO_WRITEPROTECT : PROTECT_FURTHER, &protect));
		first = range;
		first.at += storm_pick(thread, range.count);
		first.count = 1;
		storm_note(thread, "fill", i, (uintptr_t)storm_address(&first), 0, 0);
		fill(thread, fd, &first);
		storm_noted(thread, 0);
		for (int tries = 0; tries < 8; tries++)
			storm_check(thread, range.slot, range.at + storm_pick(thread, range.count), false);
		storm_change(thread);
	}
	if (!result && storm_pick(thread, 2))
		ioctl(fd, UFFDIO_UNREGISTER, &area.range);
	close(fd);
	thread->tolerant = false;
}
