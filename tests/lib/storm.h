/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A storm of memory calls: threads map files of the image storm.daxfs, do anything to the mappings, and know what
 * each page must hold. The program is storm.c; its calls are in storm_change.c and storm_use.c.
 */
#ifndef STORM_H
#define STORM_H

#include <setjmp.h>

#include "uring.h"

#define STORM_PROCESSES 3
#define STORM_THREADS 2
#define STORM_SLOTS 3
/* Pages of a slot, and the bytes from one slot to the next. */
#define STORM_PAGES 1536
#define STORM_STRIDE (8UL << 20)
#define STORM_FILES 8
#define STORM_CALLS 24

struct storm_file {
	const char *name;
	size_t size;
	/* Content of its pages, before and after the end of the file. */
	char *content;
};

/* The files of the image, as mktree makes them. The last one is a program. */
extern struct storm_file storm_files[STORM_FILES];

/* Fill in the content of the files. */
void storm_load_files(void);

/* Expected content of a page of a slot. */
struct storm_page {
	u8 file, protection;
	bool mapped, private;
	/* Accesses get SIGSEGV; a child may lack the page; writes may be lost. */
	bool guarded, unforked, doubtful;
	u32 index;
	/* The word that was written to the private page, or 0. Where it is depends on the index. */
	u64 written;
};

struct storm_slot {
	char *address;
	struct storm_page pages[STORM_PAGES];
};

/* A call, for those who look for what went wrong. */
struct storm_call {
	const char *name;
	u64 number, arguments[4];
	s64 result;
};

/* In memory that the test and its processes share. */
struct storm_progress {
	u64 done;
	int task;
	struct storm_call calls[STORM_CALLS];
};

struct storm_shared {
	/* The memory may be gone or have failed; the processes are to end; something was wrong. */
	bool disturbed, stop, failed;
	struct storm_progress progress[STORM_PROCESSES][STORM_THREADS];
	u64 loads, signals, children;
};

extern struct storm_shared *storm;

struct storm_thread {
	int process, number;
	u64 random, done;
	/* Pages may have more ways to fail than the slots say; this is a child, which shares descriptors. */
	bool tolerant, child;
	struct storm_slot slots[STORM_SLOTS];
	struct ring ring;
	int files[STORM_FILES], pipe[2], other[2], memory, pagemap, scratch;
	char buffer[8192];
};

/* Return a number less than @limit, which depends on the thread's seed alone. */
u64 storm_pick(struct storm_thread *thread, u64 limit);

/* Note the call that comes next, and its result. storm_noted() passes on the result and keeps errno. */
void storm_note(struct storm_thread *thread, const char *name, u64 first, u64 second, u64 third, u64 fourth);
s64 storm_noted(struct storm_thread *thread, s64 result);

/* Report an error, once, and end the storm. */
__attribute__((format(printf, 2, 3))) void storm_wrong(struct storm_thread *thread, const char *format, ...);

/* Copy bytes from or to memory that may not be there. Return the signal of a failure, or 0. */
int storm_copy(void *to, const void *from, size_t length);
void storm_handle_signals(void);

/* Return true if @got is the expected content of the page from @offset on. */
bool storm_matches(const struct storm_page *page, const char *got, size_t offset, size_t length);

/* Return true if loads from the page must succeed, as long as its memory exists. */
bool storm_readable(const struct storm_thread *thread, const struct storm_page *page);

/* Return the place of the word in a page that can be written to. */
size_t storm_word(const struct storm_page *page);

/* Load from a page and compare. */
void storm_check(struct storm_thread *thread, const struct storm_slot *slot, size_t at, bool whole);

/* Check all pages, quickly. */
void storm_check_all(struct storm_thread *thread);

/* A range of a slot. */
struct storm_range {
	struct storm_slot *slot;
	size_t at, count;
};

struct storm_range storm_any_range(struct storm_thread *thread);

/* Pick a range that one call has mapped, as far as is known. Return false if the page there is not mapped. */
bool storm_mapped_range(struct storm_thread *thread, struct storm_range *range);

/* Return the address of a range, and its length. */
char *storm_address(const struct storm_range *range);
size_t storm_length(const struct storm_range *range);

/* Map nothing there. */
void storm_clear(struct storm_thread *thread, const struct storm_range *range);

/* Write a word to a page by one of many ways. */
void storm_write(struct storm_thread *thread);

/* Register pages with userfaultfd, for a moment. */
void storm_uffd(struct storm_thread *thread);

/* Do a call that changes mappings, or one that uses them. */
void storm_change(struct storm_thread *thread);
void storm_use(struct storm_thread *thread);

#endif
