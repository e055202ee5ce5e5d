// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mappings show the file and nothing else, and cannot change it.
 *
 * Group: files
 */
#include <setjmp.h>

#include "util.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

static const char *mnt;

#define SIZE 12345UL
#define ROUNDED page_round(SIZE)

static sigjmp_buf faulted;
static int fault_signal;

static void on_fault(int signal)
{
	fault_signal = signal;
	siglongjmp(faulted, 1);
}

/* Return the signal that loading the byte at @address raises, 0 for none. */
static int touch(const char *address)
{
	struct sigaction action = { .sa_handler = on_fault }, bus, segv;

	fault_signal = 0;
	sigaction(SIGBUS, &action, &bus);
	sigaction(SIGSEGV, &action, &segv);
	if (!sigsetjmp(faulted, 1))
		asm volatile("" : : "r"(*address) : "memory");
	sigaction(SIGBUS, &bus, NULL);
	sigaction(SIGSEGV, &segv, NULL);
	return fault_signal;
}

static const u64 sizes[] = {
	1,
	63,
	4095,
	4096,
	4097,
	8192,
	SIZE,
	65535,
	65537,
	1000000,
	HUGE_SIZE - 4096,
	HUGE_SIZE - 1,
	HUGE_SIZE,
	HUGE_SIZE + 1,
	2 * HUGE_SIZE - 1,
	2 * HUGE_SIZE + 4096,
};

static void equals_file(int flags)
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		char *address = map_length(mnt, sizes[i], sizes[i], PROT_READ, flags);

		CHECK(pattern_matches(address, sizes[i], sizes[i], 0));
		CHECK(!munmap(address, sizes[i]));
	}
}

POINT(shared_equals_file, "shared mappings equal the file")
{
	equals_file(MAP_SHARED);
}

POINT(private_equals_file, "private mappings equal the file")
{
	equals_file(MAP_PRIVATE);
}

/* After the end of the file, the page has zeros; after the page, loads get SIGBUS. */
static void behind_the_end(int flags)
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t end = page_round(sizes[i]);
		char *address = map_length(mnt, sizes[i], end + 3 * HUGE_SIZE, PROT_READ, flags);

		CHECK(all_zero(address + sizes[i], end - sizes[i]));
		CHECK_EQ(touch(address + end), SIGBUS);
		CHECK_EQ(touch(address + end + page_size()), SIGBUS);
		CHECK_EQ(touch(address + end + HUGE_SIZE), SIGBUS);
		CHECK_EQ(touch(address + end + 3 * HUGE_SIZE - 1), SIGBUS);
		/* The fault after the end mapped nothing. */
		CHECK_EQ(touch(address + end - 1), 0);
		CHECK(!munmap(address, end + 3 * HUGE_SIZE));
	}
}

POINT(shared_behind_the_end, "shared: zeros after the end of file, then SIGBUS")
{
	behind_the_end(MAP_SHARED);
}

POINT(private_behind_the_end, "private: zeros after the end of file, then SIGBUS")
{
	behind_the_end(MAP_PRIVATE);
}

POINT(empty_file, "an empty file has no page")
{
	CHECK_EQ(touch(map_length(mnt, 0, 4096, PROT_READ, MAP_SHARED)), SIGBUS);
	CHECK_EQ(touch(map_length(mnt, 0, 4096, PROT_READ, MAP_PRIVATE)), SIGBUS);
}

POINT(private_write_past_end, "writing after the end of file")
{
	char *address = map_length(mnt, SIZE, ROUNDED + page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE);

	address[ROUNDED - 1] = 1; /* in the last page: the program's own copy */
	CHECK_EQ(address[ROUNDED - 1], 1);
	CHECK_EQ(map_length(mnt, SIZE, ROUNDED, PROT_READ, MAP_SHARED)[ROUNDED - 1], 0);
	CHECK_EQ(touch(address + ROUNDED), SIGBUS);
}

