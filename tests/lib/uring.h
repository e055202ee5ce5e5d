/* SPDX-License-Identifier: GPL-2.0-only */
/* As much of io_uring as tests need: one request at a time. */
#ifndef URING_H
#define URING_H

#include <linux/io_uring.h>

#include "util.h"

struct ring {
	int fd;
	struct io_uring_params params;
	char *submissions, *completions;
	struct io_uring_sqe *entries;
};

/* Open a ring. End the point as skipped if the kernel has no io_uring. */
struct ring ring_open(void);

struct io_uring_sqe ring_request(int opcode, int fd, void *address, unsigned int length, u64 offset);

/* Submit one request, wait for it and return its result. */
int ring_do(struct ring *ring, const struct io_uring_sqe *request);

/* Register the only buffer. Return 0 or -1. */
int ring_register(struct ring *ring, void *address, size_t length);

#endif
