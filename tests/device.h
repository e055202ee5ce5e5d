/* SPDX-License-Identifier: GPL-2.0 */
/* Devices that lose their driver, and calls that may block for ever. */
#ifndef DEVICE_H
#define DEVICE_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "ktap.h"
#include "source.h"

struct device {
	/* The driver's directory in sysfs, and what that calls the device. */
	char driver[PATH_MAX], name[NAME_MAX + 1];
	/* The node in /dev. */
	const char *node;
};

/* Find the driver of @source's device, which make() has found. */
void device_find(const struct source *source, struct device *device);

/* Take the device away from its driver. */
bool device_unbind(const struct device *device);

/* Give it back, and wait for its node. */
bool device_bind(const struct device *device);

/*
 * Run @run in a child of which nothing is waited for: it has no standard output, which the caller's
 * caller reads to the end. The child's exit status is what @run returns.
 */
pid_t background(int (*run)(void *argument), void *argument);

/* As background(), as an ordinary user. */
pid_t background_user(int (*run)(void *argument), void *argument);

/* The wait status of @pid, or -1 if it does not end within @seconds. */
int ends_within(pid_t pid, double seconds);

/* Seconds that anything may take that has nothing to wait for. */
int limit(void);

/* The wait status of @pid, which ends within the limit: if not, this point fails, and all others. */
int reaped(const char *what, pid_t pid);

/* The exit status of @run, which ends within the limit and by itself. */
int bounded(const char *what, int (*run)(void *argument), void *argument);

/* Mount @source's device on @dir, unmount @dir, sync(2), within the limit; the result is an errno. */
int bounded_mount(const struct source *source, const char *dir);
int bounded_umount(const char *dir);
int bounded_sync(void);
int bounded_unbind(const struct device *device);

/* Begin to take the device away; the child's exit status is 0 if that worked. */
pid_t begin_unbind(const struct device *device);

/* Drop the caches of inodes and dentries @times times, within the limit. */
void bounded_drop_caches(int times);

/* Skip the point if an earlier one has left something blocked. */
void skip_if_stuck(void);

/* Called before the first point, unless run_on_sources() is. */
void device_init(void);

/*
 * Run the points on every source that is there and that @wanted picks, with *@source set to it.
 * Returns the exit status.
 */
int run_on_sources(const struct ktap_test *tests, size_t count,
		   bool (*wanted)(const struct source *source), const struct image *image,
		   const struct source **source);

/* Seconds since some moment. */
double now(void);

/* Sleep for @seconds, whatever signals come. */
void rest(double seconds);

#endif
