// SPDX-License-Identifier: GPL-2.0-only
/*
 * io_uring: reads of every form, and mappings of the filesystem as buffers.
 *
 * Group: files
 */
#include <sys/uio.h>

#include "device.h"
#include "uring.h"

static const char *mnt;
/* Counts reads of all processes of a point, nearly: they do not wait for each other. */
static int *progress;

#define SIZE 65537UL
#define LARGE (64UL << 20)

POINT(reads, "reads")
{
	static char buffer[SIZE];
	struct ring ring = ring_open();
	struct io_uring_sqe read = ring_request(IORING_OP_READ, open_size(mnt, SIZE, O_RDONLY), buffer, SIZE, 0);

	CHECK_EQ(ring_do(&ring, &read), SIZE);
	CHECK(pattern_matches(buffer, SIZE, SIZE, 0));
	read.off = SIZE - 10;
	CHECK_EQ(ring_do(&ring, &read), 10);
	CHECK(pattern_matches(buffer, 10, SIZE, SIZE - 10));
	read.off = SIZE;
	CHECK_EQ(ring_do(&ring, &read), 0);
	read.addr = 8;
	read.off = 0;
	CHECK_EQ(ring_do(&ring, &read), -EFAULT);
}

/* Return the number of threads that the kernel has made for this process's rings. */
static int workers(void)
{
	return count_named("/proc/self/task", "iou-wrk");
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
	CHECK_EQ(workers(), 0);
}

POINT(short_reads, "short reads need no kernel thread")
{
	short_reads_with(0);
}

POINT(short_direct_reads, "short direct reads need no kernel thread")
{
	short_reads_with(O_DIRECT);
}

POINT(forced_async, "reads by a kernel thread")
{
	static char buffer[SIZE];
	struct ring ring = ring_open();
	struct io_uring_sqe read = ring_request(IORING_OP_READ, open_size(mnt, SIZE, O_RDONLY), buffer, SIZE, 0);

	read.flags = IOSQE_ASYNC; /* done by a kernel thread on our behalf */
	CHECK_EQ(ring_do(&ring, &read), SIZE);
	CHECK(pattern_matches(buffer, SIZE, SIZE, 0));
}

POINT(vectors, "vectors")
{
	static char a[100], b[10000];
	struct ring ring = ring_open();
	struct iovec vector[2] = { { a, sizeof(a) }, { b, sizeof(b) } };
	struct io_uring_sqe readv = ring_request(IORING_OP_READV, open_size(mnt, SIZE, O_RDONLY), vector, 2, 5);

	CHECK_EQ(ring_do(&ring, &readv), 10100);
	CHECK(pattern_matches(a, sizeof(a), SIZE, 5) && pattern_matches(b, sizeof(b), SIZE, 105));
}

POINT(fixed_buffer, "reads into a registered buffer")
{
	struct ring ring = ring_open();
	char *buffer = aligned_alloc(4096, 1 << 20);
	struct io_uring_sqe read = ring_request(IORING_OP_READ_FIXED, open_size(mnt, LARGE, O_RDONLY), buffer + 100,
					   1 << 19, HUGE_SIZE - 5000);

	REQUIRE(!ring_register(&ring, buffer, 1 << 20));
	CHECK_EQ(ring_do(&ring, &read), 1 << 19);
	CHECK(pattern_matches(buffer + 100, 1 << 19, LARGE, HUGE_SIZE - 5000));
}

POINT(fixed_file, "reads from a registered file")
{
	static char buffer[SIZE];
	struct ring ring = ring_open();
	struct io_uring_sqe read = ring_request(IORING_OP_READ, 0, buffer, SIZE, 0);
	int fd = open_size(mnt, SIZE, O_RDONLY);

	REQUIRE(!syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_FILES, &fd, 1));
	close(fd);
	read.flags = IOSQE_FIXED_FILE;
	CHECK_EQ(ring_do(&ring, &read), SIZE);
	CHECK(pattern_matches(buffer, SIZE, SIZE, 0));
}

/*
 * Registered buffers stay pinned for as long as the ring lives, which the kernel refuses for every
 * file system on DAX.
 */
POINT(mapping_as_fixed_buffer, "mappings as registered buffers")
{
	struct ring ring = ring_open();
	char *shared = map_size(mnt, SIZE, PROT_READ, MAP_SHARED);
	char *huge = map_size(mnt, LARGE, PROT_READ, MAP_SHARED | MAP_POPULATE);
	char *private = map_size(mnt, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE);

	CHECK_FAILS(ring_register(&ring, shared, 8192), EOPNOTSUPP);
	CHECK_FAILS(ring_register(&ring, huge, HUGE_SIZE), EOPNOTSUPP);
	CHECK_FAILS(ring_register(&ring, private, 8192), EOPNOTSUPP);
	CHECK(pattern_matches(shared, SIZE, SIZE, 0));
}

