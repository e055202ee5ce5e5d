// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes that map one file at the same time.
 *
 * Usage: share FILE PROCESSES. All processes are started. Then each maps all of FILE and reads a byte of each 4 KiB, one
 * after the other. All mappings are kept until the last one has read. Prints, separated by a tab, by how many KiB the
 * page tables of the machine have grown, and the page faults of each process.
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct process {
	/* The parent's ends of pipes: a byte lets the process read, and the number of its page faults comes back. */
	int start, faults;
};

/*
 * Return the kilobytes of page tables of all processes. Those in the status of each would count the tables that hugetlbfs
 * shares between processes more than once.
 */
static long page_tables(void)
{
	char line[128];
	long size = -1;
	FILE *file;

	/* Processors collect changes before they add them. Reading this file adds them. */
	file = fopen("/proc/sys/vm/stat_refresh", "r");
	if (!file)
		err(1, "/proc/sys/vm/stat_refresh");
	fgets(line, sizeof(line), file);
	fclose(file);
	file = fopen("/proc/meminfo", "r");
	if (!file)
		err(1, "/proc/meminfo");
	while (size < 0 && fgets(line, sizeof(line), file))
		if (sscanf(line, "PageTables: %ld kB", &size) != 1)
			size = -1;
	fclose(file);
	return size;
}

static long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

/* Map the file, and return the page faults that it took to read it. */
static long use(const char *name)
{
	int file = open(name, O_RDONLY);
	volatile unsigned char *map;
	struct stat status;
	long before;

	if (file < 0 || fstat(file, &status))
		err(1, "%s", name);
	map = mmap(NULL, status.st_size, PROT_READ, MAP_SHARED, file, 0);
	if (map == MAP_FAILED)
		err(1, "map %s", name);
	before = faults();
	for (off_t at = 0; at < status.st_size; at += 4096)
		(void)map[at];
	return faults() - before;
}

static struct process start_process(const char *name, const int *hold)
{
	int start[2], result[2];
	long count;
	char byte;
	pid_t child;

	if (pipe(start) || pipe(result))
		err(1, "pipe");
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (child) {
		close(start[0]);
		close(result[1]);
		return (struct process){ start[1], result[0] };
	}
	close(result[0]);
	close(hold[1]);
	if (read(start[0], &byte, 1) != 1)
		exit(1);
	count = use(name);
	if (write(result[1], &count, sizeof(count)) != sizeof(count))
		err(1, "pipe");
	close(result[1]);
	/* The other end is closed after the last process has read. */
	exit(read(hold[0], &byte, 1) != 0);
}

int main(int argc, char **argv)
{
	int count = argc == 3 ? atoi(argv[2]) : 0, hold[2];
	struct process *processes;
	long tables, all = 0, one;

	if (count < 1)
		errx(2, "usage: share FILE PROCESSES");
	processes = calloc(count, sizeof(*processes));
	if (!processes || pipe(hold))
		err(1, "pipe");
	for (int i = 0; i < count; i++)
		processes[i] = start_process(argv[1], hold);
	tables = page_tables();
	for (int i = 0; i < count; i++) {
		if (write(processes[i].start, "", 1) != 1 ||
		    read(processes[i].faults, &one, sizeof(one)) != sizeof(one))
			errx(1, "a process has failed");
		all += one;
	}
	printf("%ld\t%ld\n", page_tables() - tables, all / count);
	close(hold[1]);
	while (wait(NULL) > 0)
		;
	return 0;
}
