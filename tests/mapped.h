/* SPDX-License-Identifier: GPL-2.0 */
/* Mapped files of the image sources.daxfs, and what happens to their memory. */
#ifndef MAPPED_H
#define MAPPED_H

#include <stdbool.h>

#include "source.h"

struct mapped {
	char *large, *middle, *private;
};

/* Map files below @dir and touch their pages; one of the private mapping becomes the process's. */
void mapped_open(struct mapped *files, const char *dir);

/* Check that the mappings have the content of the files. */
void mapped_check(const struct mapped *files);

/* Check that loads get SIGBUS, but not from the page that is the process's. */
void mapped_check_gone(const struct mapped *files);

void mapped_close(const struct mapped *files);

/* Check that files below @dir are read, mapped and copied on write as they should be. */
void good_files(const char *dir);

/* Take all pages from a memfd that has a size of @size. */
void punch_memfd(int memfd, size_t size);

/* Kilobytes that are free, or would be at once, also as huge pages. */
long long available_memory(void);

/* Check that soon no more than @less kilobytes are missing from what was available @before. */
void check_available(long long before, long long less);

/*
 * Mount @source with @image on @dir, and have a page of a mapped file fail. Check that
 * loads from the mapped page get SIGBUS and reads EIO, now and after the next mount; then unmount.
 * Returns 0, or an errno if the kernel cannot have this memory fail. The page remains bad.
 */
int page_fails(const struct source *source, const struct image *image, const char *dir);

#endif
