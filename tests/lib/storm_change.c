// SPDX-License-Identifier: GPL-2.0-only
/* The calls of a storm that change mappings. */
#include <sys/uio.h>

#include "storm.h"

/* ---- mmap, munmap, mprotect ------------------------------------------------------------------------ */

static void map(struct storm_thread *thread)
{
	static const int protections[] = {
		PROT_READ, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE,
		PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC, PROT_EXEC, PROT_WRITE, PROT_NONE,
	};
	static const int extras[] = {
		0, 0, 0, MAP_POPULATE, MAP_POPULATE, MAP_LOCKED, MAP_POPULATE | MAP_NONBLOCK, MAP_NORESERVE,
	};
	struct storm_range range = storm_any_range(thread);
	size_t file = storm_pick(thread, 2) ? storm_pick(thread, 2) : storm_pick(thread, STORM_FILES);
	size_t pages = (storm_files[file].size + page_size() - 1) / page_size(), index;
	int protection = protections[storm_pick(thread, ARRAY_SIZE(protections))];
	int flags = extras[storm_pick(thread, ARRAY_SIZE(extras))] | MAP_FIXED;
	bool private = protection & PROT_WRITE || storm_pick(thread, 3);
	char *address;

	/* Half of the large files are mapped so that 2 MiB entries are possible. */
	index = storm_pick(thread, 2) ? range.at % 512 : storm_pick(thread, pages);
	index = index < pages ? index : 0;
	/* A page after the end of the file will do. */
	if (range.count > pages - index + 1)
		range.count = pages - index + 1;
	flags |= private ? MAP_PRIVATE : storm_pick(thread, 4) ? MAP_SHARED : MAP_SHARED_VALIDATE;
	storm_note(thread, "mmap", (uintptr_t)storm_address(&range), range.count, protection << 24 | flags, file << 32 | index);
	address = mmap(storm_address(&range), storm_length(&range), protection, flags, thread->files[file], index * page_size());
	if (storm_noted(thread, address == MAP_FAILED ? -1 : 0)) {
		if (!storm->disturbed)
			storm_wrong(thread, "mmap: %s", strerror(errno));
		storm_clear(thread, &range);
		return;
	}
	for (size_t i = 0; i < range.count; i++)
		range.slot->pages[range.at + i] = (struct storm_page){
			.mapped = true,
			.file = file,
			.index = index + i,
			.private = private,
			.protection = protection,
		};
}

static void unmap(struct storm_thread *thread)
{
	struct storm_range range = storm_any_range(thread);

	if (!storm_pick(thread, 3))
		storm_clear(thread, &range);
}

static void protect(struct storm_thread *thread)
{
	static const int protections[] = {
		PROT_READ, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC, PROT_NONE,
	};
	int protection = protections[storm_pick(thread, ARRAY_SIZE(protections))], result;
	struct storm_range range;
	struct storm_page *page;

	if (!storm_mapped_range(thread, &range))
		return;
	page = &range.slot->pages[range.at];
	storm_note(thread, "mprotect", (uintptr_t)storm_address(&range), range.count, protection, 0);
	result = storm_noted(thread, mprotect(storm_address(&range), storm_length(&range), protection));
	if (!page->private && protection & PROT_WRITE) {
		if (!result || errno != EACCES)
			storm_wrong(thread, "a shared mapping can be made writable");
	} else if (result) {
		/* The memory is never written back, so no other error is possible. */
		storm_wrong(thread, "mprotect: %s", strerror(errno));
	} else {
		for (size_t i = 0; i < range.count; i++)
			page[i].protection = protection;
	}
}

/* ---- mremap ------------------------------------------------------------------------------------------ */

static bool overlap(const struct storm_range *one, const struct storm_range *two)
{
	return one->slot == two->slot && one->at < two->at + two->count && two->at < one->at + one->count;
}

/* Note that the page at @to has no private copy; it was mapped like @like, @by pages before it. */
static void fresh(struct storm_page *to, const struct storm_page *like, size_t by)
{
	*to = *like;
	to->index += by;
	to->written = 0;
	to->guarded = false;
	to->doubtful = false;
}

/* Note that @from is now at @to; the last pages may be new. Set what @from has now. */
static void moved(struct storm_thread *thread, struct storm_range *from, const struct storm_range *to, int flags)
{
	struct storm_page *source = &from->slot->pages[from->at], *target = &to->slot->pages[to->at];
	bool duplicated = !(flags & MREMAP_MAYMOVE);

	for (size_t i = 0; i < to->count; i++) {
		if (i < from->count && !duplicated)
			target[i] = source[i];
		else
			fresh(&target[i], source, i);
	}
	if (duplicated)
		return;
	if (!(flags & MREMAP_DONTUNMAP)) {
		storm_clear(thread, from);
		return;
	}
	for (size_t i = 0; i < from->count; i++)
		fresh(&source[i], &source[i], 0);
}

