// SPDX-License-Identifier: GPL-2.0-only
/* The files of a storm, and what its pages must hold. */
#include "storm.h"

struct storm_shared *storm;

struct storm_file storm_files[STORM_FILES] = {
	{ .name = "large", .size = (5UL << 20) + 123 },
	{ .name = "twin", .size = (5UL << 20) + 123 },
	{ .name = "huge", .size = 2UL << 20 },
	{ .name = "middle", .size = 65537 },
	{ .name = "page", .size = 4096 },
	{ .name = "small", .size = 700 },
	{ .name = "smaller", .size = 2900 },
	{ .name = "helper" },
};

/* Return the seed of a file's content. "twin" has the content of "large". */
static u64 seed_of(size_t file)
{
	return file == 1 ? 0 : file;
}

void storm_load_files(void)
{
	char path[PATH_MAX];
	struct stat stat;
	int fd;

	snprintf(path, sizeof(path), "%s/helper", program_dir());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	REQUIRE(fd >= 0 && !fstat(fd, &stat));
	for (size_t i = 0; i < STORM_FILES; i++) {
		struct storm_file *file = &storm_files[i];

		if (i == STORM_FILES - 1)
			file->size = stat.st_size;
		file->content = calloc(1, page_round(file->size));
		if (i == STORM_FILES - 1)
			REQUIRE(read(fd, file->content, file->size) == (ssize_t)file->size);
		else
			pattern_fill(file->content, file->size, seed_of(i));
	}
	close(fd);
}

u64 storm_pick(struct storm_thread *thread, u64 limit)
{
	u64 mixed = thread->random += 0x9e3779b97f4a7c15;

	mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
	mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
	return (mixed ^ mixed >> 31) % limit;
}

static struct storm_progress *progress(const struct storm_thread *thread)
{
	return &storm->progress[thread->process][thread->number];
}

void storm_note(struct storm_thread *thread, const char *name, u64 first, u64 second, u64 third, u64 fourth)
{
	if (thread->child)
		return;
	progress(thread)->calls[thread->done++ % STORM_CALLS] = (struct storm_call){
		.name = name,
		.number = thread->done,
		.arguments = { first, second, third, fourth },
		.result = -1000,
	};
	__atomic_store_n(&progress(thread)->done, thread->done, __ATOMIC_RELEASE);
}

s64 storm_noted(struct storm_thread *thread, s64 result)
{
	if (thread->child)
		return result;
	progress(thread)->calls[(thread->done - 1) % STORM_CALLS].result = result == -1 ? -errno : result;
	return result;
}

void storm_wrong(struct storm_thread *thread, const char *format, ...)
{
	char line[300];
	va_list list;
	int length;

	if (__atomic_exchange_n(&storm->failed, true, __ATOMIC_SEQ_CST))
		return;
	va_start(list, format);
	length = snprintf(line, sizeof(line), "# process %d, thread %d: ", thread->process, thread->number);
	vsnprintf(line + length, sizeof(line) - length, format, list);
	va_end(list);
	/* Another thread may hold a lock of stdio in a child. */
	dprintf(STDOUT_FILENO, "%s\n", line);
	ktap_point->failed = true;
	storm->stop = true;
}

/* ---- accesses that may fail ---------------------------------------------------------------------- */

static __thread sigjmp_buf failed_access;
static __thread sig_atomic_t accessing;

static void on_signal(int signal, siginfo_t *info, void *context)
{
	/* A page has failed that this process maps. */
	if (signal == SIGBUS && info->si_code == BUS_MCEERR_AO)
		return;
	if (accessing)
		siglongjmp(failed_access, signal);
	/* The access is repeated, and ends the process. */
	sigaction(signal, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL);
}

void storm_handle_signals(void)
{
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER };

	REQUIRE(!sigaction(SIGBUS, &action, NULL) && !sigaction(SIGSEGV, &action, NULL));
}

__attribute__((noinline)) int storm_copy(void *to, const void *from, size_t length)
{
	int signal = sigsetjmp(failed_access, 0);

	if (!signal) {
		__atomic_store_n(&accessing, true, __ATOMIC_SEQ_CST);
		memcpy(to, from, length);
	}
	__atomic_store_n(&accessing, false, __ATOMIC_SEQ_CST);
	return signal;
}

/* ---- what pages hold ------------------------------------------------------------------------------ */

static bool behind_end(const struct storm_page *page)
{
	return page->index * page_size() >= storm_files[page->file].size;
}

size_t storm_word(const struct storm_page *page)
{
	return page->index * 264 % page_size();
}

bool storm_readable(const struct storm_thread *thread, const struct storm_page *page)
{
	return page->mapped && !page->guarded && page->protection & PROT_READ && !thread->tolerant &&
	       !storm->disturbed && !behind_end(page);
}

