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

/* Fill @length bytes at @address, a multiple of MARKER_SIZE from the start of the memory, with MARKER. */
void marker_fill(char *address, size_t length);

/*
 * Do @steps random things with what is below @dir: list, look up, read, map, write to private
 * mappings, splice, execute, io_uring, extended attributes, file handles. Which ones depends on @seed
 * alone. Errors and SIGBUS are the right answers to damage; MARKER and names that no directory can
 * have fail the point. Changes the working directory and the handling of SIGBUS.
 */
void walk_at_random(const char *dir, u64 seed, unsigned int steps);

#endif
