/* SPDX-License-Identifier: GPL-2.0-only */
/* Devices that lose their driver, and calls that may block for ever. */
#ifndef DEVICE_H
#define DEVICE_H

#include "source.h"

struct device {
	/* The driver's directory in sysfs, and the device's name there. */
	char driver[PATH_MAX], name[NAME_MAX + 1];
	/* The node in /dev. */
	const char *node;
};

/* Find the driver of @source's device. make() must have found the device. */
void device_find(const struct source *source, struct device *device);

/* Unbind the device from its driver. */
bool device_unbind(const struct device *device);

/* Bind the device to its driver, and wait for its node. Return false if it does not appear within 3 s. */
bool device_bind(const struct device *device);

/*
 * Run @run in a child that exits with what @run returns. The child does not have the standard
 * output: tests/run reads that to its end, and would wait for a child that is stuck. Its output comes at the end of the
 * point.
 */
pid_t background(int (*run)(void *argument), void *argument);

/* Become an ordinary user, who has a user namespace and is root there. */
void become_user(uid_t user);

/* As background(), as an ordinary user in a user namespace. */
pid_t background_user(int (*run)(void *argument), void *argument);

/* Wait for @pid. Return its wait status, or -1 if it does not end within @seconds. */
int ends_within(pid_t pid, double seconds);

/* Print where in the kernel @pid is. */
void print_stack(pid_t pid);

/* The seconds after which a call that should not block is taken for stuck. */
int limit(void);

/*
 * Wait for @pid and return its wait status. If it exceeds the limit, this point fails and later
 * ones are skipped.
 */
int reaped(const char *what, pid_t pid);

/* Run @run in a child. Return its exit status; it must exit within the limit. */
int bounded(const char *what, int (*run)(void *argument), void *argument);

/* Mount @source's device on @dir, unmount @dir, sync(2), each within the limit. Return 0 or an errno. */
int bounded_mount(const struct source *source, const char *dir);
int bounded_umount(const char *dir);
int bounded_sync(void);

/*
 * Unmount @dir within the limit, where processes have just ended. A kernel thread that was looking at the memory of
 * such a process (khugepaged, ksmd) releases its files later, and umount(2) fails with EBUSY until then.
 */
int bounded_umount_when_free(const char *dir);

/* Unbind the device in a child that exits with 0 if that worked. */
pid_t begin_unbind(const struct device *device);

/* Drop the caches of inodes and dentries @times times, within the limit. */
void bounded_drop_caches(int times);

/* Skip the point if an earlier one has left something blocked. */
void skip_if_stuck(void);

/* To be called before the first point, unless run_on_sources() is. */
void device_init(void);

/*
 * Run the points on every available source, or on those that @wanted picks, with *@source set to it. Return the exit
 * status.
 */
int run_on_sources(bool (*wanted)(const struct source *source), const struct image *image,
		   const struct source **source);

/* Return the seconds of a clock that never goes back. */
double now(void);

/* Sleep for @seconds, even if signals arrive. */
void rest(double seconds);

#endif
