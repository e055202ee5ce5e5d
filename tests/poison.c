// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page of memory fails, on every source: loads from mappings of the page get SIGBUS and reads
 * get EIO, now and after the next mount; all other data stays readable. It runs after the others,
 * since the pages stay poisoned.
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
	int error;

	skip_if_stuck();
	error = page_fails(source, &image, mnt);
	if (error)
		SKIP("the kernel cannot make this memory fail (%s)", strerror(error));
}

static bool any(const struct source *source)
{
	return true;
}

int main(void)
{
	mnt = private_mount_point();
	image = sources_image();
	return run_on_sources(any, &image, &source);
}
