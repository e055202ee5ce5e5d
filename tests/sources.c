// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every memory source of this machine, with all operations on its files, and mounted again and again.
 *
 * Group: sources
 * Order: 1
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,reserve=sources.daxfs drm share
 */
#include <linux/capability.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "breakpoint.h"
#include "device.h"
#include "mapped.h"
#include "uring.h"

static struct image image;
static const struct source *source;
static const char *mnt;
/* The tree that the image is made from. */
static char tree[PATH_MAX];
static struct counters before;

/* On a slow kernel, files are used on one source for each way to map. */
static bool is_used(void)
{
	return !getenv("DAXFS_SLOW") || source_stands_for_way(source);
}

POINT(mounts, "mounts")
{
	REQUIRE(source_mount(source, &image, mnt));
}

static int open_file(u64 size, int flags)
{
	return open_size(mnt, size, flags);
}

static char *map_file(u64 size, size_t length, int protection, int flags)
{
	return map_length(mnt, size, length, protection, flags);
}

static void reads(void)
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

POINT_IF(all_reads, "read, pread", is_used)
{
	reads();
}

POINT_IF(splices, "splice", is_used)
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

POINT_IF(uring_fixed_reads, "io_uring reads into registered buffers", is_used)
{
	char *buffer = aligned_alloc(4096, 1 << 20);
	struct ring ring = ring_open();
	struct io_uring_sqe read = ring_request(IORING_OP_READ_FIXED, open_file(LARGE, O_RDONLY), buffer,
					   1 << 19, HUGE_SIZE - 5000);

	REQUIRE(!ring_register(&ring, buffer, 1 << 20));
	CHECK_EQ(ring_do(&ring, &read), 1 << 19);
	CHECK(pattern_matches(buffer, 1 << 19, LARGE, HUGE_SIZE - 5000));
}

POINT_IF(shared_mappings, "shared mappings", is_used)
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
POINT_IF(private_mappings, "private mappings, copy on write", is_used)
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
POINT_IF(beyond_end, "SIGBUS after the end of file", is_used)
{
	char *address = map_file(MIDDLE, MIDDLE + 2 * page_size(), PROT_READ, MAP_SHARED);
	char *after = address + page_round(MIDDLE);

	CHECK(gets_sigbus(after));
	CHECK_FAILS(write(scratch_file(), after, 100), EFAULT);
}

POINT_IF(huge_mappings, "2 MiB mappings", is_used)
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
POINT_IF(faults_around, "a fault maps the pages around it", is_used)
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

POINT_IF(programs, "programs and scripts run", is_used)
{
	executes();
}

POINT_IF(writes_from_mapping, "write from a mapping", is_used)
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

POINT_IF(direct_from_mapping, "direct I/O from a mapping", is_used)
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

POINT_IF(splices_from_mapping, "vmsplice of a mapping", is_used)
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
POINT_IF(registered_mapping, "private mapping as io_uring's registered buffer", is_used)
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

POINT_IF(remote_reads, "process_vm_readv of a mapping", is_used)
{
	char *address = map_file(LARGE, LARGE, PROT_READ, MAP_SHARED), *buffer = malloc(3 << 20);
	struct iovec local = { buffer, 3 << 20 }, remote = { address + HUGE_SIZE - 4000, 3 << 20 };
	pid_t pid = waiting_child();

	if (pages_held(process_vm_readv(pid, &local, 1, &remote, 1, 0), 3 << 20))
		CHECK(pattern_matches(buffer, 3 << 20, LARGE, HUGE_SIZE - 4000));
	end_child(pid);
}

POINT_IF(debugger_reads, "ptrace, reading a mapping", is_used)
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
POINT_IF(breakpoints, "ptrace, breakpoint in a program", is_used)
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

/*
 * List the tree at @dir in @file: paths, types, modes, sizes, targets, content, hard links. Times
 * and owners depend on the user who made the image; other tests compare them.
 */
static void list_tree(const char *dir, const char *file)
{
	char command[4 * PATH_MAX];

	snprintf(command, sizeof(command), "'%s/manifest' '%s' | cut -f 1,2,5,8- >'%s'",
		 program_dir(), dir, file);
	REQUIRE(!system(command));
}

POINT_IF(whole_tree, "whole tree, by path and content", is_used)
{
	char want[PATH_MAX], got[PATH_MAX], command[3 * PATH_MAX];

	snprintf(want, sizeof(want), "%s/sources.want", work_dir());
	snprintf(got, sizeof(got), "%s/sources.got", work_dir());
	list_tree(tree, want);
	list_tree(mnt, got);
	snprintf(command, sizeof(command), "test -s '%s' && cmp '%s' '%s'", want, want, got);
	CHECK_EQ(system(command), 0);
}

