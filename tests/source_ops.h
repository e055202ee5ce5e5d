/* SPDX-License-Identifier: GPL-2.0-only */
/* Operations on the files of a mounted source. */
#ifndef SOURCE_OPS_H
#define SOURCE_OPS_H

#include "source.h"

/* Sizes of files in the directory "sizes", which are also their names. */

struct operation {
	const char *name;
	void (*run)(void);
	bool unmounted;
};

extern const struct operation file_operations[];
extern const size_t file_operation_count;

/* Operations on a source's memory while files are mapped. */
extern const struct operation memory_operations[];
extern const size_t memory_operation_count;

/* Operations on a source apart from using its files. */
extern const struct operation mount_operations[];
extern const size_t mount_operation_count;

/* The tree that the image is made from. */
extern char tree[PATH_MAX];

/* The image, the source under test, and where it is mounted: the program defines them. */
extern struct image image;
extern const struct source *source;
extern const char *mnt;

/* Open the file of @size bytes. */
int open_file(u64 size, int flags);

/* Read all files with read(2) and pread(2), and check their content. */
void reads(void);

/*
 * Record the allocated resources before the first operation on a source. given_back() checks that operations have freed
 * all their allocations since.
 */
void count_now(void);
void given_back(void);

#endif
