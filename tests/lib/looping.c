// SPDX-License-Identifier: GPL-2.0-only
/*
 * Report tasks that loop in the kernel: looping SECONDS. The kernel reports tasks that wait or that keep a processor
 * for themselves, but not these, which a signal could kill. Report a task that has taken so many seconds of system time
 * without sleeping and with no user time, or in page faults that lead nowhere. Write to the kernel's log.
 */
#include <ctype.h>
#include <dirent.h>
#include <sched.h>

#include "util.h"

#define TASKS 32768
#define KERNEL_THREAD 0x00200000
#define IO_WORKER 0x00000010
/* The user time of a task that does nothing else, as a part of its system time. The kernel's figures are rounded. */
#define USER_PART 500
/* The same with page faults, and how many in a second. */
#define FAULTING_PART 20
#define FAULTS 500

struct times {
	u64 started, user, system, faults;
};

/* The times of a task when it was last seen to do something else. */
static struct task {
	int id;
	bool reported;
	struct times times;
} tasks[TASKS];

static long ticks;
static double limit;

/* A writer who opens the log once is limited to ten lines. */
static void say(const char *line)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	char record[300];

	snprintf(record, sizeof(record), "<3>daxfs-vm: %s", line);
	if (fd < 0 || write(fd, record, strlen(record)) < 0)
		perror("looping");
	close(fd);
}

/* Log where a running task is. Its processor has to leave it for that. */
static void say_stack(const char *directory, int processor)
{
	const struct sched_param first = { .sched_priority = 1 }, none = {};
	char path[300], line[200];
	cpu_set_t set;
	int lines = 0;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	sched_setscheduler(0, SCHED_FIFO, &first);
	sched_setaffinity(0, sizeof(set), &set);
	snprintf(path, sizeof(path), "%s/stack", directory);
	for (int tries = 0; !lines && tries < 50; tries++) {
		FILE *stack = fopen(path, "re");

		while (stack && fgets(line, sizeof(line), stack)) {
			line[strcspn(line, "\n")] = 0;
			say(line);
			lines++;
		}
		if (stack)
			fclose(stack);
		usleep(10000);
	}
	for (int i = 0; i < CPU_SETSIZE; i++)
		CPU_SET(i, &set);
	sched_setaffinity(0, sizeof(set), &set);
	sched_setscheduler(0, SCHED_OTHER, &none);
}

/* Return true if all that the task has done since @then is to loop in the kernel. */
static bool loops(const struct times *then, const struct times *now)
{
	u64 user = now->user - then->user, system = now->system - then->system;

	return user <= 1 + system / USER_PART ||
	       (user <= system / FAULTING_PART && (now->faults - then->faults) * ticks >= FAULTS * system);
}

static void look_at(const char *directory, int id)
{
	struct task *task = &tasks[id % TASKS];
	struct times now = {};
	u64 minor, major;
	unsigned int flags;
	char path[300], text[600], name[32], line[100], *rest, state;
	int fd, processor = 0;
	ssize_t length;

	snprintf(path, sizeof(path), "%s/stat", directory);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	close(fd);
	if (length <= 0)
		return;
	text[length] = 0;
	rest = strrchr(text, ')');
	if (!rest || sscanf(text, "%*d (%31[^)]", name) != 1)
		return;
	if (sscanf(rest, ") %c %*d %*d %*d %*d %*d %u %llu %*u %llu %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu", &state,
		   &flags, &minor, &major, &now.user, &now.system, &now.started) != 7)
		return;
	now.faults = minor + major;
	if (flags & (KERNEL_THREAD | IO_WORKER))
		return;
	if (task->id != id || task->times.started != now.started || state != 'R' || !loops(&task->times, &now)) {
		*task = (struct task){ .id = id, .times = now };
		return;
	}
	if (task->reported || now.system - task->times.system < limit * ticks)
		return;
	task->reported = true;
	/* The 39th field. */
	for (int field = 2; field < 39 && rest; field++)
		rest = strchr(rest + 1, ' ');
	processor = rest ? atoi(rest) : 0;
	snprintf(line, sizeof(line), "system time: %s:%d has been in the kernel for more than %.0f s, and took %llu page faults",
		 name, id, limit, now.faults - task->times.faults);
	say(line);
	say_stack(directory, processor);
}

static void look_at_all(const char *directory, bool threads)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;
	char path[280];

	while (dir && (entry = readdir(dir))) {
		if (!isdigit(*entry->d_name))
			continue;
		snprintf(path, sizeof(path), "%s/%s%s", directory, entry->d_name, threads ? "" : "/task");
		if (threads)
			look_at(path, atoi(entry->d_name));
		else
			look_at_all(path, true);
	}
	if (dir)
		closedir(dir);
}

/* Return the system time of all processors, in ticks. */
static u64 system_time(void)
{
	FILE *file = fopen("/proc/stat", "re");
	u64 time = 0;

	if (file && fscanf(file, "cpu %*u %*u %llu", &time) != 1)
		time = 0;
	if (file)
		fclose(file);
	return time;
}

int main(int argc, char **argv)
{
	u64 before = 0, now;

	limit = argc == 2 ? strtod(argv[1], NULL) : 0;
	if (limit <= 0) {
		fprintf(stderr, "Usage: looping SECONDS\n");
		return 2;
	}
	ticks = sysconf(_SC_CLK_TCK);
	for (;;) {
		now = system_time();
		/* With less, no task takes that much: do not look at each. */
		if (now - before >= (u64)ticks / 10)
			look_at_all("/proc", false);
		before = now;
		sleep(1);
	}
}
