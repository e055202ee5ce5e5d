// SPDX-License-Identifier: GPL-2.0-only
/*
 * Costs of reading data that is in a dma-buf, one "name<tab>value" a line.
 *
 * Usage: buffer WAY IMAGE DIRECTORY. IMAGE is one of bench/run's tree, which is copied into a buffer of the system heap.
 * Meant for a guest whose clock counts instructions, see bench.c. WAY is
 *
 *   daxfs    pread(2) from a file of 64 MiB on daxfs, which is mounted from the buffer on DIRECTORY
 *   mapping  a copy from a mapping of the buffer, between two calls of DMA_BUF_IOCTL_SYNC
 *   bounce   the same into memory that is shared with another process, and a copy from there
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/mount.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LARGE	(64L << 20)
#define MOST	(1L << 20)
#define ROUNDS	2000

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* Make a buffer with the bytes of a file or device, and map it at @address. */
static int make_buffer(const char *image, char **address)
{
	struct dma_heap_allocation_data request = { .fd_flags = O_RDWR | O_CLOEXEC };
	int heap = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	int file = open(image, O_RDONLY | O_CLOEXEC);
	off_t size = file < 0 ? -1 : lseek(file, 0, SEEK_END);
	ssize_t got;

	if (heap < 0)
		err(1, "/dev/dma_heap/system");
	if (size < 0)
		err(1, "%s", image);
	request.len = size;
	if (ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &request))
		err(1, "cannot allocate %ld bytes", (long)size);
	*address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, request.fd, 0);
	if (*address == MAP_FAILED)
		err(1, "cannot map the buffer");
	for (off_t at = 0; at < size; at += got) {
		got = pread(file, *address + at, size - at, at);
		if (got <= 0)
			err(1, "%s", image);
	}
	close(file);
	close(heap);
	return request.fd;
}

static void mount_buffer(int buffer, const char *directory)
{
	int context = syscall(SYS_fsopen, "daxfs", 0), mount;

	if (context < 0 || syscall(SYS_fsconfig, context, FSCONFIG_SET_FD, "dmabuf", NULL, buffer) ||
	    syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		err(1, "cannot mount the buffer");
	mount = syscall(SYS_fsmount, context, 0, 0);
	if (mount < 0 || syscall(SYS_move_mount, mount, "", AT_FDCWD, directory, MOVE_MOUNT_F_EMPTY_PATH))
		err(1, "%s", directory);
	close(mount);
	close(context);
}

static void sync_buffer(int buffer, uint64_t flags)
{
	struct dma_buf_sync sync = { .flags = flags | DMA_BUF_SYNC_READ };

	if (ioctl(buffer, DMA_BUF_IOCTL_SYNC, &sync))
		err(1, "DMA_BUF_IOCTL_SYNC");
}

/* Copy by the instruction that the kernel uses as well, so that the clock counts each byte everywhere. */
static void copy(char *to, const char *from, size_t size)
{
	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

/* Copy @size bytes from a mapping of the buffer. */
static void copy_out(int buffer, char *to, const char *from, size_t size)
{
	sync_buffer(buffer, DMA_BUF_SYNC_START);
	copy(to, from, size);
	sync_buffer(buffer, DMA_BUF_SYNC_END);
}

int main(int argc, char **argv)
{
	static const size_t sizes[] = { 64, 4096, 65536, MOST };
	bool daxfs = argc == 4 && !strcmp(argv[1], "daxfs"), bounce = argc == 4 && !strcmp(argv[1], "bounce");
	char *address, *shared, *to = malloc(MOST);
	int buffer, file = -1, rounds;
	int64_t start;

	if (!daxfs && !bounce && !(argc == 4 && !strcmp(argv[1], "mapping")))
		errx(2, "usage: buffer daxfs|mapping|bounce IMAGE DIRECTORY");
	shared = mmap(NULL, MOST, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!to || shared == MAP_FAILED)
		err(1, "memory");
	memset(to, 1, MOST);
	memset(shared, 1, MOST);
	buffer = make_buffer(argv[2], &address);
	if (daxfs) {
		mount_buffer(buffer, argv[3]);
		if (chdir(argv[3]) || (file = open("large", O_RDONLY)) < 0)
			err(1, "%s/large", argv[3]);
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t size = sizes[i];

		rounds = ROUNDS / (size > 4096 ? 10 : 1);
		start = now();
		for (int round = 0; round < rounds; round++) {
			off_t at = (off_t)round * 7919 * 4096 % (LARGE - MOST);

			if (daxfs) {
				if (pread(file, to, size, at) != (ssize_t)size)
					err(1, "large");
			} else if (bounce) {
				copy_out(buffer, shared, address + at, size);
				copy(to, shared, size);
			} else {
				copy_out(buffer, to, address + at, size);
			}
		}
		printf("read of %zu bytes\t%lld\n", size, (long long)((now() - start) / rounds));
	}
	return 0;
}
