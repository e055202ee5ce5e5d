/* SPDX-License-Identifier: GPL-2.0-only */
/* The files of the image packing.daxfs, and the points about them. */
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

/* A point, and the sources that it fits. */
struct packing_point {
	struct ktap_test test;
	bool (*fits)(const struct source *source);
};

extern const struct packing_point twin_points[], packed_points[], failure_points[];
extern const size_t twin_point_count, packed_point_count, failure_point_count;

bool any_source(const struct source *source);
bool has_huge(const struct source *source);
bool has_pages(const struct source *source);
bool has_device(const struct source *source);

/* The image, the source under test, and where it is mounted: packing.c defines them. */
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

#endif
