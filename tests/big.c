// SPDX-License-Identifier: GPL-2.0-only
/*
 * A file of more than 4 GiB.
 *
 * Group: images
 * Machine: no-debug with=files virtio-pmem=big.daxfs
 */
#include <sys/uio.h>

#include "util.h"

#define SIZE ((1UL << 32) + 2 * HUGE_SIZE + 5)

static const char *mnt;

static const u64 places[] = {
	0,
	(1UL << 31) - 8,
	(1UL << 32) - 8,
	(1UL << 32) + HUGE_SIZE - 3,
	(1UL << 32) + 2 * HUGE_SIZE - 11,
};

POINT(sizes, "size and blocks")
{
	struct stat stat;

	REQUIRE(!fstat(open_in(mnt, "big", O_RDONLY), &stat));
	CHECK_EQ(stat.st_size, SIZE);
	CHECK_EQ(stat.st_blocks, (SIZE + 4095) / 4096 * 8);
}

POINT(reads, "reads around 2 GiB, 4 GiB and the end")
{
	int fd = open_in(mnt, "big", O_RDONLY);
	char buffer[64];

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		CHECK_EQ(pread(fd, buffer, 16, places[i]), 16);
		CHECK(pattern_matches(buffer, 16, 4, places[i]));
		CHECK_EQ(pread(fd, buffer, 10, places[i] - (i ? 10 : -20)), 10);
		CHECK(all_zero(buffer, 10));
	}
	CHECK_EQ(pread(fd, buffer, 64, SIZE - 3), 3);
	CHECK_EQ(pread(fd, buffer, 64, SIZE), 0);
	CHECK_EQ(lseek(fd, -3, SEEK_END), SIZE - 3);
	CHECK_EQ(read(fd, buffer, 64), 3);
	CHECK_EQ(lseek(fd, 1L << 32, SEEK_HOLE), SIZE);
}

/* Read more than 2 GiB at once: the kernel returns as much as a read can return. */
POINT(long_read, "a read of 3 GiB")
{
	int fd = open_in(mnt, "big", O_RDONLY);
	char *nowhere_to_put_it = mmap(NULL, 3UL << 30, PROT_NONE,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	REQUIRE(nowhere_to_put_it != MAP_FAILED);
	CHECK_FAILS(pread(fd, nowhere_to_put_it, 3UL << 30, 0), EFAULT);
}

/*
 * Kill a process that reads 2 GiB, once the first piece of some MiB has arrived. The read then ends early: it
 * does not keep the memory, for which a removal of the device waits, until all is copied.
 */
POINT(killed_read, "a read of 2 GiB by a process that is killed")
{
	enum { PIECES = 1023 };
	const size_t size = PIECES * HUGE_SIZE;
	int fd = open_in(mnt, "big", O_RDONLY);
	char *pieces = shared_memory(3 * HUGE_SIZE), *last = pieces + HUGE_SIZE, *rest = last + HUGE_SIZE;
	struct iovec vectors[PIECES];
	int status;
	pid_t child;

	/* Only the first and the last piece have separate places. */
	for (int i = 0; i < PIECES; i++)
		vectors[i] = (struct iovec){ i ? rest : pieces, HUGE_SIZE };
	vectors[PIECES - 1].iov_base = last;
	memset(pieces, 1, 3 * HUGE_SIZE);
	REQUIRE((child = fork()) >= 0);
	if (!child) {
		/* Map all of it, or the read stops where it faults. */
		memset(pieces, 1, 3 * HUGE_SIZE);
		_exit(preadv(fd, vectors, PIECES, 4096) != (ssize_t)size);
	}
	while (__atomic_load_n(pieces, __ATOMIC_ACQUIRE))
		;
	REQUIRE(!kill(child, SIGKILL));
	REQUIRE(waitpid(child, &status, 0) == child);
	CHECK(WIFSIGNALED(status));
	CHECK_EQ(*last, 1);
	/* Without a signal it arrives. */
	CHECK_EQ(preadv(fd, vectors, PIECES, 4096), size);
	CHECK_EQ(*last, 0);
}

POINT(maps, "mappings around 2 GiB, 4 GiB and the end")
{
	int fd = open_in(mnt, "big", O_RDONLY);
	char *address = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	char *end = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, (1UL << 32) + 2 * HUGE_SIZE);

	REQUIRE(address != MAP_FAILED && end != MAP_FAILED);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		CHECK(pattern_matches(address + places[i], 16, 4, places[i]));
	CHECK(all_zero(address + SIZE, 4096 - 5));
	CHECK(pattern_matches(end, 5, 4, (1UL << 32) + 2 * HUGE_SIZE));
	CHECK(all_zero(end + 5, 4096 - 5));
}

/* Return the kilobytes of page tables of this process. */
static long page_tables(void)
{
	char line[128];
	long size = -1;
	FILE *file = fopen("/proc/self/status", "r");

	REQUIRE(file);
	while (size < 0 && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "VmPTE: %ld kB", &size) != 1)
			size = -1;
	}
	fclose(file);
	return size;
}

/* Many processes that map a GiB at once need hardly any page tables. */
POINT(shared_by_many, "a GiB mapped by 64 processes")
{
	enum { PROCESSES = 64 };
	const size_t size = 1UL << 30;
	int fd = open_in(mnt, "big", O_RDONLY), results[2], hold[2];
	long total = 0;

	REQUIRE(!pipe(results) && !pipe(hold));
	for (int i = 0; i < PROCESSES; i++) {
		pid_t child = fork();
		long before, grown = 0;
		char *map;

		REQUIRE(child >= 0);
		if (child)
			continue;
		close(hold[1]);
		before = page_tables();
		map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED)
			_exit(1);
		for (size_t at = 0; at < size; at += 4096 * 64)
			grown += __atomic_load_n(map + at, __ATOMIC_RELAXED);
		grown = page_tables() - before;
		if (write(results[1], &grown, sizeof(grown)) != sizeof(grown))
			_exit(1);
		/* Keep the mapping until all processes have been counted. */
		_exit(read(hold[0], &grown, 1) != 0);
	}
	for (int i = 0; i < PROCESSES; i++) {
		long grown;

		REQUIRE(read(results[0], &grown, sizeof(grown)) == sizeof(grown));
		total += grown;
	}
	close(hold[1]);
	while (wait(NULL) > 0)
		;
	printf("# %ld kB of page tables for %d times 1 GiB\n", total, PROCESSES);
	CHECK(total < 1024);
}

int main(void)
{
	mnt = fixture_mount("big");
	return ktap_run();
}
