// SPDX-License-Identifier: GPL-2.0-only
/*
 * Map a file as programs of tests do:
 *   mapper FILE          read all of it (- is the standard input), map it, touch every page, print its size and a sum over
 *                        both, and wait
 *   mapper --once FILE   the same, and do not wait
 *   mapper --mapped FILE the same without reading it
 *   mapper --pinned FILE put sixteen of its pages into a pipe, unmap it, say so, and wait
 *   mapper --beyond FILE load from a mapping that begins 1 TiB after the start
 *   mapper --locked FILE map it with MAP_POPULATE and lock it; fail with status 3 if that fails
 *   mapper --frames PID FILE  print how many pages PID has of it, the lowest and the highest address in memory, and a
 *                        digest of where they are, in order
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE	4096UL
#define PIECE	(1UL << 20)

static uint64_t sum_of(const unsigned char *mapped, size_t size)
{
	uint64_t sum = 0;

	for (size_t at = 0; at < size; at += PAGE)
		sum = sum * 31 + mapped[at];
	return sum;
}

static int look_at(const char *path, bool once, bool reads)
{
	static unsigned char buffer[PIECE];
	uint64_t read_sum = 0, mapped_sum;
	int file = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	const unsigned char *mapped;
	ssize_t length = 0;
	size_t size, done = 0;

	if (file < 0)
		err(1, "%s", path);
	size = lseek(file, 0, SEEK_END);
	while (reads && (length = pread(file, buffer, sizeof(buffer), done)) > 0) {
		for (ssize_t at = 0; at < length; at += PAGE)
			read_sum = read_sum * 31 + buffer[at];
		done += length;
	}
	mapped = mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0);
	if (length < 0 || mapped == MAP_FAILED)
		err(1, "%s", path);
	mapped_sum = sum_of(mapped, size);
	if (reads && read_sum != mapped_sum)
		errx(1, "%s: reading and mapping differ", path);
	printf("%zu %016" PRIx64 "\n", size, mapped_sum);
	fflush(stdout);
	while (!once)
		pause();
	return 0;
}

/* Map all of the file and close it. */
static const unsigned char *map(const char *path, int flags, size_t *size)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	const unsigned char *mapped;

	*size = lseek(file, 0, SEEK_END);
	mapped = mmap(NULL, *size, PROT_READ, MAP_SHARED | flags, file, 0);
	if (mapped == MAP_FAILED)
		err(1, "%s", path);
	close(file);
	return mapped;
}

static int pin(const char *path)
{
	size_t size;
	struct iovec vector = { (void *)map(path, 0, &size), 16 * PAGE };
	int ends[2];

	if (pipe(ends) || vmsplice(ends[1], &vector, 1, 0) < 0 || munmap(vector.iov_base, size))
		err(1, "%s", path);
	puts("pinned");
	fflush(stdout);
	for (;;)
		pause();
}

static int load_beyond(const char *path)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	char *mapped = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 1L << 40);

	if (mapped == MAP_FAILED)
		err(1, "%s", path);
	return __atomic_load_n(mapped, __ATOMIC_RELAXED);
}

static int lock(const char *path)
{
	size_t size;
	const void *mapped = map(path, MAP_POPULATE, &size);

	return mlock(mapped, size) ? 3 : 0;
}

static int frames(const char *pid, const char *path)
{
	uint64_t entry, frame, lowest = UINT64_MAX, highest = 0, digest = 0, start, end;
	char name[64], line[512];
	size_t count = 0;
	int pagemap;
	FILE *maps;

	snprintf(name, sizeof(name), "/proc/%s/maps", pid);
	maps = fopen(name, "re");
	snprintf(name, sizeof(name), "/proc/%s/pagemap", pid);
	pagemap = open(name, O_RDONLY | O_CLOEXEC);
	if (!maps || pagemap < 0)
		err(1, "process %s", pid);
	while (fgets(line, sizeof(line), maps)) {
		char *found = strchr(line, '/');

		line[strcspn(line, "\n")] = 0;
		if (!found || strcmp(found, path) ||
		    sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) != 2)
			continue;
		for (uint64_t at = start; at < end; at += PAGE) {
			if (pread(pagemap, &entry, 8, at / PAGE * 8) != 8 || !(entry >> 63))
				continue;
			frame = entry & ((1ULL << 55) - 1);
			digest = (digest ^ frame) * 0x100000001b3ULL;
			lowest = frame < lowest ? frame : lowest;
			highest = frame > highest ? frame : highest;
			count++;
		}
	}
	printf("%zu %" PRIu64 " %" PRIu64 " %016" PRIx64 "\n", count, lowest * PAGE,
	       highest * PAGE, digest);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "--frames"))
		return frames(argv[2], argv[3]);
	if (argc == 3 && !strcmp(argv[1], "--once"))
		return look_at(argv[2], true, true);
	if (argc == 3 && !strcmp(argv[1], "--mapped"))
		return look_at(argv[2], true, false);
	if (argc == 3 && !strcmp(argv[1], "--pinned"))
		return pin(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "--beyond"))
		return load_beyond(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "--locked"))
		return lock(argv[2]);
	if (argc != 2 || argv[1][0] == '-')
		errx(2, "the comment in mapper.c has the options");
	return look_at(argv[1], false, true);
}