bool storm_matches(const struct storm_page *page, const char *got, size_t offset, size_t length)
{
	const char *wanted = storm_files[page->file].content + page->index * page_size() + offset;
	size_t word = storm_word(page), from, to;

	if (behind_end(page))
		return false;
	if (!page->written)
		return !memcmp(got, wanted, length);
	/* The bytes of the word that are in this part of the page. */
	from = word < offset ? 0 : word - offset;
	to = word + 8 < offset ? 0 : word + 8 - offset;
	from = from < length ? from : length;
	to = to < length ? to : length;
	if (memcmp(got, wanted, from) || memcmp(got + to, wanted + to, length - to))
		return false;
	if (!memcmp(got + from, (const char *)&page->written + (offset + from - word), to - from))
		return true;
	return page->doubtful && !memcmp(got + from, wanted + from, to - from);
}

void storm_check(struct storm_thread *thread, const struct storm_slot *slot, size_t at, bool whole)
{
	const struct storm_page *page = &slot->pages[at];
	size_t length = whole ? page_size() : 64;
	/* The part with the word, or any. */
	size_t offset = whole ? 0 : storm_pick(thread, 2) ? storm_word(page) & ~63UL : storm_pick(thread, 64) * 64;
	char got[4096];
	int signal;

	if (!page->mapped || behind_end(page))
		return;
	signal = storm_copy(got, slot->address + at * page_size() + offset, length);
	__atomic_fetch_add(signal ? &storm->signals : &storm->loads, 1, __ATOMIC_RELAXED);
	if (!signal && !storm_matches(page, got, offset, length))
		storm_wrong(thread, "wrong bytes at %p+%#zx: page %u of %s%s%s, word %#llx at %zu: %02x %02x ... %016llx",
			    slot->address + at * page_size(), offset, page->index, storm_files[page->file].name,
			    page->private ? ", private" : "", page->doubtful ? ", doubtful" : "", page->written,
			    storm_word(page), (u8)got[0], (u8)got[1], *(u64 *)(got + storm_word(page) % length));
	if (!signal && page->guarded && !thread->tolerant)
		storm_wrong(thread, "no signal from the guard page at %p", slot->address + at * page_size());
	/* Private copies stay when the memory is gone. */
	if (signal && (storm_readable(thread, page) ||
		       (page->written && !page->doubtful && !page->guarded && page->protection & PROT_READ && !thread->tolerant)))
		storm_wrong(thread, "signal %d at %p: page %u of %s, word %#llx, protection %d", signal,
			    slot->address + at * page_size(), page->index, storm_files[page->file].name,
			    page->written, page->protection);
}

void storm_check_all(struct storm_thread *thread)
{
	for (int i = 0; i < STORM_SLOTS; i++)
		for (size_t at = 0; at < STORM_PAGES && !storm->stop; at++)
			storm_check(thread, &thread->slots[i], at, !storm_pick(thread, 64));
}

/* ---- ranges ----------------------------------------------------------------------------------------- */

struct storm_range storm_any_range(struct storm_thread *thread)
{
	struct storm_range range = { .slot = &thread->slots[storm_pick(thread, STORM_SLOTS)] };
	size_t most;

	range.at = storm_pick(thread, STORM_PAGES);
	switch (storm_pick(thread, 5)) {
	case 0:
		range.count = 1;
		break;
	case 1:
		/* Whole units of 2 MiB. */
		range.at &= ~511UL;
		range.count = 512 * (1 + storm_pick(thread, 3));
		break;
	case 2:
		range.at = 0;
		range.count = STORM_PAGES;
		break;
	default:
		range.count = 1 + storm_pick(thread, storm_pick(thread, 2) ? 16 : 700);
	}
	most = STORM_PAGES - range.at;
	range.count = range.count < most ? range.count : most;
	return range;
}

bool storm_mapped_range(struct storm_thread *thread, struct storm_range *range)
{
	const struct storm_page *first, *page;
	size_t count = 1;

	*range = storm_any_range(thread);
	/* Most of a slot may be empty. */
	for (int tries = 0; tries < 20 && !range->slot->pages[range->at].mapped; tries++)
		*range = storm_any_range(thread);
	page = &range->slot->pages[range->at];
	first = page;
	if (!page->mapped)
		return false;
	while (count < range->count && page[count].mapped && page[count].file == first->file &&
	       page[count].index == first->index + count && page[count].private == first->private &&
	       page[count].protection == first->protection)
		count++;
	range->count = count;
	return true;
}

char *storm_address(const struct storm_range *range)
{
	return range->slot->address + range->at * page_size();
}

size_t storm_length(const struct storm_range *range)
{
	return range->count * page_size();
}

void storm_clear(struct storm_thread *thread, const struct storm_range *range)
{
	char *address;

	memset(&range->slot->pages[range->at], 0, range->count * sizeof(struct storm_page));
	storm_note(thread, "clear", (uintptr_t)storm_address(range), range->count, 0, 0);
	/* Nothing else is mapped there, even if the kernel looks for room. */
	address = mmap(storm_address(range), storm_length(range), PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	if (storm_noted(thread, address == MAP_FAILED ? -1 : 0))
		storm_wrong(thread, "cannot map nothing: %s", strerror(errno));
}
