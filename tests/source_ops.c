// SPDX-License-Identifier: GPL-2.0-only
/* Operations on the files of a mounted source. */
#include <linux/fs.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "breakpoint.h"
#include "source_ops.h"
#include "uring.h"

int open_file(u64 size, int flags)
{
	return open_size(mnt, size, flags);
}

static char *map_file(u64 size, size_t length, int protection, int flags)
{
	return map_length(mnt, size, length, protection, flags);
}

void reads(void)
{
	static const u64 sizes[] = { 0, 1, 4095, 4096, 4097, MIDDLE, HUGE_SIZE + 1 };
	char *buffer = malloc(LARGE + 1);

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		int fd = open_file(sizes[i], O_RDONLY);

		CHECK_EQ(read(fd, buffer, LARGE), sizes[i]);
		CHECK(pattern_matches(buffer, sizes[i], sizes[i], 0));
		CHECK_EQ(read(fd, buffer, 10), 0);
		close(fd);
	}
	CHECK_EQ(pread(open_file(LARGE, O_RDONLY), buffer, LARGE + 1, 4000), LARGE - 4000);
	CHECK(pattern_matches(buffer, LARGE - 4000, LARGE, 4000));
}

static void splices(void)
{
	static char buffer[65536];
	loff_t offset = 4090;
	ssize_t length;
	int ends[2];

	REQUIRE(!pipe(ends));
	length = splice(open_file(MIDDLE, O_RDONLY), &offset, ends[1], NULL, 20000, 0);
	REQUIRE(length > 0);
	CHECK_EQ(read(ends[0], buffer, sizeof(buffer)), length);
	CHECK(pattern_matches(buffer, length, MIDDLE, 4090));
}

static void uring_fixed_reads(void)
{
	char *buffer = aligned_alloc(4096, 1 << 20);
	struct ring ring = ring_open();
	struct io_uring_sqe read = ring_request(IORING_OP_READ_FIXED, open_file(LARGE, O_RDONLY), buffer,
					   1 << 19, HUGE_SIZE - 5000);

	REQUIRE(!ring_register(&ring, buffer, 1 << 20));
	CHECK_EQ(ring_do(&ring, &read), 1 << 19);
	CHECK(pattern_matches(buffer, 1 << 19, LARGE, HUGE_SIZE - 5000));
}

static void shared_mappings(void)
{
	char *address = map_file(LARGE, LARGE, PROT_READ, MAP_SHARED);

	CHECK(pattern_matches(address, LARGE, LARGE, 0));
	address = map_file(MIDDLE, MIDDLE, PROT_READ, MAP_SHARED);
	CHECK(pattern_matches(address, MIDDLE, MIDDLE, 0));
	CHECK(all_zero(address + MIDDLE, page_round(MIDDLE) - MIDDLE));
	CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, open_file(4096, O_RDONLY), 0) ==
		      MAP_FAILED &&
	      errno == EACCES);
	CHECK_FAILS(mprotect(address, 4096, PROT_READ | PROT_WRITE), EACCES);
}

