// SPDX-License-Identifier: GPL-2.0-only
/* The files of the image packing.daxfs. */
#include "device.h"
#include "packing.h"

struct image image;
const struct source *source;
const char *mnt;

const u64 twins[] = { SHORT, MEDIUM, ENDED, SMALL, TWO_HUGE, TAILED };
const size_t twin_sizes = ARRAY_SIZE(twins);

int open_twin(u64 size, char which)
{
	char path[64];

	snprintf(path, sizeof(path), "twins/%llu.%c", (unsigned long long)size, which);
	return open_in(mnt, path, O_RDONLY);
}

bool is_packed(u64 size, char which)
{
	char path[64];

	snprintf(path, sizeof(path), "twins/%llu.%c", (unsigned long long)size, which);
	return image_inode(&image, image_entry(&image, path)->ino)->flags & 1;
}

char *map(int fd, size_t length, int protection, int flags)
{
	char *address = mmap(NULL, length, protection, flags, fd, 0);

	REQUIRE(address != MAP_FAILED);
	close(fd);
	return address;
}

char *map_twin(u64 size, char which)
{
	return map(open_twin(size, which), size, PROT_READ, MAP_SHARED);
}

int open_packed(unsigned int number)
{
	char path[64];

	snprintf(path, sizeof(path), "packed/%u", 1 + number * STEP);
	return open_in(mnt, path, O_RDONLY);
}

u64 frame_at(const char *address)
{
	u64 frame;

	page_frames(address, 1, &frame);
	return frame;
}

bool has_huge(void)
{
	return source_maps_huge(source);
}

bool has_pages(void)
{
	return source->pages;
}

bool has_device(void)
{
	return source->pages && !source->key;
}

void packing_mount(void)
{
	REQUIRE(source_mount(source, &image, mnt));
}

void packing_unmount(void)
{
	for (int tries = 0; tries < 50 && umount(mnt); tries++)
		usleep(100000);
	CHECK(umount(mnt));
}

/* A kernel with checkers takes one source for each way to map. */
static bool is_wanted(const struct source *source)
{
	return !getenv("DAXFS_SLOW") || source_stands_for_way(source);
}

int run_packing(void)
{
	mnt = private_mount_point();
	image = image_named("packing", "--pack");
	return run_on_sources(is_wanted, &image, &source);
}
