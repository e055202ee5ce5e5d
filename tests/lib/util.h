/* SPDX-License-Identifier: GPL-2.0-only */
/* Functions that several test programs share. */
#ifndef UTIL_H
#define UTIL_H

#include <fcntl.h>
#include <limits.h>
#include <linux/types.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>

#include "ktap.h"

/* The kernel's names, which its style asks for. */
#define u8 __u8
#define u16 __u16
#define u32 __u32
#define u64 __u64
#define s64 __s64
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* Of <linux/mman.h>; Debian 13's C library lacks them. */
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

#define HUGE_SIZE (2UL << 20)
/* The bytes that have a SHA-256 with verify=lazy. */
#define PIECE HUGE_SIZE
/* Files in the directory "sizes" of the generated tree and of the image of sources have these sizes. */
#define MIDDLE 65537UL
#define LARGE (16UL << 20)

/* Return the directory for everything that the tests write; tests/fixture makes it. */
const char *work_dir(void);

/* Run a command of the shell. Return its exit status; its output goes to the log. */
int run_command(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Write text to a file, in one call. Return false if that fails. */
bool write_text(const char *path, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Have the kernel drop its page cache (1), dentries and inodes (2), or both (3). */
bool shrink_caches(int kind);

/* Return the directory that holds the test programs. */
const char *program_dir(void);

/*
 * Write image @name to a device (see tests/fixture) and mount it on a directory that only this
 * process and its children see. End the program as skipped if that is impossible. Return the mount
 * point; the mount goes away with the processes. If the test fuse has mounted the image, return that mount point.
 */
const char *fixture_mount(const char *name);

/* Return the block device of image @name, as tests/fixture prints it. */
const char *fixture_device(const char *name);

/* Detach the process from the machine's mounts. Return an empty directory to mount on. */
const char *private_mount_point(void);

/* Open @path below @mount, which must succeed. */
int open_in(const char *mount, const char *path, int flags);

/* Return the options of the mount on @dir in /proc/mounts, or "". The text changes with the next call. */
const char *mount_options(const char *dir);

/* Return the counter @name of the image mounted on @mount. */
long long counter_of(const char *mount, const char *name);

/* Open the file of @size bytes in the directory "sizes" of the generated tree. */
int open_size(const char *mount, u64 size, int flags);

/* Map that file, or @length bytes of it. */
char *map_size(const char *mount, u64 size, int protection, int flags);
char *map_length(const char *mount, u64 size, size_t length, int protection, int flags);

/* Return the page size. */
size_t page_size(void);

/* hugetlb's pages of 2 MiB, which need not be the default size. */
#define HUGE_PAGES "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
#define HUGE_PAGES_FREE "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"
#define MFD_HUGE_PAGES (MFD_HUGETLB | 21U << 26)

/* Return true if the kernel maps with entries of 2 MiB. No image is aligned for larger ones. */
bool has_huge_mappings(void);

/* Return @size, rounded up to pages. The blocks of the image that tests mount have the size of a page. */
size_t page_round(size_t size);

/* The content of generated files: byte @offset of the file with @seed. */
u8 pattern_byte(u64 seed, u64 offset);
void pattern_fill(void *buffer, size_t length, u64 seed, u64 offset);

/* Return true if @buffer holds that content. */
bool pattern_matches(const void *buffer, size_t length, u64 seed, u64 offset);

/*
 * The same for some bytes of each page, for checks that pages are where they belong: comparing all
 * bytes of a large file takes long, and each point about the content itself does it.
 */
bool pattern_in_pages(const void *buffer, size_t length, u64 seed, u64 offset);

/* Return true if @fd starts with @length bytes of the pattern with @seed, from @offset on. */
bool holds(int fd, u64 seed, u64 offset, size_t length);

/* Return a file without a name, on the filesystem of work_dir(). */
int scratch_file(void);

/* Return true if @length bytes at @buffer are zero. */
bool all_zero(const void *buffer, size_t length);

/*
 * Open, with @flags, a loop device of @size bytes, or over the file @backing if that is not
 * negative. Return -1 without loop devices. If @path is not NULL, copy the device's name to it. The
 * device goes away when it is closed.
 */
int loop_device(int backing, size_t size, int flags, char path[32]);

/* Open the kernel's log, to read records from now on. */
int kmsg_open(void);

/*
 * Count the records since the last call that contain @needle. If @line is not NULL, copy the last
 * of them to it.
 */
unsigned int kmsg_count(int kmsg, const char *needle, char *line, size_t size);

/*
 * Return a number of repetitions: @times, or an eighth of it if DAXFS_SLOW says that the kernel has
 * checkers, which make it slow.
 */
int repeats(int times);

/*
 * Find the page frames of @count pages at @address; 0 for pages that are not mapped or not shown.
 */
void page_frames(const char *address, size_t count, u64 frames[]);

/* Load a byte at every @step bytes. Return the number of page faults that this took. */
long touch_pages(const char *address, size_t length, size_t step);

/* Return true if a load from @address, or a store, ends a process with SIGBUS. */
bool access_gets_sigbus(const char *address, bool store);
#define gets_sigbus(address) access_gets_sigbus(address, false)
#define store_gets_sigbus(address) access_gets_sigbus(address, true)

/* Return @size bytes of zeros that this process and its children share. */
void *shared_memory(size_t size);

/* Return the number after @key in a file such as /proc/meminfo; -1 if it is missing. */
long long number_in(const char *file, const char *key);

#endif