static void remap(struct storm_thread *thread)
{
	struct storm_range from, to = storm_any_range(thread);
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	bool duplicate = !storm_pick(thread, 5);
	size_t old_size;
	char *address;

	if (!storm_mapped_range(thread, &from))
		return;
	to.count = storm_pick(thread, 3) ? from.count : 1 + storm_pick(thread, 2 * from.count);
	if (!storm_pick(thread, 3)) {
		flags |= MREMAP_DONTUNMAP;
		to.count = from.count;
	}
	to.count = to.count < STORM_PAGES ? to.count : STORM_PAGES;
	if (to.at + to.count > STORM_PAGES)
		to.at = STORM_PAGES - to.count;
	if (duplicate)
		flags &= ~MREMAP_DONTUNMAP;
	if (flags & MREMAP_DONTUNMAP)
		from.count = to.count;
	if (overlap(&from, &to))
		return;
	old_size = duplicate ? 0 : storm_length(&from);
	storm_note(thread, "mremap", (uintptr_t)storm_address(&from), old_size / page_size(),
		   (u64)flags << 32 | to.count, (uintptr_t)storm_address(&to));
	address = mremap(storm_address(&from), old_size, storm_length(&to), flags, storm_address(&to));
	if (storm_noted(thread, address == MAP_FAILED ? -1 : 0)) {
		/* Part of it may have been done. */
		storm_clear(thread, &from);
		storm_clear(thread, &to);
		return;
	}
	moved(thread, &from, &to, duplicate ? 0 : flags);
}

/* Let a mapping grow or shrink where it is. */
static void resize(struct storm_thread *thread)
{
	struct storm_range range, tail;
	size_t count;
	char *address;

	if (!storm_mapped_range(thread, &range))
		return;
	count = 1 + storm_pick(thread, range.count + 16);
	count = range.at + count > STORM_PAGES ? STORM_PAGES - range.at : count;
	if (count > range.count) {
		tail = (struct storm_range){ range.slot, range.at + range.count, count - range.count };
		memset(&tail.slot->pages[tail.at], 0, tail.count * sizeof(struct storm_page));
		munmap(storm_address(&tail), storm_length(&tail));
	} else {
		tail = (struct storm_range){ range.slot, range.at + count, range.count - count };
	}
	storm_note(thread, "mremap", (uintptr_t)storm_address(&range), range.count, count, 0);
	address = mremap(storm_address(&range), storm_length(&range), count * page_size(), 0);
	storm_noted(thread, address == MAP_FAILED ? -1 : 0);
	if (address == MAP_FAILED && count < range.count)
		storm_clear(thread, &range);
	else if (address != MAP_FAILED)
		for (size_t i = range.count; i < count; i++)
			fresh(&range.slot->pages[range.at + i], &range.slot->pages[range.at], i);
	if (tail.count && (count < range.count || address == MAP_FAILED))
		storm_clear(thread, &tail);
}

/* ---- madvise ------------------------------------------------------------------------------------------- */

/* Note what @advice did to the pages. */
static void advised(struct storm_thread *thread, const struct storm_range *range, int advice, int result)
{
	struct storm_page *pages = &range->slot->pages[range->at];

	if (result && (advice == MADV_GUARD_INSTALL || advice == MADV_GUARD_REMOVE)) {
		storm_clear(thread, range);
		return;
	}
	for (size_t i = 0; i < range->count; i++) {
		switch (advice) {
		case MADV_DONTNEED:
		case MADV_DONTNEED_LOCKED:
			/* A part may have been done when a call fails. */
			if (result)
				pages[i].doubtful = true;
			else
				pages[i].written = 0;
			break;
		case MADV_GUARD_INSTALL:
			pages[i].guarded = true;
			pages[i].written = 0;
			break;
		case MADV_GUARD_REMOVE:
			pages[i].guarded = false;
			break;
		case MADV_DONTFORK:
			pages[i].unforked = true;
			break;
		case MADV_DOFORK:
			if (!result)
				pages[i].unforked = false;
		}
	}
}

