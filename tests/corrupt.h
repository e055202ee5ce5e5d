/* SPDX-License-Identifier: GPL-2.0-only */
/* Corrupt images: mount them, and check what remains readable. */
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

/*
 * Mount @image in a child process, after making the checksums right. Return true in the child, which makes its checks
 * and calls child_is_done(). Return false in the parent, after the child has exited, with the image freed.
 */
bool in_child_with(struct image *image);

/* End the child process, after checking that files with no errors can be used. */
void child_is_done(void);

/* Check that files with no errors can be used as before. */
void rest_is_good(void);

/* Check that listing the directory @path ends with the errno @want, or 0. */
void listing_is(const char *path, int want);

/*
 * Mount an image that @damage has changed: look-up of @path must fail with @error, and the listing
 * of the directory "dir" with @listing (0: it must not fail).
 */
void entry_case(void (*damage)(struct image *image), const char *path, int error, int listing);

#endif
