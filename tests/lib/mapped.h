/* SPDX-License-Identifier: GPL-2.0-only */
/* Mapped files of the image sources.daxfs, and what happens to their memory. */
#ifndef MAPPED_H
#define MAPPED_H

#include "source.h"

struct device;

struct mapped {
	char *large, *middle, *private;
};

/* Map files below @dir and touch their pages. Write to one page of the private mapping. */
void mapped_open(struct mapped *files, const char *dir);

/* Check that the mappings have the content of the files. */
void mapped_check(const struct mapped *files);

void mapped_close(const struct mapped *files);

/* Check that files below @dir can be read, mapped and copied on write. */
void good_files(const char *dir);

/* Punch a hole of @size bytes, all of the memfd. */
void punch_memfd(int memfd, size_t size);

/* Resources that mounts could leak. */
struct counters {
	long long buffers, huge_pages, available, users, ranges; /* available: kB */
};

struct counters count_now(void);

/* Check that, within some seconds, no more of these are in use than @before. */
void given_back(const struct counters *before);

/*
 * Make the page at @address, in a mapping of a file on @source, fail. Return 0, or an errno if the
 * kernel cannot do that. If it may be @copied from the image, a new copy may replace the page.
 */
int page_inject(const struct source *source, char *address, bool copied);

/*
 * Make the memory of @source, which is not mounted, as good as before: bind its @device, which is @bound if pages of it
 * have failed, or load the module again. Neither knows these pages then. Buffers need nothing: each mount has another.
 */
void bring_back(const struct source *source, const struct device *device, bool bound);

#endif
