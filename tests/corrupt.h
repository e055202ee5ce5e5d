/* SPDX-License-Identifier: GPL-2.0-only */
/* Corrupt images that are mounted. */
#ifndef CORRUPT_H
#define CORRUPT_H

#include "image.h"

/* The device for images, where it is mounted, and an image with no errors. */
extern const char *device, *mnt;
extern struct image good;

/* Find the device and load the image. Called once, before the first point. */
void corrupt_init(void);

/* Write @image to the device and mount it, for this process only, which changes to its root. */
void mount_image(const struct image *image);

/* The same after making the checksums right. */
void seal_and_mount(struct image *image);

#endif
