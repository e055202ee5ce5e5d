// SPDX-License-Identifier: GPL-2.0-only
/*
 * Single measurements for bench/guest. Prints figures separated by tabs. Under a clock that counts instructions
 * (qemu/vm run --icount) a nanosecond is an instruction.
 *
 *   measure stat DIRECTORY PREFIX COUNT   stat up to 10,000 of the names PREFIX-00000000 to COUNT - 1, in an order that
 *                                         jumps: instructions for each name
 *   measure list DIRECTORY                list it: instructions for each entry
 *   measure mount TYPE SOURCE TARGET OPTIONS
 *                                         mount read-only, and unmount: instructions of mount(2)
 *   measure map DIRECTORY COUNT           open, map, read a byte of each page of, unmap and close the files file-00000
 *                                         to COUNT - 1: instructions and page faults for each file
 *   measure run cold|warm COUNT DIRECTORY PROGRAM...
 *                                         run PROGRAM in the root DIRECTORY COUNT times, its output discarded, each time
 *                                         after all caches were dropped, or else after two other runs: instructions
 *                                         from fork to exit and page faults of one, the means
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAMPLES	10000UL
/* A prime that divides no COUNT: the order visits every name once. */
#define STEP	7919UL

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void measure_stat(const char *directory, const char *prefix, unsigned long count)
{
	unsigned long i, samples = count < SAMPLES ? count : SAMPLES;
	int expected = strcmp(prefix, "none") ? 0 : -1;
	struct stat status;
	int64_t start;
	char name[64];

	if (chdir(directory))
		err(1, "%s", directory);
	start = now();
	for (i = 0; i < samples; i++) {
		/* The samples are spread over the whole directory. */
		snprintf(name, sizeof(name), "%s-%08lu", prefix, i * STEP * (count / samples) % count);
		if (stat(name, &status) != expected)
			err(1, "%s/%s", directory, name);
	}
	printf("%lld\n", (long long)((now() - start) / (int64_t)samples));
}

static void measure_list(const char *directory)
{
	struct dirent *entry;
	int64_t start = now();
	int64_t count = 0;
	DIR *dir = opendir(directory);

	if (!dir)
		err(1, "%s", directory);
	while ((entry = readdir(dir)))
		count++;
	printf("%lld\n", (long long)((now() - start) / count));
	closedir(dir);
}

static void measure_mount(const char *type, const char *source, const char *target, const char *options)
{
	int64_t start = now();

	if (mount(source, target, type, MS_RDONLY, options))
		err(1, "mount %s on %s", source, target);
	printf("%lld\n", (long long)(now() - start));
	if (umount(target))
		err(1, "umount %s", target);
}

static void measure_map(const char *directory, unsigned long count)
{
	struct rusage before, after;
	volatile unsigned char sink = 0;
	struct stat status;
	unsigned char *map;
	unsigned long i;
	int64_t start;
	char name[64];
	long offset;
	int file;

	if (chdir(directory))
		err(1, "%s", directory);
	getrusage(RUSAGE_SELF, &before);
	start = now();
	for (i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "file-%05lu", i * STEP % count);
		file = open(name, O_RDONLY);
		if (file < 0 || fstat(file, &status))
			err(1, "%s/%s", directory, name);
		map = mmap(NULL, status.st_size, PROT_READ, MAP_SHARED, file, 0);
		if (map == MAP_FAILED)
			err(1, "map %s/%s", directory, name);
		for (offset = 0; offset < status.st_size; offset += 4096)
			sink += map[offset];
		munmap(map, status.st_size);
		close(file);
	}
	start = now() - start;
	getrusage(RUSAGE_SELF, &after);
	printf("%lld\t%.2f\n", (long long)(start / (int64_t)count),
	       (double)(after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt) / count);
}

static void drop_caches(void)
{
	FILE *file = fopen("/proc/sys/vm/drop_caches", "w");

	if (!file || fputs("3", file) < 0 || fclose(file))
		err(1, "/proc/sys/vm/drop_caches");
	/* The kernel frees dropped objects after an RCU grace period. */
	usleep(300000);
}

static void run(const char *directory, char **program, struct rusage *usage)
{
	int status, null;
	pid_t child = fork();

	if (!child) {
		null = open("/dev/null", O_WRONLY);
		if (null < 0 || dup2(null, 1) < 0 || chroot(directory) || chdir("/"))
			err(127, "%s", directory);
		execv(program[0], program);
		err(127, "%s", program[0]);
	}
	if (child < 0 || wait4(child, &status, 0, usage) < 0)
		err(1, "%s", program[0]);
	if (status)
		errx(1, "%s: status %#x", program[0], status);
}

static void measure_run(int cold, long count, const char *directory, char **program)
{
	int64_t start, instructions = 0;
	struct rusage usage;
	long i, faults = 0;

	for (i = 0; !cold && i < 2; i++)
		run(directory, program, &usage);
	for (i = 0; i < count; i++) {
		if (cold)
			drop_caches();
		start = now();
		run(directory, program, &usage);
		instructions += now() - start;
		faults += usage.ru_minflt + usage.ru_majflt;
	}
	printf("%lld\t%ld\n", (long long)(instructions / count), (faults + count / 2) / count);
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "stat"))
		measure_stat(argv[2], argv[3], strtoul(argv[4], NULL, 10));
	else if (argc == 3 && !strcmp(argv[1], "list"))
		measure_list(argv[2]);
	else if (argc == 6 && !strcmp(argv[1], "mount"))
		measure_mount(argv[2], argv[3], argv[4], argv[5]);
	else if (argc == 4 && !strcmp(argv[1], "map"))
		measure_map(argv[2], strtoul(argv[3], NULL, 10));
	else if (argc > 5 && !strcmp(argv[1], "run") && atol(argv[3]) > 0)
		measure_run(!strcmp(argv[2], "cold"), atol(argv[3]), argv[4], argv + 5);
	else
		errx(2, "usage: measure stat|list|mount|map|run ARGUMENT...");
	return 0;
}
