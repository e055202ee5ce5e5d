/* SPDX-License-Identifier: GPL-2.0 */
/* As much of io_uring as tests need: one request at a time. */
#ifndef URING_H
#define URING_H

#include <linux/io_uring.h>
#include <stddef.h>
#include "util.h"

struct ring {
	int fd;
	struct io_uring_params params;
	char *submissions, *completions;
	struct io_uring_sqe *entries;
};

/* Ends the test point as skipped where there is no io_uring. */
struct ring ring_open(void);

struct io_uring_sqe ring_request(int opcode, int fd, void *address, unsigned int length, u64 offset);

/* Submits one request, waits for it and returns its result. */
int ring_do(struct ring *ring, const struct io_uring_sqe *request);

/* Waits for a result that no request of our own asked for, and returns it. */
int ring_wait(struct ring *ring);

/* Registers the only buffer; returns 0 or -1. */
int ring_register(struct ring *ring, void *address, size_t length);

#endif