/* Private mappings copy pages that are written to, also after fork(). */
static void private_mappings(void)
{
	char *shared = map_file(LARGE, LARGE, PROT_READ, MAP_SHARED);
	char *private = map_file(LARGE, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	u64 at = HUGE_SIZE + 5000;
	int status;
	pid_t pid;

	CHECK(pattern_matches(private, LARGE, LARGE, 0));
	private[at] ^= 1;
	private[at + 2 * HUGE_SIZE] ^= 1;
	CHECK_EQ(private[at] & 0xff, pattern_byte(LARGE, at) ^ 1);
	CHECK_EQ(shared[at] & 0xff, pattern_byte(LARGE, at));
	CHECK(pattern_in_pages(shared, LARGE, LARGE, 0));
	pid = fork();
	if (!pid) {
		bool good = (private[at] & 0xff) == (pattern_byte(LARGE, at) ^ 1);

		private[at] ^= 2;
		_exit(!good);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(private[at] & 0xff, pattern_byte(LARGE, at) ^ 1);
	private[at] ^= 1;
	private[at + 2 * HUGE_SIZE] ^= 1;
	CHECK(pattern_matches(private, LARGE, LARGE, 0));
	CHECK(holds(open_file(LARGE, O_RDONLY), LARGE, 0, LARGE));
}

/* Loads from after the last page get SIGBUS. */
static void beyond_end(void)
{
	char *address = map_file(MIDDLE, MIDDLE + 2 * page_size(), PROT_READ, MAP_SHARED);
	char *after = address + page_round(MIDDLE);

	CHECK(gets_sigbus(after));
	CHECK_FAILS(write(scratch_file(), after, 100), EFAULT);
}

static void huge_mappings(void)
{
	char *address = map_file(LARGE, LARGE, PROT_READ, MAP_SHARED);
	long long tables = number_in("/proc/self/status", "VmPTE:");
	long faults = touch_pages(address, LARGE, 4096);

	if (!source_maps_huge(source)) {
		/* A fault then maps some pages around the address. */
		CHECK(faults <= (long)(LARGE / page_size() / 8));
		return;
	}
	CHECK_EQ(faults, LARGE / HUGE_SIZE);
	/* In kB, less than a page table for each entry takes. */
	tables = number_in("/proc/self/status", "VmPTE:") - tables;
	CHECK(tables < (long)(LARGE / HUGE_SIZE * 4));
	CHECK(!madvise(address, LARGE, MADV_DONTNEED));
	CHECK_EQ(touch_pages(address, LARGE, 4096), LARGE / HUGE_SIZE);
	address = map_file(LARGE, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	CHECK_EQ(touch_pages(address, LARGE, 4096), LARGE / HUGE_SIZE);
}

/* Map @length bytes of the large file from @offset on, @after bytes after an address that is aligned to 2 MiB. */
static char *map_at(size_t after, size_t length, int protection, int flags, off_t offset)
{
	size_t room = length + 2 * HUGE_SIZE;
	char *place = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *address;

	REQUIRE(place != MAP_FAILED);
	address = place + (-(uintptr_t)place & (HUGE_SIZE - 1)) + after;
	address = mmap(address, length, protection, flags | MAP_FIXED, open_file(LARGE, O_RDONLY), offset);
	REQUIRE(address != MAP_FAILED);
	return address;
}

/*
 * Where huge pages do not fit, a fault maps 16 pages, as in the page cache. These ranges of 16 pages are counted from
 * the start of the mapping or of the page table.
 */
static void faults_around(void)
{
	const size_t page = page_size(), around = 16 * page;
	char *address = map_at(around, LARGE, PROT_READ, MAP_SHARED, 0), *other;

	CHECK_EQ(touch_pages(address, LARGE, page), LARGE / around);
	CHECK(pattern_matches(address, LARGE, LARGE, 0));
	CHECK(!madvise(address, LARGE, MADV_DONTNEED));
	CHECK_EQ(touch_pages(address + LARGE - page, page, page), 1);
	CHECK_EQ(touch_pages(address + LARGE - around, around, page), 0);
	CHECK_EQ(touch_pages(address + LARGE - 2 * around, around, page), 1);
	/* The borders of the mapping, and of the file. */
	address = map_at(around - 2 * page, 7 * page, PROT_READ, MAP_PRIVATE, page);
	CHECK_EQ(touch_pages(address + page, page, page), 1);
	CHECK_EQ(touch_pages(address, 7 * page, page), 0);
	CHECK(pattern_matches(address, 7 * page, LARGE, page));
	address = map_at(around - 2 * page, 2 * around + 7 * page, PROT_READ, MAP_SHARED, page);
	CHECK_EQ(touch_pages(address, around, page), 1);
	CHECK_EQ(touch_pages(address + 2 * around - page, page, page), 1);
	CHECK_EQ(touch_pages(address, 2 * around, page), 0);
	CHECK_EQ(touch_pages(address, 2 * around + 7 * page, page), 1);
	CHECK(pattern_matches(address, 2 * around + 7 * page, LARGE, page));
	/* The border of a page table. */
	address = map_at(HUGE_SIZE - 2 * page, 7 * page, PROT_READ, MAP_SHARED, page);
	CHECK_EQ(touch_pages(address, 2 * page, page), 1);
	CHECK_EQ(touch_pages(address, 7 * page, page), 1);
	CHECK(pattern_matches(address, 7 * page, LARGE, page));
	address = map_at(HUGE_SIZE - 2 * page, 2 * around, PROT_READ, MAP_SHARED, page);
	CHECK_EQ(touch_pages(address + 2 * page, around, page), 1);
	CHECK_EQ(touch_pages(address, 2 * around, page), 2);
	address = map_at(8 * page, 16 * page, PROT_READ, MAP_SHARED, LARGE - 4 * page);
	CHECK_EQ(touch_pages(address, 4 * page, page), 1);
	CHECK(gets_sigbus(address + 4 * page));
	/* A page that was copied on write stays, and the pages around it are mapped. */
	other = map_at(around, 2 * around, PROT_READ, MAP_SHARED, 0);
	address = map_at(around, 2 * around, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	address[5 * page] = (char)~other[5 * page];
	address[around + 11 * page] = (char)~other[around + 11 * page];
	CHECK_EQ(touch_pages(address, 2 * around, page), 2);
	CHECK_EQ(address[5 * page], (char)~other[5 * page]);
	CHECK_EQ(address[around + 11 * page], (char)~other[around + 11 * page]);
	address[5 * page] = other[5 * page];
	address[around + 11 * page] = other[around + 11 * page];
	CHECK(pattern_matches(address, 2 * around, LARGE, 0));
}

static void executes(void)
{
	char command[2 * PATH_MAX];

	snprintf(command, sizeof(command), "test \"$('%s/helper' print word)\" = '42 word'", mnt);
	CHECK_EQ(system(command), 0);
	snprintf(command, sizeof(command), "test \"$('%s/script' word)\" = 'script word'", mnt);
	CHECK_EQ(system(command), 0);
}

static void writes_from_mapping(void)
{
	char *address = map_file(MIDDLE, MIDDLE, PROT_READ, MAP_SHARED);
	int fd = scratch_file();

	CHECK_EQ(write(fd, address, MIDDLE), MIDDLE);
	CHECK(holds(fd, MIDDLE, 0, MIDDLE));
}

/*
 * Check the result of a system call that pins mapped pages: @want, or EFAULT on sources whose pages
 * cannot be pinned. Return true if the call worked.
 */
static bool pages_held(ssize_t result, ssize_t want)
{
	if (source->pages) {
		CHECK_EQ(result, want);
		return result == want;
	}
	CHECK(result == -1 && errno == EFAULT);
	return false;
}

static void direct_from_mapping(void)
{
	char *address = map_file(LARGE, LARGE, PROT_READ, MAP_SHARED);
	char *buffer = aligned_alloc(4096, 1 << 20);
	int device = loop_device(-1, 4 << 20, O_RDWR | O_DIRECT, NULL);

	if (device < 0)
		SKIP("needs loop devices");
	if (!pages_held(pwrite(device, address + HUGE_SIZE - 8192, 1 << 20, 4096), 1 << 20))
		return;
	CHECK_EQ(pread(device, buffer, 1 << 20, 4096), 1 << 20);
	CHECK(pattern_matches(buffer, 1 << 20, LARGE, HUGE_SIZE - 8192));
}

static void splices_from_mapping(void)
{
	static char buffer[32768];
	char *address = map_file(LARGE, LARGE, PROT_READ, MAP_SHARED);
	struct iovec vector = { address + HUGE_SIZE - 16384, sizeof(buffer) };
	int ends[2];

	REQUIRE(!pipe(ends));
	if (!pages_held(vmsplice(ends[1], &vector, 1, 0), sizeof(buffer)))
		return;
	CHECK(!munmap(address, LARGE));
	CHECK_EQ(read(ends[0], buffer, sizeof(buffer)), sizeof(buffer));
	CHECK(pattern_matches(buffer, sizeof(buffer), LARGE, HUGE_SIZE - 16384));
}

/*
 * Pages registered with io_uring are pinned as long as the ring lives; DAX does not allow that.
 * They must be writable, so only private mappings can be registered, on any filesystem.
 */
static void registered_mapping(void)
{
	char *address = map_file(LARGE, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE), buffer[8192];
	struct ring ring = ring_open();
	struct io_uring_sqe write;
	int result, ends[2];

	result = ring_register(&ring, address + 4096, HUGE_SIZE);
	if (result) {
		/* DAX pages cannot be pinned for long. */
		CHECK(errno == EOPNOTSUPP || (!source->pages && errno == EFAULT));
		return;
	}
	REQUIRE(!pipe(ends));
	write = ring_request(IORING_OP_WRITE_FIXED, ends[1], address + 8192, 8192, -1);
	CHECK_EQ(ring_do(&ring, &write), 8192);
	CHECK(read(ends[0], buffer, 8192) == 8192 && pattern_matches(buffer, 8192, LARGE, 8192));
	/* The pages stay the same after the mapping is gone. */
	CHECK(!munmap(address, LARGE));
}

static void remote_reads(void)
{
	char *address = map_file(LARGE, LARGE, PROT_READ, MAP_SHARED), *buffer = malloc(3 << 20);
	struct iovec local = { buffer, 3 << 20 }, remote = { address + HUGE_SIZE - 4000, 3 << 20 };
	pid_t pid = waiting_child();

	if (pages_held(process_vm_readv(pid, &local, 1, &remote, 1, 0), 3 << 20))
		CHECK(pattern_matches(buffer, 3 << 20, LARGE, HUGE_SIZE - 4000));
	end_child(pid);
}

static void debugger_reads(void)
{
	char *address = map_file(LARGE, LARGE, PROT_READ, MAP_SHARED);
	pid_t pid = waiting_child();
	long word;
	int status;

	REQUIRE(!ptrace(PTRACE_ATTACH, pid, NULL, NULL));
	REQUIRE(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	errno = 0;
	word = ptrace(PTRACE_PEEKDATA, pid, address + 3 * HUGE_SIZE - 4, NULL);
	if (source->pages)
		CHECK(!errno && pattern_matches(&word, sizeof(word), LARGE, 3 * HUGE_SIZE - 4));
	else
		CHECK(errno == EIO || errno == EFAULT);
	end_child(pid);
}

/* A breakpoint in a program that runs from the image: its text is copied. */
static void breakpoints(void)
{
	pid_t pid = traced_helper(mnt, "helper");

	if (!reach_breakpoint(pid)) {
		CHECK(!source->pages);
		end_child(pid);
		return;
	}
	traced_end(pid);
	executes();
}

const struct operation file_operations[] = {
	{ "read, pread", reads, false },
	{ "splice", splices, false },
	{ "io_uring reads into registered buffers", uring_fixed_reads, false },
	{ "shared mappings", shared_mappings, false },
	{ "private mappings, copy on write", private_mappings, false },
	{ "SIGBUS after the end of file", beyond_end, false },
	{ "2 MiB mappings", huge_mappings, false },
	{ "a fault maps the pages around it", faults_around, false },
	{ "programs and scripts run", executes, false },
	{ "write from a mapping", writes_from_mapping, false },
	{ "direct I/O from a mapping", direct_from_mapping, false },
	{ "vmsplice of a mapping", splices_from_mapping, false },
	{ "private mapping as io_uring's registered buffer", registered_mapping, false },
	{ "process_vm_readv of a mapping", remote_reads, false },
	{ "ptrace, reading a mapping", debugger_reads, false },
	{ "ptrace, breakpoint in a program", breakpoints, false },
};

const size_t file_operation_count = ARRAY_SIZE(file_operations);