POINT(at_offsets, "offsets")
{
	const u64 size = 2 * HUGE_SIZE + 4096, page = page_size();
	const u64 offsets[] = {
		page, 2 * page, HUGE_SIZE - page, HUGE_SIZE, HUGE_SIZE + page, 2 * HUGE_SIZE
	};
	int fd = open_size(mnt, size, O_RDONLY);

	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		char *address =
			mmap(NULL, size - offsets[i], PROT_READ, MAP_SHARED, fd, offsets[i]);

		REQUIRE(address != MAP_FAILED);
		CHECK(pattern_matches(address, size - offsets[i], size, offsets[i]));
		munmap(address, size - offsets[i]);
	}
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 1) == MAP_FAILED);
	CHECK_EQ(touch(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 1L << 40)), SIGBUS);
}

POINT(cannot_be_written, "shared mappings cannot be made writable")
{
	int fd = open_size(mnt, SIZE, O_RDONLY);
	char *address = map_length(mnt, SIZE, SIZE, PROT_READ, MAP_SHARED);

	errno = 0;
	CHECK(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
	CHECK_EQ(errno, EACCES);
	CHECK_FAILS(mprotect(address, SIZE, PROT_READ | PROT_WRITE), EACCES);
	CHECK_FAILS(madvise(address, ROUNDED, MADV_POPULATE_WRITE), EINVAL);
	CHECK(madvise(address, ROUNDED, MADV_REMOVE) == -1);
}

POINT(private_writes_stay_private, "private writes stay private")
{
	char *mine = map_length(mnt, SIZE, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	char *theirs = map_length(mnt, SIZE, SIZE, PROT_READ, MAP_SHARED);
	char buffer[SIZE];

	memset(mine + 4000, 0x55, 200);
	CHECK(pattern_matches(mine, 4000, SIZE, 0));
	CHECK(mine[4000] == 0x55 && mine[4199] == 0x55);
	CHECK(pattern_matches(mine + 4200, SIZE - 4200, SIZE, 4200));
	CHECK(pattern_matches(theirs, SIZE, SIZE, 0));
	CHECK_EQ(pread(open_size(mnt, SIZE, O_RDONLY), buffer, SIZE, 0), SIZE);
	CHECK(pattern_matches(buffer, SIZE, SIZE, 0));
	/* After MADV_DONTNEED the mapping shows the file's pages again. */
	CHECK(!madvise(mine, ROUNDED, MADV_DONTNEED));
	CHECK(pattern_matches(mine, SIZE, SIZE, 0));
}

POINT(write_first, "a write as the first access")
{
	char *mine = map_length(mnt, HUGE_SIZE, HUGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE);

	/* The page is copied even if the write is the first access. */
	mine[HUGE_SIZE / 2 + 5] ^= 0xff;
	CHECK_EQ((u8)mine[HUGE_SIZE / 2 + 5], pattern_byte(HUGE_SIZE, HUGE_SIZE / 2 + 5) ^ 0xff);
	mine[HUGE_SIZE / 2 + 5] ^= 0xff;
	CHECK(pattern_matches(mine, HUGE_SIZE, HUGE_SIZE, 0));
}

POINT(protections, "mprotect")
{
	const u64 size = 1000000, page = page_size();
	char *shared = map_length(mnt, size, size, PROT_NONE, MAP_SHARED);
	char *private = map_length(mnt, SIZE, SIZE, PROT_READ, MAP_PRIVATE);

	CHECK_EQ(touch(shared), SIGSEGV);
	CHECK(!mprotect(shared, size, PROT_READ));
	CHECK(pattern_matches(shared, size, size, 0));
	CHECK(!mprotect(shared, page, PROT_NONE));
	CHECK_EQ(touch(shared), SIGSEGV);
	CHECK_EQ(touch(shared + page), 0);
	CHECK(!mprotect(shared, size, PROT_READ | PROT_EXEC));
	CHECK(!mprotect(private, SIZE, PROT_READ | PROT_WRITE));
	private[1] = 1;
	CHECK(!mprotect(private, SIZE, PROT_READ));
	CHECK_EQ(private[1], 1);
}

POINT(remapping, "mremap and munmap in part")
{
	const u64 size = 1000000, page = page_size();
	char *address = map_length(mnt, size, page, PROT_READ, MAP_SHARED);
	char *place = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	address = mremap(address, page, size, MREMAP_MAYMOVE);
	REQUIRE(address != MAP_FAILED);
	CHECK(pattern_matches(address, size, size, 0));
	address = mremap(address, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, place);
	CHECK(address == place);
	CHECK(pattern_matches(address, size, size, 0));
	CHECK(!munmap(address + 2 * page, page));
	CHECK_EQ(touch(address + 2 * page), SIGSEGV);
	CHECK(pattern_matches(address + 3 * page, size - 3 * page, size, 3 * page));
	CHECK(mremap(address, 2 * page, page, 0) == address);
	CHECK_EQ(touch(address + page), SIGSEGV);
}

POINT(advising, "madvise")
{
	static const int harmless[] = {
		MADV_NORMAL,   MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED,
		MADV_DONTFORK, MADV_DOFORK, MADV_DONTDUMP,   MADV_DODUMP,   MADV_POPULATE_READ,
	};
	u64 size = 2 * HUGE_SIZE + 4096;
	char *address = map_length(mnt, size, size, PROT_READ, MAP_SHARED);

	for (size_t i = 0; i < ARRAY_SIZE(harmless); i++)
		if (!CHECK(!madvise(address, size, harmless[i])))
			printf("# advice %d\n", harmless[i]);
	/* These may be refused but must do no harm. */
	madvise(address, size, MADV_COLD);
	madvise(address, size, MADV_PAGEOUT);
	madvise(address, size, MADV_HUGEPAGE);
	madvise(address, size, MADV_COLLAPSE);
	madvise(address, size, MADV_FREE);
	madvise(address, size, MADV_MERGEABLE);
	CHECK(pattern_matches(address, size, size, 0));
}

POINT(populating, "MAP_POPULATE and MADV_POPULATE")
{
	u64 size = 2 * HUGE_SIZE + 4096;
	char *private = map_length(mnt, size, size, PROT_READ | PROT_WRITE, MAP_PRIVATE);

	CHECK(pattern_matches(map_length(mnt, size, size, PROT_READ, MAP_SHARED | MAP_POPULATE), size, size,
			      0));
	CHECK(!madvise(private + 2 * page_size(), 2 * page_size(), MADV_POPULATE_WRITE));
	CHECK(pattern_matches(private, size, size, 0));
	/* Up to the end of the file. */
	CHECK_FAILS(madvise(map_length(mnt, SIZE, ROUNDED + page_size(), PROT_READ, MAP_SHARED), ROUNDED + page_size(),
			    MADV_POPULATE_READ),
		    EFAULT);
}

POINT(locking, "mlock and msync")
{
	u64 size = 2 * HUGE_SIZE + 4096;
	char *address = map_length(mnt, size, size, PROT_READ, MAP_SHARED);
	char *private = map_length(mnt, SIZE, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE);

	CHECK(!mlock(address, size));
	CHECK(!munlock(address, HUGE_SIZE));
	CHECK(!mlock(private, SIZE));
	CHECK(!mlockall(MCL_CURRENT));
	CHECK(!munlockall());
	CHECK(!msync(address, size, MS_SYNC));
	CHECK(pattern_matches(address, size, size, 0));
}

POINT(residency, "mincore")
{
	unsigned char pages[4] = {};
	char *address = map_length(mnt, SIZE, SIZE, PROT_READ, MAP_SHARED);

	CHECK(pattern_matches(address, SIZE, SIZE, 0));
	CHECK(!mincore(address, SIZE, pages));
	for (size_t i = 0; i < ROUNDED / page_size(); i++)
		CHECK(pages[i] & 1);
}

/*
 * MAP_SYNC concerns writes, which daxfs does not have. It works or is refused as the manual says.
 */
POINT(synchronous, "MAP_SHARED_VALIDATE and MAP_SYNC")
{
	int fd = open_size(mnt, SIZE, O_RDONLY);
	char *address = mmap(NULL, SIZE, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);

	if (address == MAP_FAILED)
		CHECK_EQ(errno, EOPNOTSUPP);
	else
		CHECK(pattern_matches(address, SIZE, SIZE, 0));
	address = mmap(NULL, SIZE, PROT_READ, MAP_SHARED_VALIDATE, fd, 0);
	REQUIRE(address != MAP_FAILED);
	CHECK(pattern_matches(address, SIZE, SIZE, 0));
}

int main(void)
{
	mnt = fixture_mount("tree");
	return ktap_run();
}