static void advise(struct storm_thread *thread)
{
	static const int advices[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED, MADV_DONTNEED, MADV_FREE,
		MADV_REMOVE, MADV_DONTFORK, MADV_DOFORK, MADV_MERGEABLE, MADV_UNMERGEABLE, MADV_HUGEPAGE,
		MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_DODUMP, MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_COLD,
		MADV_PAGEOUT, MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_READ, MADV_POPULATE_WRITE,
		MADV_DONTNEED_LOCKED, MADV_COLLAPSE, MADV_HWPOISON, MADV_SOFT_OFFLINE, MADV_GUARD_INSTALL,
		MADV_GUARD_REMOVE, MADV_GUARD_REMOVE,
	};
	int advice = advices[storm_pick(thread, ARRAY_SIZE(advices))], result;
	struct storm_range range;

	/*
	 * With any filesystem, the kernel repeats this until a signal comes where userfaultfd has
	 * protected pages of a file from being written.
	 */
	if (advice == MADV_GUARD_INSTALL && thread->tolerant)
		return;
	if (!storm_mapped_range(thread, &range))
		return;
	if (!storm_pick(thread, 4))
		range = storm_any_range(thread);
	storm_note(thread, "madvise", (uintptr_t)storm_address(&range), range.count, advice, 0);
	result = storm_noted(thread, madvise(storm_address(&range), storm_length(&range), advice));
	advised(thread, &range, advice, result);
}

/* ---- mlock ------------------------------------------------------------------------------------------------ */

static void lock(struct storm_thread *thread)
{
	struct storm_range range = storm_any_range(thread);
	u64 kind = storm_pick(thread, 12);
	int result;

	/* These take long. */
	if ((kind == 5 || kind == 6) && storm_pick(thread, 8))
		kind = 7;
	storm_note(thread, "mlock", (uintptr_t)storm_address(&range), range.count, kind, 0);
	if (kind < 3)
		result = mlock(storm_address(&range), storm_length(&range));
	else if (kind < 5)
		result = syscall(SYS_mlock2, storm_address(&range), storm_length(&range), MLOCK_ONFAULT);
	else if (kind == 5)
		result = mlockall(MCL_CURRENT);
	else if (kind == 6)
		result = mlockall(MCL_CURRENT | MCL_FUTURE | (storm_pick(thread, 2) ? MCL_ONFAULT : 0));
	else if (kind == 7)
		result = munlockall();
	else
		result = munlock(storm_address(&range), storm_length(&range));
	storm_noted(thread, result);
}

/* ---- writes ------------------------------------------------------------------------------------------------- */

enum way { STORE, READ, VM_WRITEV, MEM_FILE, RING, WAYS };

static int write_word(struct storm_thread *thread, char *address, const u64 *word, enum way way)
{
	struct iovec from = { (void *)word, 8 }, to = { address, 8 };
	struct io_uring_sqe request;

	switch (way) {
	case READ:
		return pwrite(thread->scratch, word, 8, 0) == 8 && pread(thread->scratch, address, 8, 0) == 8 ? 0 : -1;
	case VM_WRITEV:
		return process_vm_writev(getpid(), &from, 1, &to, 1, 0) == 8 ? 0 : -1;
	case MEM_FILE:
		return pwrite(thread->memory, word, 8, (uintptr_t)address) == 8 ? 0 : -1;
	case RING:
		if (pwrite(thread->scratch, word, 8, 0) != 8)
			return -1;
		request = ring_request(IORING_OP_READ, thread->scratch, address, 8, 0);
		return ring_do(&thread->ring, &request) == 8 ? 0 : -1;
	default:
		return storm_copy(address, word, 8) ? -1 : 0;
	}
}

void storm_write(struct storm_thread *thread)
{
	struct storm_range range;
	struct storm_page *page;
	enum way way = thread->child || storm_pick(thread, 3) ? STORE : storm_pick(thread, WAYS);
	u64 word = storm_pick(thread, ~0ULL) | 1;
	int result;

	if (!storm_mapped_range(thread, &range))
		return;
	storm_note(thread, "write", (uintptr_t)storm_address(&range), range.count, way, word);
	for (size_t i = 0; i < range.count && i < 20; i++, word += 2) {
		page = &range.slot->pages[range.at + i];
		result = write_word(thread, storm_address(&range) + i * page_size() + storm_word(page), &word, way);
		storm_noted(thread, result);
		if (!result) {
			if (!page->private)
				storm_wrong(thread, "a shared mapping was written to");
			page->written = word;
			page->doubtful = false;
		} else if (way == STORE && page->private && page->protection & PROT_WRITE && storm_readable(thread, page)) {
			storm_wrong(thread, "page %u of %s cannot be written to", page->index, storm_files[page->file].name);
		}
		storm_check(thread, range.slot, range.at + i, false);
	}
}

void storm_change(struct storm_thread *thread)
{
	static void (*const calls[])(struct storm_thread *thread) = {
		map, map, map, unmap, protect, remap, resize, advise, advise, advise, lock, storm_write, storm_write,
	};

	calls[storm_pick(thread, ARRAY_SIZE(calls))](thread);
}
