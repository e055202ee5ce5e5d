// SPDX-License-Identifier: GPL-2.0-only
/* Corrupt images that are mounted. */
#include <sched.h>

#include "corrupt.h"

const char *device, *mnt;
struct image good;

void corrupt_init(void)
{
	device = fixture_device("scratch");
	mnt = private_mount_point();
	good = image_load_small();
}

void mount_image(const struct image *image)
{
	image_write(image, device);
	REQUIRE(!unshare(CLONE_NEWNS));
	REQUIRE(!mount(device, mnt, "daxfs", MS_RDONLY, NULL));
	REQUIRE(!chdir(mnt));
}

void seal_and_mount(struct image *image)
{
	image_seal(image);
	mount_image(image);
}
