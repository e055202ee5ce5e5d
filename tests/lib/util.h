/* SPDX-License-Identifier: GPL-2.0-only */
/* Functions that the programs of tests share. */
#ifndef UTIL_H
#define UTIL_H

#include <fcntl.h>
#include <limits.h>
#include <linux/types.h>
#include <signal.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>

#include "ktap.h"

/* The kernel's names, which its style asks for. */
#define u8 __u8
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

/* Write text to a file, in one call. Return false if that fails. */
bool write_text(const char *path, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Return the directory that holds the test programs. */
const char *program_dir(void);

/* Open @path below @mount, which must succeed. */
int open_in(const char *mount, const char *path, int flags);

size_t page_size(void);

/* Return @size, rounded up to pages. */
size_t page_round(size_t size);

/* Fill a buffer with the content of the generated file with @seed. */
void pattern_fill(void *buffer, size_t length, u64 seed);

#endif
