// SPDX-License-Identifier: GPL-2.0
/*
 * Memory fails, on every source: loads from a mapping of the page get SIGBUS and reads EIO, now and
 * after the next mount; all else stays. The pages remain bad, so this comes last.
 */
#include "device.h"
#include "image.h"
#include "ktap.h"
#include "mapped.h"
#include "source.h"
#include "util.h"

static const struct source *source;
static struct image image;
static const char *mnt;

static void memory_fails(void)
{
	int error;

	skip_if_stuck();
	error = page_fails(source, &image, mnt);
	if (error)
		SKIP("the kernel cannot have this memory fail (%s)", strerror(error));
}

static bool any(const struct source *source)
{
	return true;
}

int main(void)
{
	static const struct ktap_test tests[] = {
		{ "a page fails", memory_fails },
	};

	mnt = private_mount_point();
	if (!sources_image(&image))
		ktap_skip_all("needs sources.daxfs in DAXFS_IMAGES");
	return run_on_sources(tests, ARRAY_SIZE(tests), any, &image, &source);
}