POINT(direct_write_from_mapping, "direct write from a mapping")
{
	struct ring ring = ring_open();
	int device = loop_device(-1, 16 << 20, O_RDWR | O_DIRECT, NULL);
	char *buffer = aligned_alloc(4096, 1 << 20);
	char *address = map_size(mnt, LARGE, PROT_READ, MAP_SHARED);
	struct io_uring_sqe write;

	if (device < 0)
		SKIP("needs loop devices");
	write = ring_request(IORING_OP_WRITE, device, address + HUGE_SIZE - 8192, 1 << 20, 0);
	CHECK_EQ(ring_do(&ring, &write), 1 << 20);
	CHECK_EQ(pread(device, buffer, 1 << 20, 0), 1 << 20);
	CHECK(pattern_matches(buffer, 1 << 20, LARGE, HUGE_SIZE - 8192));
}

POINT(splices, "splice")
{
	static char buffer[65536];
	struct ring ring = ring_open();
	int ends[2], length;
	struct io_uring_sqe splice;

	REQUIRE(!pipe(ends));
	splice = ring_request(IORING_OP_SPLICE, ends[1], NULL, 30000, -1);
	splice.splice_fd_in = open_size(mnt, SIZE, O_RDONLY);
	splice.splice_off_in = 500;
	length = ring_do(&ring, &splice);
	REQUIRE(length > 0);
	CHECK_EQ(read(ends[0], buffer, sizeof(buffer)), length);
	CHECK(pattern_matches(buffer, length, SIZE, 500));
}

POINT(opens_and_stats, "statx and open")
{
	struct ring ring = ring_open();
	char path[PATH_MAX];
	struct statx stat;
	struct io_uring_sqe sqe;
	int fd;

	snprintf(path, sizeof(path), "%s/sizes/4097", mnt);
	sqe = ring_request(IORING_OP_STATX, AT_FDCWD, path, STATX_ALL, (uintptr_t)&stat);
	CHECK_EQ(ring_do(&ring, &sqe), 0);
	CHECK_EQ(stat.stx_size, 4097);
	sqe = ring_request(IORING_OP_OPENAT, AT_FDCWD, path, 0, 0);
	sqe.open_flags = O_RDONLY;
	fd = ring_do(&ring, &sqe);
	CHECK(fd >= 0 && lseek(fd, 0, SEEK_END) == 4097);
	sqe.open_flags = O_RDWR;
	CHECK_EQ(ring_do(&ring, &sqe), -EROFS);
}

/* Do short reads of @argument, a file of 4097 bytes, by kernel threads, twenty with each ring. */
static int read_by_threads(void *argument)
{
	static char buffer[8192];
	int count = getenv("DAXFS_READS") ? atoi(getenv("DAXFS_READS")) : repeats(100);

	for (int i = 0; i < count; i++) {
		static struct ring ring;
		struct io_uring_sqe request;
		int fd = open(argument, O_RDONLY | O_CLOEXEC);

		if (!(i % 20)) {
			if (i)
				close(ring.fd);
			ring = ring_open();
			/* A signal while the threads are being made. */
			if (!fork())
				_exit(0);
		}
		request = ring_request(IORING_OP_READ, fd, buffer, sizeof(buffer), i % 4097);
		request.flags = IOSQE_ASYNC;
		if (ring_do(&ring, &request) != 4097 - i % 4097)
			return 1;
		close(fd);
		if (i % 20 == 19)
			waitpid(-1, NULL, 0);
		++*progress;
	}
	return 0;
}

/* No read is lost on its way to a kernel thread and back, with two processes at a time. */
static void none_is_lost(const char *path)
{
	pid_t pids[2];

	progress = shared_memory(sizeof(*progress));
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
		pids[i] = background_user(read_by_threads, (void *)path);
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		int status, before;

		do {
			before = *progress;
			status = ends_within(pids[i], 10);
		} while (status == -1 && *progress != before);
		CHECK_EQ(status, 0);
	}
	printf("# about %d reads\n", *progress);
}

POINT(threads_on_daxfs, "many short reads by kernel threads")
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/sizes/4097", mnt);
	none_is_lost(path);
}

/* The same without daxfs, to find out if a failure is the kernel's. */
POINT(threads_on_tmpfs, "the same on tmpfs")
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/4097", work_dir());
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	REQUIRE(fd >= 0 && !ftruncate(fd, 4097));
	close(fd);
	none_is_lost(path);
	unlink(path);
}

int main(void)
{
	mnt = fixture_mount("tree");
	return ktap_run();
}
