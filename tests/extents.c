// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where the data of files is: SEEK_DATA, SEEK_HOLE and FIEMAP.
 *
 * Group: vfs
 */
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "util.h"

static const char *mnt;
static char device[PATH_MAX];

static void check_seek(int fd, off_t size)
{
	CHECK_EQ(lseek(fd, 0, SEEK_DATA), 0);
	CHECK_EQ(lseek(fd, size - 1, SEEK_DATA), size - 1);
	CHECK_EQ(lseek(fd, 0, SEEK_HOLE), size);
	CHECK_EQ(lseek(fd, size - 1, SEEK_HOLE), size);
	CHECK_FAILS(lseek(fd, size, SEEK_DATA), ENXIO);
	CHECK_FAILS(lseek(fd, size, SEEK_HOLE), ENXIO);
	CHECK_FAILS(lseek(fd, -1, SEEK_DATA), ENXIO);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), size);
	CHECK_EQ(lseek(fd, -1, SEEK_END), size - 1);
}

/*
 * Files have no holes: the image stores the zeros of holes in the source. Mapping a file does not change
 * where it ends.
 */
POINT(holes, "SEEK_DATA and SEEK_HOLE")
{
	static const struct {
		const char *name;
		off_t size;
	} files[] = {
		{ "sizes/1", 1 }, { "sizes/4096", 4096 }, { "sizes/4097", 4097 },
		{ "sparse/hole", 3 * HUGE_SIZE + 1 }, { "sparse/islands", 4 * HUGE_SIZE + 123 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		off_t size = files[i].size;
		int fd = open_in(mnt, files[i].name, O_RDONLY);
		char *address;

		check_seek(fd, size);
		address = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
		REQUIRE(address != MAP_FAILED);
		check_seek(fd, size);
		munmap(address, size);
		close(fd);
	}
	CHECK_FAILS(lseek(open_in(mnt, "sizes/0", O_RDONLY), 0, SEEK_DATA), ENXIO);
	CHECK_FAILS(lseek(open_in(mnt, "sizes/0", O_RDONLY), 0, SEEK_HOLE), ENXIO);
}

struct map {
	struct fiemap head;
	struct fiemap_extent extents[4];
};

static struct map map_of(const char *name, u64 start, u64 length, u32 count, u32 flags)
{
	struct map map = { .head = { start, length, flags, 0, count, 0 } };

	REQUIRE(!ioctl(open_in(mnt, name, O_RDONLY), FS_IOC_FIEMAP, &map.head));
	return map;
}

/* FIEMAP returns the offset of the bytes on the device. */
POINT(extents, "FIEMAP")
{
	static const u64 sizes[] = { 1, 4095, 4096, 4097, 12345, HUGE_SIZE + 1, LARGE };
	const u64 end = page_round(4097);
	int disk = open(device, O_RDONLY | O_CLOEXEC), fd;
	char name[32], buffer[100];
	struct map map;

	REQUIRE(disk >= 0);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct fiemap_extent *extent = map.extents;
		size_t length = sizes[i] < 100 ? sizes[i] : 100;
		bool shares = sizes[i] == 1 || (sizes[i] < 4096 && page_size() > 4096);

		snprintf(name, sizeof(name), "sizes/%llu", (unsigned long long)sizes[i]);
		map = map_of(name, 0, ~0ULL, 4, i % 2 ? FIEMAP_FLAG_SYNC : 0);
		CHECK_EQ(map.head.fm_mapped_extents, 1);
		CHECK_EQ(extent->fe_logical, 0);
		/* Small files share a block with others. In one of 4096 bytes, none has room beside 4095. */
		CHECK_EQ(extent->fe_length, shares ? sizes[i] : page_round(sizes[i]));
		CHECK(extent->fe_flags & FIEMAP_EXTENT_LAST);
		CHECK_EQ(pread(disk, buffer, length, extent->fe_physical), length);
		CHECK(pattern_matches(buffer, length, sizes[i], 0));
	}
	CHECK_EQ(map_of("sizes/4097", 0, ~0ULL, 0, 0).head.fm_mapped_extents, 1);
	CHECK_EQ(map_of("sizes/4097", 4096, 1, 4, 0).head.fm_mapped_extents, 1);
	CHECK_EQ(map_of("sizes/4097", end, ~0ULL - end, 4, 0).head.fm_mapped_extents, 0);
	CHECK_EQ(map_of("sizes/0", 0, ~0ULL, 4, 0).head.fm_mapped_extents, 0);
	fd = open_in(mnt, "sizes", O_RDONLY);
	CHECK_FAILS(ioctl(fd, FS_IOC_FIEMAP, &map.head), EOPNOTSUPP);
	fd = open_in(mnt, "sizes/1", O_RDONLY);
	map.head = (struct fiemap){ 0, ~0ULL, FIEMAP_FLAG_XATTR, 0, 4, 0 };
	CHECK_FAILS(ioctl(fd, FS_IOC_FIEMAP, &map.head), EBADR);
	map.head = (struct fiemap){ 0, 0, 0, 0, 4, 0 };
	CHECK_FAILS(ioctl(fd, FS_IOC_FIEMAP, &map.head), EINVAL);
}

int main(void)
{
	snprintf(device, sizeof(device), "%s", fixture_device("tree"));
	mnt = fixture_mount("tree");
	return ktap_run();
}
