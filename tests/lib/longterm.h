/* SPDX-License-Identifier: GPL-2.0-only */
/* Pins that last, by the kernel's own test of them (CONFIG_GUP_TEST). RDMA, VFIO and V4L2 pin by the same function. */
#ifndef LONGTERM_H
#define LONGTERM_H

#include "util.h"

/* Flags of longterm_pin(): the pages are written to, and the memory areas are not looked at if possible. */
#define LONGTERM_WRITE 1
#define LONGTERM_FAST 2

/* Return true if pages of DAX can be pinned for long: the kernel has scripts/changes. Then it must have this test as well. */
bool longterm_dax(void);

/* Open the test. Only root may, but a child has the file as well. */
int longterm_open(void);

/* Pin memory until the file is closed, which may pin only once. Return 0, or -1 with the errno. */
int longterm_pin(int file, const void *address, size_t length, u32 flags);

/* Copy the pinned pages to a buffer. Return 0, or -1 with the errno. */
int longterm_read(int file, void *buffer);

#endif
