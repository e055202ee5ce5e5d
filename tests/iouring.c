// SPDX-License-Identifier: GPL-2.0-only
/*
 * io_uring: reads, also by kernel threads. The test sources has more, on each source.
 *
 * Group: files
 */
#include "lib/util.h"
#include "lib/uring.h"

static const char *mnt;

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

int main(void)
{
	mnt = fixture_mount("tree");
	return ktap_run();
}