/* Neither daxfs nor the module that exports its memory can be unloaded. */
POINT_IF(modules_held, "modules are held", is_used)
{
	char path[100];
	long long users;

	CHECK(number_in("/sys/module/daxfs/refcnt", "") > 0);
	if (!source->module)
		return;
	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", source->module);
	users = number_in(path, "");
	CHECK(users > 0 || access(path, F_OK)); /* it may be built in */
}

static void drop_capability(int capability)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	REQUIRE(!syscall(SYS_capget, &header, data));
	data[capability / 32].effective &= ~(1U << capability % 32);
	data[capability / 32].permitted &= ~(1U << capability % 32);
	data[capability / 32].inheritable &= ~(1U << capability % 32);
	REQUIRE(!syscall(SYS_capset, &header, data));
}

static bool has_option(const char *options, const char *option)
{
	const char *at = strstr(options, option);

	return at && at > options && at[-1] == ',';
}

POINT_IF(told, "/proc/mounts", is_used)
{
	const char *options = mount_options(mnt);

	CHECK(!strncmp(options, "ro,", 3));
	if (source->shown && !CHECK(has_option(options, source->shown)))
		printf("# %s\n", options);
	if (!source->shown)
		CHECK(!strstr(options, "phys") && !strstr(options, "memfd") &&
		      !strstr(options, "dmabuf"));
	if (!source->shown || strncmp(source->shown, "phys", 4))
		return;
	CHECK(has_option(options, "size="));
	drop_capability(CAP_SYS_RAWIO);
	options = mount_options(mnt);
	CHECK(has_option(options, "phys") && !strstr(options, "0x") && !strstr(options, "size="));
}

/* Two mounts at a time, each of which works after the other has ended. */
POINT_IF(two_mounts, "two mounts at once", is_used)
{
	int fd = source->make(source, &image), one, two, copy;
	const char *first = mnt;
	char second[PATH_MAX];

	REQUIRE(fd >= 0);
	snprintf(second, sizeof(second), "%s/second", work_dir());
	mkdir(second, 0700);
	copy = fd ? dup(fd) : 0;
	one = source_context(source, fd);
	if (!source->shared) {
		CHECK(!context_mount(one, second) && errno == EBUSY);
		return;
	}
	two = source_context(source, copy);
	if (fd) {
		close(fd);
		close(copy);
	}
	REQUIRE(context_mount(one, second) && context_mount(two, first));
	mnt = second;
	reads();
	close_range(3, ~0U, 0);
	CHECK(!umount(second));
	mnt = first;
	reads();
	close_range(3, ~0U, 0);
	CHECK(!umount(first));
	reads(); /* the mount below */
}

POINT(unmounts, "unmounts")
{
	if (!CHECK(!umount(mnt)))
		umount2(mnt, MNT_DETACH);
}

POINT(all_given_back, "everything is given back")
{
	given_back(&before);
}

/*
 * Return an image of one file, or NULL if it cannot be made. It is for memory that is made in each
 * cycle, since making a large one takes longer than mounting it.
 */
static const struct image *small_image(void)
{
	static struct image small;
	char command[5 * PATH_MAX];

	if (small.bytes)
		return &small;
	snprintf(command, sizeof(command),
		 "mkdir -p '%s.small/sizes' && cp '%s/sizes/%lu' '%s.small/sizes' && mkdaxfs --quiet --no-pack '%s.small' '%s.small.daxfs' >&2",
		 tree, tree, MIDDLE, tree, tree, tree);
	if (system(command))
		return NULL;
	snprintf(command, sizeof(command), "%s.small.daxfs", tree);
	small = image_load(command);
	return &small;
}

POINT(cycles, "mount cycles without growth")
{
	const struct image *what = source->key ? small_image() : NULL;
	/* Enough for a leak of the smallest image in each cycle to exceed the limit below. */
	int rounds = repeats(40);
	struct counters first = {}, last;

	for (int i = 0; i < rounds; i++) {
		REQUIRE(source_mount(source, what ?: &image, mnt));
		CHECK(holds(open_file(MIDDLE, O_RDONLY), MIDDLE, 0, MIDDLE));
		/* The file is open and must be closed first. */
		CHECK_FAILS(umount(mnt), EBUSY);
		close_range(3, ~0U, 0);
		REQUIRE(!umount(mnt));
		if (!i)
			first = count_now();
	}
	last = count_now();
	printf("# %s: available %lld kB after one cycle, %lld kB after %d\n", source->name,
	       first.available, last.available, rounds);
	/* The available memory varies by megabytes; all images together are 80 MiB and more. */
	CHECK(last.available > first.available - 65536);
	given_back(&before);
}

int main(void)
{
	ktap_start();
	mnt = private_mount_point();
	image = sources_image();
	snprintf(tree, sizeof(tree), "%s/sources", work_dir());
	REQUIRE(!run_command("rm -rf '%s' && '%s/mktree' sources '%s'", tree, program_dir(), tree));
	before = count_now();
	return run_on_sources(NULL, &image, &source);
}
