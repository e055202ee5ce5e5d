/* SPDX-License-Identifier: GPL-2.0-only */
/* One use of an image that may be damaged: it is mounted, used by several processes, and unmounted. */
#ifndef ROUND_H
#define ROUND_H

#include "source.h"
#include "walker.h"

#define WALKERS 3

struct round {
	/* The memory. */
	const struct source *source;
	/* A block device that has the same memory, for sources that are devices. */
	const char *door;
	/* All that is random depends on this. */
	u64 number;
	/* Damage the image; write to the memory while it is mounted; let allocations fail. */
	bool damaged, written, starving;
	/* While allocations fail, spare the mount's. */
	bool fed_mount;
	/* Mount without comparing the checksum of the metadata. */
	bool unchecked;
	/* Mount with verify=lazy. The image must be good and have sums. */
	bool lazy;
	/* Steps of each walker, and its counts. */
	unsigned int steps;
	struct walk_counts *counts;
	/* A disturbance, which runs in a separate process next to the walkers, and ends before unmount. */
	void (*disturb)(const struct round *round);
	/* A walker may be killed, for example when memory is short. */
	bool deadly;
};

/* Where images are mounted, and the image before any damage, with memory after it that belongs to no file. */
extern const char *round_mnt;
extern struct image round_image;

/* Find room to mount on, and prepare @image. Call once, before the first point. */
void round_init(const struct image *image);

/* Write the good image to the device @door, with what follows it. */
void round_fill(const char *door);

/* After round_fill(): return true if someone else changes the tables within @seconds. */
bool round_changes(const char *door, double seconds);

enum round_result { ROUND_FAILED, ROUND_REFUSED, ROUND_USED };

/* Do a round. */
enum round_result round_run(const struct round *round);

#endif
