// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes that do the same work in one tree at the same time, for statistics about locks.
 *
 * Usage: contend WORK DIRECTORY PROCESSES. DIRECTORY is bench/run's tree, see bench.c. All processes start together.
 * Exits with 0 if each has done its work, and prints nothing.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES	10000
#define LARGE	(64L << 20)
#define PAGE	4096L
#define ROUNDS	2500

static volatile unsigned char sink;

static const char *name_of(int number)
{
	static char name[32];

	snprintf(name, sizeof(name), "many/file-%05d", number % FILES);
	return name;
}

static int open_file(const char *name)
{
	int file = open(name, O_RDONLY);

	if (file < 0)
		err(1, "%s", name);
	return file;
}

/* Each process walks a separate part of the directory. */
static void do_stat(int process)
{
	struct stat status;

	for (int i = 0; i < ROUNDS; i++)
		if (stat(name_of(process * ROUNDS + i), &status))
			err(1, "%s", name_of(process * ROUNDS + i));
}

/* All processes open the same few files. */
static void do_read(int process)
{
	char data[PAGE];
	int file;

	(void)process;
	for (int i = 0; i < ROUNDS; i++) {
		file = open_file(name_of(i % 16));
		if (read(file, data, sizeof(data)) <= 0)
			err(1, "%s", name_of(i % 16));
		close(file);
	}
}

static void do_pread(int process)
{
	int file = open_file("large");
	char data[PAGE];

	for (long i = 0; i < ROUNDS; i++)
		if (pread(file, data, sizeof(data), (i * 7919 + process) * PAGE % LARGE) != PAGE)
			err(1, "large");
	close(file);
}

static void do_list(int process)
{
	(void)process;
	for (int i = 0; i < 4; i++) {
		DIR *directory = opendir("many");
		int count = 0;

		if (!directory)
			err(1, "many");
		while (readdir(directory))
			count++;
		closedir(directory);
		if (count != FILES + 2)
			errx(1, "many: %d entries", count);
	}
}

/* Map a file, and read each of its pages. */
static void map_file(const char *name)
{
	int file = open_file(name);
	struct stat status;
	unsigned char *map;

	if (fstat(file, &status))
		err(1, "fstat");
	map = mmap(NULL, status.st_size, PROT_READ, MAP_SHARED, file, 0);
	if (map == MAP_FAILED)
		err(1, "mmap");
	for (long at = 0; at < status.st_size; at += PAGE)
		sink = map[at];
	munmap(map, status.st_size);
	close(file);
}

/* Files of a few KiB. */
static void do_map(int process)
{
	(void)process;
	for (int i = 0; i < ROUNDS; i++)
		map_file(name_of(i % 64 + 5000));
}

/* One file, which is mapped by pages. */
static void do_map_one(int process)
{
	(void)process;
	for (int i = 0; i < ROUNDS / 10; i++)
		map_file("sizes/1MiB-0");
}

static const struct {
	const char *name;
	void (*work)(int process);
} works[] = {
	{ "stat", do_stat },
	{ "read", do_read },
	{ "pread", do_pread },
	{ "list", do_list },
	{ "map", do_map },
	{ "map-one", do_map_one },
};

int main(int argc, char **argv)
{
	int processes = argc == 4 ? atoi(argv[3]) : 0, start[2], failed = 0, status;
	void (*work)(int process) = NULL;
	char byte;

	for (size_t i = 0; i < sizeof(works) / sizeof(works[0]); i++)
		if (argc == 4 && !strcmp(argv[1], works[i].name))
			work = works[i].work;
	if (!work || processes < 1 || processes > FILES / ROUNDS)
		errx(2, "usage: contend stat|read|pread|list|map|map-one DIRECTORY PROCESSES");
	if (chdir(argv[2]))
		err(1, "%s", argv[2]);
	if (pipe(start))
		err(1, "pipe");
	for (int i = 0; i < processes; i++) {
		pid_t child = fork();

		if (child < 0)
			err(1, "fork");
		if (child)
			continue;
		close(start[1]);
		/* All wait until the other end is closed. */
		if (read(start[0], &byte, 1))
			err(1, "pipe");
		work(i);
		exit(0);
	}
	close(start[1]);
	while (wait(&status) > 0)
		failed |= status;
	return failed != 0;
}
