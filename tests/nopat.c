// SPDX-License-Identifier: GPL-2.0-only
/*
 * Without a page attribute table, a copy of a page in a mapping of write-combined memory would be write-combined as well.
 * So files there are mapped by the page cache. All architectures but x86 do the same.
 *
 * Group: nopat
 * Machine: amd64 no-debug drm share=sources append=nopat with=modules
 */
#include <sys/uio.h>

#include "lib/source.h"

static struct image image;
static const char *mnt;

POINT(page_cache, "vgem: files are mapped by the page cache, and copied on write")
{
	char *shared, *private;
	int ends[2];

	if (!source_mount(source_named("vgem"), &image, mnt))
		SKIP("%s", source_missing);
	shared = map_size(mnt, MIDDLE, PROT_READ, MAP_SHARED);
	private = map_size(mnt, MIDDLE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	CHECK(pattern_matches(shared, MIDDLE, MIDDLE, 0));
	private[0] ^= 1;
	CHECK(pattern_matches(private + 1, MIDDLE - 1, MIDDLE, 1));
	CHECK(pattern_matches(shared, MIDDLE, MIDDLE, 0));
	/* That does not work on page frames of the buffer. */
	REQUIRE(!pipe(ends));
	CHECK_EQ(vmsplice(ends[1], &(struct iovec){ shared, 1 }, 1, 0), 1);
	close(ends[0]);
	close(ends[1]);
	munmap(shared, MIDDLE);
	munmap(private, MIDDLE);
	CHECK(!umount(mnt));
}

int main(void)
{
	mnt = private_mount_point();
	image = sources_image();
	return ktap_run();
}
