// SPDX-License-Identifier: GPL-2.0-only
/* The files of the image packing.daxfs. */
#include "packing.h"

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
