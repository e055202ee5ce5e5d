/* SPDX-License-Identifier: GPL-2.0-only */
/* Make memory of each kind; see make() in source.h. For source.c only. */
#ifndef SOURCE_MAKE_H
#define SOURCE_MAKE_H

#include "source.h"

/* The arguments of make_memfd() and make_udmabuf(). */
extern const int memfd_plain, memfd_thp, memfd_hugetlb, memfd_shuffled;

int make_memfd(const struct source *source, const struct image *image);
int make_udmabuf(const struct source *source, const struct image *image);

int make_heap(const struct source *source, const struct image *image);

/* A buffer of the graphics driver that the argument names, and one in qxl's own memory. */
int make_dumb(const struct source *source, const struct image *image);
int make_vram(const struct source *source, const struct image *image);

/* Where make_udmabuf() stores the memfd of the dma-buf. If NULL, it closes the memfd. */
extern int *owner_wanted;

/* Set source_missing and return -1. */
int source_is_missing(const char *reason);

/* Copy @image to @address, of @size bytes, and unmap that; false if it is MAP_FAILED. */
bool copy_image(const struct image *image, char *address, size_t size);

#endif
