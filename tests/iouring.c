// SPDX-License-Identifier: GPL-2.0-only
/*
 * io_uring: reads, short ones by kernel threads, and look-ups. The test sources has more, on each source.
 *
 * Group: files
 */
#include <sys/uio.h>

#include "device.h"
#include "uring.h"

static const char *mnt;
/* Counts reads of all processes of a point, nearly: they do not wait for each other. */
static int *progress;

POINT(reads, "reads")
{
	static char buffer[MIDDLE];
	struct ring ring = ring_open();
	struct io_uring_sqe read = ring_request(IORING_OP_READ, open_size(mnt, MIDDLE, O_RDONLY), buffer, MIDDLE, 0);

	CHECK_EQ(ring_do(&ring, &read), MIDDLE);
	CHECK(pattern_matches(buffer, MIDDLE, MIDDLE, 0));
	read.off = MIDDLE - 10;
	CHECK_EQ(ring_do(&ring, &read), 10);
	CHECK(pattern_matches(buffer, 10, MIDDLE, MIDDLE - 10));
	read.off = MIDDLE;
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
