// SPDX-License-Identifier: GPL-2.0-only
/*
 * Measurements of a mounted read-only tree. Prints figures separated by tabs. Under a clock that counts instructions
 * (qemu/vm run --icount) a nanosecond is an instruction.
 *
 *   measure tree DIRECTORY   costs of bench/run's tree, one "name<tab>value" a line: it has "large" of 64 MiB, "sizes"
 *                            with MAPPED files of each size that is mapped, "many" with FILES files, and "static", a
 *                            program that exits at once
 *   measure many DIRECTORY   open, read and close each file in "many"
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LARGE	(64L << 20)
#define PAGE	4096L
#define CHUNK	(1L << 20)
#define FILES	10000
#define ROUNDS	20000
#define MAPPED	4
#define EXECS	1000
/* A prime that divides no count of files: the order visits every name once. */
#define STEP	7919UL

static char *chunk;
static volatile unsigned char sink;

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void report(const char *what, int64_t total, int64_t count)
{
	printf("%s\t%lld\n", what, (long long)(total / count));
	fflush(stdout);
}

/* A full-period generator: every run sees the same order. */
static unsigned int next_random(void)
{
	static unsigned int state = 1;

	state = state * 1664525 + 1013904223;
	return state >> 8;
}

/* See drop_caches() in bench/guest for caches that this leaves out on tmpfs. */
static void drop_caches(void)
{
	FILE *file = fopen("/proc/sys/vm/drop_caches", "w");
	struct statfs status;

	if (statfs(".", &status))
		err(1, "statfs");
	if (!file || fputs(status.f_type == TMPFS_MAGIC ? "2" : "3", file) < 0 || fclose(file))
		err(1, "/proc/sys/vm/drop_caches");
	/* The kernel frees dropped objects after an RCU grace period. */
	usleep(300000);
}

static long meminfo(const char *key)
{
	char line[128];
	long value = -1;
	FILE *file = fopen("/proc/meminfo", "r");

	if (!file)
		err(1, "/proc/meminfo");
	while (value < 0 && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, key, strlen(key)))
			value = atol(line + strlen(key));
	}
	fclose(file);
	return value;
}

static void read_through(int fd)
{
	long offset;

	for (offset = 0; offset < LARGE; offset += CHUNK) {
		if (pread(fd, chunk, CHUNK, offset) != CHUNK)
			err(1, "read of large at %ld", offset);
	}
}

static void sequential(void)
{
	long cached;
	int64_t start;
	int fd = open("large", O_RDONLY);

	if (fd < 0)
		err(1, "large");
	cached = meminfo("Cached:");
	start = now();
	read_through(fd);
	report("first sequential read, per 4 KiB", now() - start, LARGE / PAGE);
	start = now();
	read_through(fd);
	report("sequential read, warm, per 4 KiB", now() - start, LARGE / PAGE);
	cached = meminfo("Cached:") - cached;
	report("page cache left behind, KiB", cached > 0 ? cached : 0, 1);
	close(fd);
}

static void random_reads(const char *what, long size)
{
	int64_t start;
	int i, fd = open("large", O_RDONLY);

	start = now();
	for (i = 0; i < ROUNDS; i++) {
		if (pread(fd, chunk, size, next_random() % (LARGE / size) * size) != size)
			err(1, "pread of large");
	}
	report(what, now() - start, ROUNDS);
	close(fd);
}

static long page_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

