// SPDX-License-Identifier: GPL-2.0-only
/* Memory for an image: buffers of graphics devices. */
#include <drm/drm.h>
#include <drm/drm_mode.h>
#include <drm/qxl_drm.h>
#include <sys/ioctl.h>

#include "source_make.h"

/* Open the graphics device of @driver among those in DAXFS_DRM. */
static int open_drm(const char *driver)
{
	char devices[500], name[64] = "", *device, *next = devices;

	snprintf(devices, sizeof(devices), "%s", getenv("DAXFS_DRM") ?: "");
	while ((device = strsep(&next, " "))) {
		int fd = *device ? open(device, O_RDWR | O_CLOEXEC) : -1;
		struct drm_version version = { .name = name, .name_len = sizeof(name) - 1 };

		memset(name, 0, sizeof(name));
		if (fd >= 0 && !ioctl(fd, DRM_IOCTL_VERSION, &version) && !strcmp(name, driver))
			return fd;
		close(fd);
	}
	return -1;
}

static int missing_device(const char *driver)
{
	snprintf(source_missing, sizeof(source_missing),
		 "needs a graphics device of %s in DAXFS_DRM", driver);
	return -1;
}

/* Copy @image to a buffer of @device, which is mapped at @offset there, export it and close @device. */
static int export_buffer(int device, u32 handle, u64 offset, size_t size, const struct image *image)
{
	struct drm_prime_handle prime = { .handle = handle, .flags = DRM_CLOEXEC | DRM_RDWR };
	char *address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, device, offset);

	REQUIRE(copy_image(image, address, size));
	REQUIRE(!ioctl(device, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime));
	close(device);
	return prime.fd;
}

int make_dumb(const struct source *source, const struct image *image)
{
	struct drm_mode_create_dumb create = {
		.width = 4096,
		.height = image_room(image) / (4096 * 4),
		.bpp = 32,
	};
	struct drm_mode_map_dumb map = {};
	int device = open_drm(source->argument);

	if (device < 0)
		return missing_device(source->argument);
	if (ioctl(device, DRM_IOCTL_MODE_CREATE_DUMB, &create)) {
		close(device);
		return source_is_missing("the driver does not allocate enough memory");
	}
	map.handle = create.handle;
	REQUIRE(!ioctl(device, DRM_IOCTL_MODE_MAP_DUMB, &map));
	return export_buffer(device, create.handle, map.offset, create.size, image);
}

int make_vram(const struct source *source, const struct image *image)
{
	struct drm_qxl_alloc alloc = { .size = image_room(image) };
	struct drm_qxl_map map = {};
	int device = open_drm("qxl");

	if (device < 0)
		return missing_device("qxl");
	if (ioctl(device, DRM_IOCTL_QXL_ALLOC, &alloc)) {
		close(device);
		return source_is_missing("the device does not have enough memory");
	}
	map.handle = alloc.handle;
	REQUIRE(!ioctl(device, DRM_IOCTL_QXL_MAP, &map));
	return export_buffer(device, alloc.handle, map.offset, alloc.size, image);
}
