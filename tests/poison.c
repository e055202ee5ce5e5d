// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page of memory fails, on every source: loads from mappings of the page get SIGBUS and reads
 * get EIO, now and after the next mount; all other data stays readable. A device that is bound again, and the module
 * that is loaded again, know nothing of it. It runs after the others, since pages of buffers stay poisoned.
 *
 * Group: memory
 * Order: 8
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,reserve,pci=sources.daxfs drm share
 */
#include "device.h"
#include "mapped.h"

static const struct source *source;
static struct image image;
static const char *mnt;

POINT(memory_fails, "a page fails")
{
	struct device device = {};
	int error;

	skip_if_stuck();
	error = page_fails(source, &image, mnt);
	if (error == EINVAL)
		SKIP("needs CONFIG_MEMORY_FAILURE");
	if (error) {
		/* The page lacks a struct page. */
		CHECK_EQ(error, ENXIO);
		SKIP("the kernel cannot make this memory fail (%s)", strerror(error));
	}
	if (source_is_device(source))
		device_find(source, &device);
	bring_back(source, &device, true);
	REQUIRE(source_mount(source, &image, mnt));
	good_files(mnt);
	CHECK_EQ(bounded_umount(mnt), 0);
}

int main(void)
{
	mnt = private_mount_point();
	image = sources_image();
	return run_on_sources(source_stands_for_way, &image, &source);
}
