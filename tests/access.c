// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mapped pages as the destination of direct I/O and in a core dump, reads by io_uring, also by kernel threads, and entries
 * of 2 MiB, which take no page cache. The tests sources and storm have more, on each source.
 *
 * Group: files
 * Machine: nvdimm=scratch debug-with=modules
 */
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "lib/util.h"
#include "lib/uring.h"

static const char *mnt;

/* Open a block device that takes direct I/O. */
static int direct_device(void)
{
	int device = loop_device(-1, 16 << 20, O_RDWR | O_DIRECT, NULL);

	if (device < 0)
		SKIP("needs loop devices");
	return device;
}

/* The device must not write to a read-only mapping. */
POINT(direct_read_into, "direct read into a mapping")
{
	char *shared = map_size(mnt, MIDDLE, PROT_READ, MAP_SHARED);
	char *private = map_size(mnt, MIDDLE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	int device = direct_device();

	CHECK_FAILS(pread(device, shared, 4096, 0), EFAULT);
	CHECK(pattern_matches(shared, MIDDLE, MIDDLE, 0));
	/* A private mapping gets copies. */
	CHECK_EQ(pread(device, private + 4096, 4096, 0), 4096);
	CHECK(all_zero(private + 4096, 4096));
	CHECK(pattern_matches(shared, MIDDLE, MIDDLE, 0));
}

/* A core dump reads every mapped page. */
POINT(dumping_core, "core dumps")
{
	char *address = map_size(mnt, LARGE, PROT_READ, MAP_SHARED | MAP_POPULATE);
	int filter = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
	char template[PATH_MAX];
	int status;
	pid_t pid;

	CHECK(filter < 0 || write(filter, "0xff", 4) == 4);
	snprintf(template, sizeof(template), "%s/core.XXXXXX", work_dir());
	REQUIRE(mkdtemp(template) && !chdir(template));
	pid = fork();
	if (!pid) {
		prlimit(0, RLIMIT_CORE, &(struct rlimit){ RLIM_INFINITY, RLIM_INFINITY }, NULL);
		abort();
	}
	waitpid(pid, &status, 0);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	CHECK(pattern_matches(address, HUGE_SIZE, LARGE, 0));
	unlink("core");
	CHECK(!chdir("/"));
	rmdir(template);
}

POINT(reads, "reads")
{
	static char buffer[MIDDLE];
	struct ring ring = ring_open();
	struct io_uring_sqe read = ring_request(IORING_OP_READ, open_size(mnt, MIDDLE, O_RDONLY), buffer, MIDDLE, 0);

	CHECK_EQ(ring_do(&ring, &read), MIDDLE);
	CHECK(pattern_matches(buffer, MIDDLE, MIDDLE, 0));
	memset(buffer, 0, MIDDLE);
	read.flags = IOSQE_ASYNC;
	CHECK_EQ(ring_do(&ring, &read), MIDDLE);
	CHECK(pattern_matches(buffer, MIDDLE, MIDDLE, 0));
	read.flags = 0;
	read.off = MIDDLE - 10;
	CHECK_EQ(ring_do(&ring, &read), 10);
	CHECK(pattern_matches(buffer, 10, MIDDLE, MIDDLE - 10));
	read.off = MIDDLE;
	CHECK_EQ(ring_do(&ring, &read), 0);
	read.addr = 8;
	read.off = 0;
	CHECK_EQ(ring_do(&ring, &read), -EFAULT);
}

/* A read that ends at the end of the file is not handed to a worker for the rest. */
static void short_reads_with(int flags)
{
	struct ring ring = ring_open();
	static char buffer[8192];

	for (int i = 0; i < 50; i++) {
		struct io_uring_sqe request = ring_request(IORING_OP_READ, open_size(mnt, 4097, O_RDONLY | flags),
							   buffer, sizeof(buffer), i);

		CHECK_EQ(ring_do(&ring, &request), 4097 - i);
		CHECK(pattern_matches(buffer, 4097 - i, 4097, i));
	}
	CHECK_EQ(run_command("grep iou-wrk /proc/%d/task/*/comm", getpid()), 1);
}

POINT(short_reads, "short reads need no kernel thread")
{
	short_reads_with(0);
}

POINT(short_direct_reads, "short direct reads need no kernel thread")
{
	short_reads_with(O_DIRECT);
}

/* Return the number of bytes in the range that huge entries map. */
static long long huge_bytes(const char *address, size_t length)
{
	static struct page_region regions[128];
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = (uintptr_t)address,
		.end = (uintptr_t)address + length,
		.vec = (uintptr_t)regions,
		.vec_len = ARRAY_SIZE(regions),
		.category_mask = PAGE_IS_HUGE,
		.return_mask = PAGE_IS_HUGE,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int count = ioctl(fd, PAGEMAP_SCAN, &scan);
	long long bytes = 0;

	REQUIRE(count >= 0);
	for (int i = 0; i < count; i++)
		bytes += regions[i].end - regions[i].start;
	close(fd);
	return bytes;
}

static void needs_huge_pages(void)
{
	if (!has_huge_mappings())
		SKIP("huge pages of this kernel have another size than 2 MiB");
}

POINT(borders, "files around 2 MiB")
{
	static const struct {
		u64 size;
		long faults;
		u64 huge;
	} files[] = {
		{ HUGE_SIZE, 1, HUGE_SIZE },
		{ HUGE_SIZE + 1, 2, HUGE_SIZE },
		{ 2 * HUGE_SIZE - 1, 2, 2 * HUGE_SIZE },
		{ 2 * HUGE_SIZE + 4096, 3, 2 * HUGE_SIZE },
		{ HUGE_SIZE - 4096, 32, 0 },
	};

	needs_huge_pages();
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char *address = map_size(mnt, files[i].size, PROT_READ, MAP_SHARED);

		CHECK_EQ(touch_pages(address, files[i].size, 4096), files[i].faults);
		CHECK_EQ(huge_bytes(address, files[i].size), files[i].huge);
	}
}

/* Nothing that is read or mapped enters the page cache. */
POINT(no_page_cache, "the page cache does not grow")
{
	char *buffer = malloc(1 << 20), *address;
	long long before, after;
	int fd;

	memset(buffer, 1, 1 << 20);
	before = number_in("/proc/meminfo", "Cached:");
	fd = open_size(mnt, LARGE, O_RDONLY);
	for (u64 offset = 0; offset < LARGE; offset += 1 << 20)
		CHECK_EQ(pread(fd, buffer, 1 << 20, offset), 1 << 20);
	address = map_size(mnt, LARGE, PROT_READ, MAP_SHARED);
	touch_pages(address, LARGE, 4096);
	address = map_size(mnt, LARGE, PROT_READ, MAP_PRIVATE | MAP_POPULATE);
	after = number_in("/proc/meminfo", "Cached:");
	printf("# page cache before %lld kB, after %lld kB\n", before, after);
	CHECK(after - before < 1024);
}

int main(void)
{
	mnt = fixture_mount("tree");
	return ktap_run();
}
