/* SPDX-License-Identifier: GPL-2.0-only */
/* The kinds of memory that an image can be mounted from. */
#ifndef SOURCE_H
#define SOURCE_H

#include "image.h"

/* The largest number of sources. */
#define SOURCE_MAX 16

struct source {
	const char *name;
	/* The fsconfig() parameter that takes the file descriptor, or NULL. */
	const char *key;
	/* The option that /proc/mounts must show. */
	const char *shown;
	/*
	 * Make memory that holds @image. Return a file descriptor, or 0 if the source needs none;
	 * -1 if the machine has no such source, with the reason in source_missing.
	 */
	int (*make)(const struct source *source, const struct image *image);
	const void *argument;
	/* The module that exports the memory, if one does. */
	const char *module;
	/* Direct I/O, ptrace and the like can pin the pages of mappings. */
	bool pages;
	/* The memory is contiguous, so that large files are mapped with 2 MiB entries where the kernel has those. */
	bool huge;
	/* The memory can be mounted several times at once. */
	bool shared;
};

extern const struct source sources[];
extern const size_t source_count;
extern char source_missing[200];

/* Return the source of this name, which must be one of sources. */
const struct source *source_named(const char *name);

/* As source->make(); *@owner is the memfd with the pages of a dma-buf, or -1. */
int source_make_owned(const struct source *source, const struct image *image, int *owner);

/*
 * Set up a mount of @source. @fd is what its make() returned, and may be closed afterwards. Return
 * the file descriptor of the mount context.
 */
int source_context(const struct source *source, int fd);

/*
 * Make memory with @image and mount it on @dir. The descriptor of the memory is closed before the
 * mount. Return false if the machine has no such source.
 */
bool source_mount(const struct source *source, const struct image *image, const char *dir);

/* Open a mount context. If @key is not NULL, set that parameter to a text. Both must succeed. */
int context_new(const char *key, const char *value);

/*
 * Set options such as "digest=0123,verify=lazy"; those without "=" are flags. Return 0 or an errno. An empty text is
 * no option.
 */
int context_options(int context, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Mount @context on @dir with more @options. Return 0 or an errno. */
int context_mount_with(int context, const char *dir, const char *options);

/* Remount @dir with the calls that mount(8) makes. Return 0 or an errno. */
int context_remount(const char *dir, const char *options);

/* Check that an error is the @wanted one and that the log of the context has @text. */
bool check_refused(int error, int wanted, const char *text);

/*
 * Mount what @context describes on @dir. Return true, or false with the error in errno and the
 * messages in context_log.
 */
bool context_mount(int context, const char *dir);
extern char context_log[4000];

/* Call fsconfig(). Return 0 or the errno, with the messages of the log in context_log. */
int context_set(int context, unsigned int command, const char *key, const void *value, int aux);

/* Have the kernel reserve free huge pages for @size bytes. Return 0, or -1 with the reason in source_missing. */
int reserve_huge_pages(size_t size);

/* Create a memfd of @size bytes with @image at its start, and with these flags and seals. */
int memfd_with(const struct image *image, size_t size, unsigned int flags, int seals);

/* Return true if large files are mapped with 2 MiB entries. */
bool source_maps_huge(const struct source *source);

/* Return true if the source is a device in DAXFS_DEVS. */
bool source_is_device(const struct source *source);

/* Return the device that make() found. */
const char *source_device(const struct source *source);

/* Return true for one source of each way to map, which are DAX, pages, frames, I/O memory. */
bool source_stands_for_way(const struct source *source);

/* Return true for one source of each way where the kernel is slow, elsewhere unless daxfs maps @source as another one. */
bool source_is_distinct(const struct source *source);

/*
 * Load the image that tests/images makes of mktree's tree @name, or make it with mkdaxfs and these @options. End the
 * program as skipped without it.
 */
struct image image_named(const char *name, const char *options);

/* The same, for tests of memory sources. */
struct image sources_image(void);

/* Return the size of an image and of the sums after it, rounded up to pages. */
size_t image_length(const struct image *image);

/* Return the same, rounded up to pages of 2 MiB. */
size_t image_room(const struct image *image);

#endif
