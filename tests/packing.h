/* SPDX-License-Identifier: GPL-2.0-only */
/* The files of the image packing.daxfs, for the tests of packing. */
#ifndef PACKING_H
#define PACKING_H

#include "image.h"
#include "source.h"
#include "util.h"

/* Three files of each size: SIZE.a and SIZE.b with the same content, SIZE.c with another. */
#define SMALL (5 * 65536UL)
#define TWO_HUGE (2 * HUGE_SIZE)
/* Less than two pages before 2 MiB, and a page that other files may share. */
#define TAILED (TWO_HUGE + HUGE_SIZE - 6096)
/* The same, with whole pages before that one on every kernel. */
#define ENDED (3 * 65536UL + 2000)
#define MEDIUM 10000UL
#define SHORT 300UL

/* Small files: their number, and how many bytes each is larger than the one before. */
#define PACKED 60
#define STEP 67

extern const u64 twins[];
extern const size_t twin_sizes;

/* The image, the source under test, and where it is mounted. */
extern struct image image;
extern const struct source *source;
extern const char *mnt;

/* Open, or map, the file @which of @size bytes. */
int open_twin(u64 size, char which);
char *map_twin(u64 size, char which);

/* Check in the image that the last page of a file is one that holds bytes of other files, too. */
bool is_packed(u64 size, char which);

int open_packed(unsigned int number);

/* Map @fd and close it. */
char *map(int fd, size_t length, int protection, int flags);

/* The page frame at @address; 0 if it is not known. */
u64 frame_at(const char *address);

/* The source is mapped with entries of 2 MiB, has pages, or is a device with pages. */
bool has_huge(void);
bool has_pages(void);
bool has_device(void);

/* Mount the source, and unmount it. */
void packing_mount(void);
void packing_unmount(void);

/* Run the points on all sources. Return the exit status. */
int run_packing(void);

#endif
