/* SPDX-License-Identifier: GPL-2.0-only */
/* Use of a directory tree about which nothing is known: it may be damaged, and may change at any time. */
#ifndef WALKER_H
#define WALKER_H

#include "util.h"

/*
 * The bytes that follow an image in its memory, again and again. They belong to no file, so no system
 * call and no mapping may show them.
 */
#define MARKER "<not in a file!>"
#define MARKER_SIZE 16

struct walk {
	const char *dir;
	/* Its steps depend only on this. */
	u64 seed;
	/* Let allocations of the walker fail, where the kernel can do that. */
	bool starving;
	/* How many steps each has done, in memory that is shared with them. */
	u64 *steps;
};

/* Fill @length bytes at @address, a multiple of MARKER_SIZE from the start of the memory, with MARKER. */
void marker_fill(char *address, size_t length);

/*
 * Start a process that does random things below a directory: list, look up, read, map, write to
 * private mappings, execute, extended attributes, file handles. Number 0 is root,
 * all others are ordinary users. Errors and SIGBUS are the right answers to damage; MARKER and names
 * that no directory can have fail the point.
 */
pid_t walker_start(const struct walk *walk, int number);

/*
 * Wait for this process. Return its wait status, or -1 after a step that takes 10 s (75 s with
 * DAXFS_SLOW), which fails the point.
 */
int walker_end(const struct walk *walk, int number, pid_t pid);

/* Let the allocations of this process and of those that it starts fail, or not. False: impossible. */
bool starve(bool on);

#endif
