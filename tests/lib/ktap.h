/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KTAP output and kselftest exit codes for test programs.
 *
 * A program has points. Each is a function:
 *
 *	POINT(last_byte, "the last byte of a file")
 *	{
 *		...
 *	}
 *
 * Each point runs in a separate process: a fatal signal fails only that point.
 */
#ifndef KTAP_H
#define KTAP_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KTAP_PASS = 0, KTAP_FAIL = 1, KTAP_SKIP = 4 };

struct ktap_test {
	const char *name;
	void (*run)(void);
	int line;
} __attribute__((aligned(8)));

/* Define a point. ktap_run() runs all points of the program's file, from its start to its end. */
#define POINT(name, title) \
	static void ktap_do_##name(void); \
	static struct ktap_test ktap_test_##name \
		__attribute__((section("ktap_points"), used, aligned(8))) = { title, ktap_do_##name, __LINE__ }; \
	static void ktap_do_##name(void)

/* The linker defines these for a section. */
extern struct ktap_test __start_ktap_points[] __attribute__((weak));
extern struct ktap_test __stop_ktap_points[] __attribute__((weak));

/* The result of a point, in memory that it shares with its parent. */
struct ktap_point {
	bool failed;
	char skipped[200];
};

/* One for all files of a program. */
__attribute__((weak)) struct ktap_point *ktap_point;

/* Check a condition. If it does not hold, the point fails but continues. */
#define CHECK(condition) ktap_check((condition), __FILE__, __LINE__, #condition)

/* Check a condition. If it does not hold, the point fails and ends. */
#define REQUIRE(condition) \
	do { \
		if (!ktap_check((condition), __FILE__, __LINE__, #condition)) \
			_exit(KTAP_FAIL); \
	} while (0)

/* Check that two integers are equal. */
#define CHECK_EQ(got, want) \
	ktap_check_equal((long long)(got), (long long)(want), __FILE__, __LINE__, #got)

/* End the point as skipped. */
#define SKIP(...) \
	do { \
		snprintf(ktap_point->skipped, sizeof(ktap_point->skipped), __VA_ARGS__); \
		_exit(KTAP_SKIP); \
	} while (0)

static inline bool ktap_check(bool holds, const char *file, int line, const char *what)
{
	if (!holds) {
		printf("# %s:%d: expected %s (errno %d, %s)\n", file, line, what, errno,
		       strerror(errno));
		fflush(stdout);
		ktap_point->failed = true;
	}
	return holds;
}

static inline bool ktap_check_equal(long long got, long long want, const char *file, int line,
				    const char *what)
{
	if (got != want) {
		printf("# %s:%d: expected %s to be %lld, got %lld\n", file, line, what, want, got);
		fflush(stdout);
		ktap_point->failed = true;
	}
	return got == want;
}

/* Print how long a point took that started at @start, if that is a second or more. */
static inline void ktap_duration(const struct timespec *start)
{
	struct timespec now;
	double seconds;

	clock_gettime(CLOCK_MONOTONIC, &now);
	seconds = now.tv_sec - start->tv_sec + (now.tv_nsec - start->tv_nsec) / 1e9;
	if (seconds >= 1)
		printf("# took %.1f s\n", seconds);
}

static inline int ktap_one(unsigned int number, const struct ktap_test *test)
{
	struct timespec start;
	int status;
	pid_t pid;

	*ktap_point = (struct ktap_point){};
	fflush(stdout);
	clock_gettime(CLOCK_MONOTONIC, &start);
	pid = fork();
	if (pid < 0) {
		perror("# fork");
		exit(KTAP_FAIL);
	}
	if (!pid) {
		test->run();
		fflush(stdout);
		_exit(ktap_point->failed ? KTAP_FAIL : KTAP_PASS);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	ktap_duration(&start);
	if (WIFSIGNALED(status)) {
		printf("# killed by signal %d (%s)\n", WTERMSIG(status),
		       strsignal(WTERMSIG(status)));
		ktap_point->failed = true;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == KTAP_SKIP && !ktap_point->failed) {
		printf("ok %u - %s # SKIP %s\n", number, test->name, ktap_point->skipped);
		return KTAP_SKIP;
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) || ktap_point->failed) {
		printf("not ok %u - %s\n", number, test->name);
		return KTAP_FAIL;
	}
	printf("ok %u - %s\n", number, test->name);
	return KTAP_PASS;
}

static inline int ktap_compare(const void *left, const void *right)
{
	return ((const struct ktap_test *)left)->line - ((const struct ktap_test *)right)->line;
}

/* To be called before the first point, by programs that do not call ktap_run(). */
static inline void ktap_start(void)
{
	ktap_point = mmap(NULL, sizeof(*ktap_point), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ktap_point == MAP_FAILED) {
		perror("# mmap");
		exit(KTAP_FAIL);
	}
}

/* Run all points. Return the program's exit status. */
static inline int ktap_run(void)
{
	unsigned int results[KTAP_SKIP + 1] = {};
	size_t count = __stop_ktap_points - __start_ktap_points;

	qsort(__start_ktap_points, count, sizeof(*__start_ktap_points), ktap_compare);
	ktap_start();
	printf("KTAP version 1\n1..%zu\n", count);
	for (size_t i = 0; i < count; i++)
		results[ktap_one(i + 1, &__start_ktap_points[i])]++;
	printf("# totals: pass:%u fail:%u skip:%u\n", results[KTAP_PASS], results[KTAP_FAIL], results[KTAP_SKIP]);
	return results[KTAP_FAIL] ? KTAP_FAIL : results[KTAP_PASS] ? KTAP_PASS : KTAP_SKIP;
}

#endif
