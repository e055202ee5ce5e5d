// SPDX-License-Identifier: GPL-2.0-only
/*
 * Costs of handing data from one process to another, by way and size. Prints a table.
 *
 * The data is in a file of daxfs. One hand-over ends when the receiver has looked at every page and said
 * so. Meant for a guest whose clock counts instructions (qemu/vm run --icount) on one processor: the figures cover both
 * processes and the kernel.
 */
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include "../tests/descriptor.h"
#include "../tests/ktap.h"
#include "../tests/util.h"

#define PACKET	(128UL << 10) /* as much as a packet may have without raising limits */
#define LARGEST	(64UL << 20)
#define WAYS	5

static const size_t sizes[] = { 4096, 64 << 10, 1 << 20, 16 << 20, LARGEST };

/* State of both sides: a socket, a ring each, the sender's data. */
static int pair[2];
static struct ring ring;
static int receivers_ring;
static char *data, *buffer;
static volatile unsigned char sink;

static s64 now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void look(const char *address, size_t size)
{
	for (size_t at = 0; at < size; at += 4096)
		sink = address[at];
}

static void look_at_file(int file, size_t size)
{
	char *address = mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0);

	if (file < 0 || address == MAP_FAILED)
		err(1, "receiver");
	look(address, size);
	munmap(address, size);
	close(file);
}

/* The ways of one hand-over, for the sender and the receiver. */

static void send_descriptor(int file, size_t size)
{
	if (descriptor_send(pair[0], file))
		err(1, "sendmsg");
}

static void receive_descriptor(size_t size)
{
	look_at_file(descriptor_receive(pair[1]), size);
}

static void send_by_ring(int file, size_t size)
{
	if (ring_descriptor_send(&ring, pair[0], file))
		err(1, "io_uring sendmsg");
}

static void receive_by_ring(size_t size)
{
	look_at_file(ring_descriptor_receive(&ring, pair[1]), size);
}

static void send_to_ring(int file, size_t size)
{
	if (ring_descriptor_pass(&ring, receivers_ring, file))
		err(1, "io_uring msg_ring");
}

static void receive_from_ring(size_t size)
{
	look_at_file(ring_descriptor_wait(&ring), size);
}

static void send_memfd(int file, size_t size)
{
	int copy = memfd_create("copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (copy < 0 || write(copy, data, size) != (ssize_t)size ||
	    fcntl(copy, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW))
		err(1, "memfd");
	if (descriptor_send(pair[0], copy))
		err(1, "sendmsg");
	close(copy);
}

static void send_bytes(int file, size_t size)
{
	for (size_t at = 0; at < size; at += PACKET) {
		size_t part = size - at < PACKET ? size - at : PACKET;

		if (send(pair[0], data + at, part, 0) != (ssize_t)part)
			err(1, "send");
	}
}

static void receive_bytes(size_t size)
{
	for (size_t at = 0; at < size; at += PACKET)
		if (recv(pair[1], buffer + at, PACKET, 0) <= 0)
			err(1, "recv");
	look(buffer, size);
}

static const struct way {
	const char *name;
	void (*send)(int file, size_t size);
	void (*receive)(size_t size);
} ways[WAYS] = {
	{ "descriptor over a socket", send_descriptor, receive_descriptor },
	{ "the same by io_uring", send_by_ring, receive_by_ring },
	{ "descriptor from ring to ring", send_to_ring, receive_from_ring },
	{ "copy in a memfd", send_memfd, receive_descriptor },
	{ "bytes over the socket", send_bytes, receive_bytes },
};

/* Small things are measured more often. */
static int rounds(size_t size)
{
	return size < (1 << 20) ? 200 : size < (16 << 20) ? 20 : 4;
}

/* One hand-over of each before those that count. */
static void receiver(void)
{
	char done = 'd';

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ring = ring_open();
	if (ring_make_room(&ring, 1) ||
	    send(pair[1], &ring.fd, sizeof(ring.fd), 0) != sizeof(ring.fd))
		err(1, "receiver's ring");
	for (const struct way *way = ways; way < ways + WAYS; way++)
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
			for (int round = 0; round <= rounds(sizes[i]); round++) {
				way->receive(sizes[i]);
				if (send(pair[1], &done, 1, 0) != 1)
					err(1, "receiver");
			}
	exit(0);
}

static s64 measure(const struct way *way, int file, size_t size)
{
	int count = rounds(size);
	s64 start = 0;
	char done;

	for (int round = 0; round <= count; round++) {
		if (round == 1)
			start = now();
		way->send(file, size);
		if (recv(pair[0], &done, 1, 0) != 1)
			errx(1, "%s: the receiver is gone", way->name);
	}
	return (now() - start) / count;
}

int main(int argc, char **argv)
{
	int file, pidfd, number;
	pid_t pid;

	if (argc != 2)
		errx(2, "usage: handover FILE, of 64 MiB");
	file = open(argv[1], O_RDONLY | O_CLOEXEC);
	data = mmap(NULL, LARGEST, PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0);
	if (file < 0 || data == MAP_FAILED || lseek(file, 0, SEEK_END) < (off_t)LARGEST)
		err(1, "%s", argv[1]);
	buffer = malloc(LARGEST);
	memset(buffer, 0, LARGEST);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		err(1, "socketpair");
	pid = fork();
	if (!pid)
		receiver();
	ring = ring_open();
	if (recv(pair[0], &number, sizeof(number), 0) != sizeof(number))
		errx(1, "the receiver is gone");
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	receivers_ring = syscall(SYS_pidfd_getfd, pidfd, number, 0);
	if (receivers_ring < 0 || ring_make_room(&ring, 1))
		err(1, "ring");

	printf("%-30s", "size");
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		printf("%9zu KiB", sizes[i] >> 10);
	printf("\n");
	for (const struct way *way = ways; way < ways + WAYS; way++) {
		printf("%-30s", way->name);
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			printf("%13lld", (long long)measure(way, file, sizes[i]));
			fflush(stdout);
		}
		printf("\n");
	}
	return 0;
}
