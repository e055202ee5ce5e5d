/* SPDX-License-Identifier: GPL-2.0 */
/* The kinds of memory that an image can be mounted from. */
#ifndef SOURCE_H
#define SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "image.h"

/* How many sources there are, at most. */
#define SOURCE_MAX 16

struct source {
	const char *name;
	/* The fsconfig() parameter that takes the file descriptor; NULL if there is none. */
	const char *key;
	/* What /proc/mounts must say of it. */
	const char *shown;
	/*
	 * Makes memory that holds @image: returns a file descriptor, or 0 if the source needs none.
	 * Returns -1 where there is no such source, with the reason in source_missing.
	 */
	int (*make)(const struct source *source, const struct image *image);
	const void *argument;
	/* The module that exports the memory, if one does. */
	const char *module;
	/* Whether direct I/O, ptrace and the like can hold the pages of mappings. */
	bool pages;
	/* Whether the memory is contiguous, so that large files are mapped with 2 MiB entries. */
	bool huge;
	/* Whether several mounts can have it at once. */
	bool shared;
};

extern const struct source sources[];
extern const size_t source_count;
extern char source_missing[200];

/* As source->make(); *@owner is the memfd whose pages a dma-buf has, or -1. */
int source_make_owned(const struct source *source, const struct image *image, int *owner);

/*
 * Sets up a mount of @source; @fd is what its make() returned, and not needed any more afterwards.
 * Returns the file descriptor of the mount context.
 */
int source_context(const struct source *source, int fd);

/*
 * Makes memory with @image and mounts it on @dir. The descriptor of the memory is closed before the
 * image is read. Returns false if there is no such source.
 */
bool source_mount(const struct source *source, const struct image *image, const char *dir);

/* Attaches the mount that @context describes; the error is in errno, its text in context_log. */
bool context_mount(int context, const char *dir);
extern char context_log[4000];

/* One fsconfig() call; returns 0 or the errno, and what the log says then in context_log. */
int context_set(int context, unsigned int command, const char *key, const void *value, int aux);

/* Memory of @size bytes, with the @image at its start, and with these flags and seals. */
int memfd_with(const struct image *image, size_t size, unsigned int flags, int seals);

/* Whether it is a device in DAXFS_DEVS. */
bool source_is_device(const struct source *source);

/* The device that make() found. */
const char *source_device(const struct source *source);

/* Load the image that tests/images makes for tests of memory sources; false if it is not there. */
bool sources_image(struct image *image);

/* The size that an image takes on memory of large pages. */
size_t image_room(const struct image *image);

#endif
