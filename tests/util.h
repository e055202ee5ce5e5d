/* SPDX-License-Identifier: GPL-2.0 */
/* What several test programs share. */
#ifndef UTIL_H
#define UTIL_H

#include <limits.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The kernel's names, which its style asks for. */
#define u8 __u8
#define u32 __u32
#define u64 __u64
#define s64 __s64
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#ifndef EFSCORRUPTED
#define EFSCORRUPTED EUCLEAN
#endif

#define DAXFS_STATFS_MAGIC 0x66786164 /* "daxf" */
#define HUGE_SIZE (2UL << 20)

/* Directory for everything that the tests write; tests/fixture makes it. */
const char *work_dir(void);

/* The directory that holds the test programs. */
const char *program_dir(void);

/*
 * Puts image @name where it can be mounted (see tests/fixture) and mounts it on a directory that
 * only this process and its children see; ends the program as skipped where that is impossible.
 * Returns the mount point; the mount goes away with the processes.
 */
const char *fixture_mount(const char *name);

/*
 * Whether the image is not served by the module: the test fuse has mounted it, on the directory in
 * the environment variable DAXFS_ON_FUSE.
 */
bool on_fuse(void);

/* The block device of the last fixture_mount() or fixture_device(). */
const char *fixture_device(const char *name);

/* Detaches the process from the machine's mounts and returns an empty directory to mount on. */
const char *private_mount_point(void);

/* Opens @path below @mount, which must succeed. */
int open_in(const char *mount, const char *path, int flags);

/* Addresses where nothing is: a small one and a kernel address. */
extern char *nowhere, *nowhere_in_kernel;

/* The size sysconf() calls the page size. */
size_t page_size(void);

/* Content of generated files: byte @offset of the file with @seed. */
u8 pattern_byte(u64 seed, u64 offset);
void pattern_fill(void *buffer, size_t length, u64 seed, u64 offset);

/* Whether @buffer holds that content. */
bool pattern_matches(const void *buffer, size_t length, u64 seed, u64 offset);

/* Whether @length bytes at @buffer are zero. */
bool all_zero(const void *buffer, size_t length);

/* A name of directory "many" number @index of @count; 100,000 of them make the large directory. */
void many_name(char name[NAME_MAX + 1], unsigned int index);

/*
 * A loop device of @size bytes, or over the file @backing if that is not negative, opened with
 * @flags; -1 if there are no loop devices. @path takes its name, if not NULL. It goes away when it
 * is closed.
 */
int loop_device(int backing, size_t size, int flags, char path[32]);

/* The kernel log, from now on. */
int kmsg_open(void);

/*
 * Counts the records since the last call that contain @needle; copies the last such message to
 * @line, if that is not NULL.
 */
unsigned int kmsg_count(int kmsg, const char *needle, char *line, size_t size);

/*
 * How often to repeat what is better the more often it is done: @times, or an eighth of that where
 * DAXFS_SLOW says that the kernel is one that checks itself.
 */
int repeats(int times);

/* The page frames that @count pages at @address are mapped to; 0 where nothing is, or nobody may know. */
void page_frames(const char *address, size_t count, u64 frames[]);

/* Page faults that loading a byte at every @step bytes takes. */
long touch_pages(const char *address, size_t length, size_t step);

/* Whether a load from @address ends a process with SIGBUS. */
bool gets_sigbus(const char *address);

/* A child that waits and shares our mappings. */
pid_t waiting_child(void);
void end_child(pid_t pid);

/* The number behind @key in a file such as /proc/meminfo; -1 if it is not there. */
long long number_in(const char *file, const char *key);

#endif