static void mapped(void)
{
	int fd = open("large", O_RDONLY);
	unsigned char *map;
	int64_t start;
	long offset, faults;

	map = mmap(NULL, LARGE, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		err(1, "mmap of large");
	faults = page_faults();
	start = now();
	for (offset = 0; offset < LARGE; offset += PAGE)
		sink += map[offset];
	start = now() - start;
	faults = page_faults() - faults;
	report("mmap, touch every page, per page", start, LARGE / PAGE);
	report("page faults for 64 MiB", faults, 1);
	munmap(map, LARGE);
	close(fd);
}

/* Open a file, map it, read a byte of each page, unmap and close it. */
static void map_file(const char *name)
{
	struct stat status;
	unsigned char *map;
	long offset;
	int fd;

	fd = open(name, O_RDONLY);
	if (fd < 0 || fstat(fd, &status))
		err(1, "%s", name);
	map = mmap(NULL, status.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		err(1, "mmap of %s", name);
	for (offset = 0; offset < status.st_size; offset += PAGE)
		sink += map[offset];
	munmap(map, status.st_size);
	close(fd);
}

/* Files of less than 2 MiB, or hardly more, are mapped by pages. */
static void mapped_files(void)
{
	static const char *const sizes[] = { "64 KiB", "1 MiB", "3 MB" };
	/* xfs_protofile takes no spaces in names. */
	static const char *const names[] = { "64KiB", "1MiB", "3MB" };
	static const char *const states[] = { "cold", "warm" };
	char name[64], what[80];
	unsigned int size, state, i;
	int64_t start;
	long faults;

	for (size = 0; size < 3; size++) {
		drop_caches();
		for (state = 0; state < 2; state++) {
			faults = page_faults();
			start = now();
			for (i = 0; i < MAPPED; i++) {
				snprintf(name, sizeof(name), "sizes/%s-%u", names[size], i);
				map_file(name);
			}
			snprintf(what, sizeof(what), "map a file of %s, touch every page, %s", sizes[size], states[state]);
			start = now() - start;
			faults = page_faults() - faults;
			report(what, start, MAPPED);
			snprintf(what, sizeof(what), "page faults for %s, %s", sizes[size], states[state]);
			report(what, faults, MAPPED);
		}
	}
}

enum { SPLICE, SENDFILE, WRITE, VMSPLICE };

/* Move large to /dev/null, through a pipe but for sendfile, which brings its own. */
static void piped(const char *what, int how)
{
	int fd = open("large", O_RDONLY), null = open("/dev/null", O_WRONLY);
	struct iovec part = { .iov_len = CHUNK };
	loff_t offset = 0;
	ssize_t moved;
	int64_t start;
	int ends[2];
	char *map;

	if (fd < 0 || null < 0 || pipe(ends) || fcntl(ends[1], F_SETPIPE_SZ, CHUNK) < 0)
		err(1, "pipe");
	start = now();
	map = how < WRITE ? NULL : mmap(NULL, LARGE, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		err(1, "mmap of large");
	while (offset < LARGE) {
		part.iov_base = map + offset;
		if (how == SPLICE)
			moved = splice(fd, &offset, ends[1], NULL, CHUNK, 0);
		else if (how == SENDFILE)
			moved = sendfile(null, fd, &offset, CHUNK);
		else if (how == WRITE)
			moved = write(ends[1], map + offset, CHUNK);
		else
			moved = vmsplice(ends[1], &part, 1, 0);
		if (moved <= 0)
			err(1, "%s", what);
		if (how >= WRITE)
			offset += moved;
		if (how != SENDFILE && splice(ends[0], NULL, null, NULL, moved, 0) != moved)
			err(1, "splice to /dev/null");
	}
	if (map)
		munmap(map, LARGE);
	report(what, now() - start, LARGE / PAGE);
	close(ends[0]);
	close(ends[1]);
	close(null);
	close(fd);
}

static void list(void)
{
	struct dirent *entry;
	int64_t start;
	long count = 0;
	DIR *dir;

	drop_caches();
	dir = opendir("many");
	if (!dir)
		err(1, "many");
	start = now();
	while ((entry = readdir(dir)))
		count++;
	report("readdir, cold, per entry", now() - start, count);
	if (count != FILES + 2)
		errx(1, "many has %ld entries, not %d", count, FILES + 2);
	closedir(dir);
}

static void name_file(char *name, size_t size, unsigned int number)
{
	snprintf(name, size, "many/file-%05u", number % FILES);
}

static void stats(void)
{
	static const char *const states[] = { "stat, cold, random order, per file", "stat, warm, per file" };
	struct stat status;
	unsigned int state, i;
	int64_t start;
	char name[64];

	drop_caches();
	if (stat("many", &status))
		err(1, "many");
	for (state = 0; state < 2; state++) {
		start = now();
		for (i = 0; i < FILES; i++) {
			name_file(name, sizeof(name), i * STEP);
			if (stat(name, &status))
				err(1, "%s", name);
		}
		report(states[state], now() - start, FILES);
	}
	start = now();
	for (i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "many/none-%05u", i);
		if (!stat(name, &status))
			errx(1, "%s exists", name);
	}
	report("look-up of a missing name", now() - start, FILES);
}

static void read_small_files(void)
{
	char name[64], bytes[8192];
	unsigned int i;
	int fd;

	for (i = 0; i < FILES; i++) {
		name_file(name, sizeof(name), i * STEP);
		fd = open(name, O_RDONLY);
		if (fd < 0 || read(fd, bytes, sizeof(bytes)) < 0)
			err(1, "%s", name);
		close(fd);
	}
}

static void small_files(void)
{
	int64_t start;

	drop_caches();
	start = now();
	read_small_files();
	report("open, read, close, cold, per file", now() - start, FILES);
}

static void execs(void)
{
	int i, status;
	int64_t start;
	pid_t child;

	start = now();
	for (i = 0; i < EXECS; i++) {
		child = vfork();
		if (!child) {
			execl("./static", "static", NULL);
			_exit(127);
		}
		if (child < 0 || waitpid(child, &status, 0) < 0 || status)
			errx(1, "static did not run");
	}
	report("vfork, exec, exit of a static program", now() - start, EXECS);
}

static void measure_tree(void)
{
	chunk = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (chunk == MAP_FAILED)
		err(1, "memory");
	sequential();
	random_reads("random pread of 4 KiB", 4096);
	random_reads("random pread of 64 B", 64);
	mapped();
	piped("splice to /dev/null, per 4 KiB", SPLICE);
	piped("sendfile to /dev/null, per 4 KiB", SENDFILE);
	piped("write of a mapping to a pipe, per 4 KiB", WRITE);
	piped("vmsplice of a mapping to a pipe, per 4 KiB", VMSPLICE);
	mapped_files();
	list();
	stats();
	small_files();
	execs();
}

int main(int argc, char **argv)
{
	if (argc != 3 || (strcmp(argv[1], "tree") && strcmp(argv[1], "many")))
		errx(2, "usage: measure tree|many DIRECTORY");
	if (chdir(argv[2]))
		err(1, "%s", argv[2]);
	if (argv[1][0] == 't')
		measure_tree();
	else
		read_small_files();
	return 0;
}
