// SPDX-License-Identifier: GPL-2.0-only
/* As much of io_uring as tests need: one request at a time. */
#include <sys/uio.h>

#include "uring.h"

struct ring ring_open(void)
{
	struct ring ring = {};
	struct io_uring_params *params = &ring.params;

	ring.fd = syscall(SYS_io_uring_setup, 8, params);
	if (ring.fd < 0)
		SKIP("needs io_uring (%s)", strerror(errno));
	ring.submissions = mmap(NULL, params->sq_off.array + params->sq_entries * 4,
				PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, IORING_OFF_SQ_RING);
	ring.completions =
		mmap(NULL, params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe),
		     PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, IORING_OFF_CQ_RING);
	ring.entries = mmap(NULL, params->sq_entries * sizeof(struct io_uring_sqe),
			    PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, IORING_OFF_SQES);
	REQUIRE(ring.submissions != MAP_FAILED && ring.completions != MAP_FAILED &&
		ring.entries != MAP_FAILED);
	return ring;
}

/* Submit the queue and take the next result. */
static int ring_enter(struct ring *ring)
{
	unsigned int *done = (void *)(ring->completions + ring->params.cq_off.head);
	unsigned int *made = (void *)(ring->completions + ring->params.cq_off.tail);
	unsigned int *done_mask = (void *)(ring->completions + ring->params.cq_off.ring_mask);
	struct io_uring_cqe *results = (void *)(ring->completions + ring->params.cq_off.cqes);
	int result;

	REQUIRE(syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1);
	/* A signal may end the wait. */
	while (__atomic_load_n(made, __ATOMIC_ACQUIRE) == *done)
		syscall(SYS_io_uring_enter, ring->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	result = results[*done & *done_mask].res;
	__atomic_store_n(done, *done + 1, __ATOMIC_RELEASE);
	return result;
}

struct io_uring_sqe ring_request(int opcode, int fd, void *address, unsigned int length, u64 offset)
{
	return (struct io_uring_sqe){
		.opcode = opcode,
		.fd = fd,
		.addr = (uintptr_t)address,
		.len = length,
		.off = offset,
	};
}

int ring_do(struct ring *ring, const struct io_uring_sqe *request)
{
	unsigned int *tail = (void *)(ring->submissions + ring->params.sq_off.tail);
	unsigned int *mask = (void *)(ring->submissions + ring->params.sq_off.ring_mask);
	unsigned int *array = (void *)(ring->submissions + ring->params.sq_off.array);
	unsigned int slot = *tail & *mask;

	ring->entries[slot] = *request;
	array[slot] = slot;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	return ring_enter(ring);
}

int ring_register(struct ring *ring, void *address, size_t length)
{
	struct iovec vector = { address, length };

	return syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_BUFFERS, &vector, 1);
}
