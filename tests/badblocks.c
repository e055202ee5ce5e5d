// SPDX-License-Identifier: GPL-2.0-only
/*
 * Blocks that the driver of persistent memory lists as bad, before the mount or after it: reads of
 * them get EIO and loads SIGBUS, and all else stays readable. A bad first block fails the mount.
 *
 * Group: memory
 * Order: 8
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,reserve,pci=sources.daxfs drm share
 */
#include "device.h"

#define SECTOR 512
/* Other blocks than these are good: one sector, three pages, and a byte of the last page. */
#define ONE (2 * HUGE_SIZE + 188 * 4096)
#define THREE (3 * HUGE_SIZE)
#define LAST (LARGE - 1)
/* The list has room for 512 ranges. */
#define MANY 500UL

static const struct source *source;
static const char *mnt;
static struct image image;
static struct device device;
static char list[PATH_MAX];

static u64 data_of_large(void)
{
	return image_inode(&image, image_entry(&image, "sizes/16777216")->ino)->data;
}

static void begin(void)
{
	skip_if_stuck();
	REQUIRE(source->make(source, NULL) == 0);
	device_find(source, &device);
	snprintf(list, sizeof(list), "/sys/class/block/%s/badblocks",
		 strrchr(source_device(source), '/') + 1);
}

/* Make the driver forget its list. */
static void end(void)
{
	CHECK_EQ(bounded_unbind(&device), 0);
	REQUIRE(device_bind(&device));
}

/* List the sectors of @length bytes at @offset of the device. */
static void list_bytes(u64 offset, u64 length)
{
	u64 first = offset / SECTOR, end = (offset + length + SECTOR - 1) / SECTOR;

	REQUIRE(write_text(list, "%llu %llu", (unsigned long long)first, (unsigned long long)(end - first)));
}

static void list_in_large(void)
{
	u64 data = data_of_large();

	list_bytes(data + ONE + 1024, 1);
	list_bytes(data + THREE, 3 * page_size());
	list_bytes(data + LAST, 1);
}

static bool is_bad(size_t offset)
{
	const size_t page = page_size(), at = offset / page * page;

	return at == ONE / page * page || (at >= THREE && at < THREE + 3 * page) ||
	       at == LAST / page * page;
}

static char *map_large(void)
{
	return map_size(mnt, LARGE, PROT_READ, MAP_SHARED);
}

/* Read the file, and load from a mapping of it, page by page. */
static void good_but_for(bool (*bad)(size_t offset))
{
	int fd = open_size(mnt, LARGE, O_RDONLY);
	const size_t page = page_size();
	char *address = map_large(), *buffer = malloc(page);
	size_t first_bad = LARGE;

	for (size_t at = 0; at < LARGE; at += page) {
		ssize_t length = pread(fd, buffer, page, at);
		bool want = bad(at);

		if (want && first_bad == LARGE)
			first_bad = at;
		if (!CHECK_EQ(length, want ? -1 : (ssize_t)page) ||
		    (!want && !CHECK(pattern_matches(buffer, page, LARGE, at) &&
				     pattern_matches(address + at, page, LARGE, at))))
			break;
	}
	buffer = realloc(buffer, LARGE);
	CHECK_FAILS(pread(fd, buffer, 1, ONE + 1), EIO);
	CHECK(gets_sigbus(address + ONE));
	CHECK_EQ(pread(fd, buffer, LARGE, 0), first_bad);
	CHECK(pattern_matches(buffer, first_bad, LARGE, 0));
	free(buffer);
	munmap(address, LARGE);
	close(fd);
}

static void mount_it(void)
{
	if (!context_mount(source_context(source, 0), mnt)) {
		printf("# %s: %s\n", strerror(errno), context_log);
		REQUIRE(!"mounted");
	}
}

POINT(listed_before, "blocks are listed before the mount")
{
	char *other;

	begin();
	list_in_large();
	mount_it();
	good_but_for(is_bad);
	other = map_size(mnt, 4097, PROT_READ, MAP_SHARED);
	CHECK(pattern_matches(other, 4097, 4097, 0));
	munmap(other, 4097);
	CHECK_EQ(bounded_umount(mnt), 0);
	/* The next mount finds the same. */
	mount_it();
	CHECK(gets_sigbus(map_large() + LAST));
	CHECK(!umount2(mnt, MNT_DETACH));
	end();
}

POINT(listed_later, "blocks are listed while it is mounted")
{
	char byte, *mapped;
	int fd;

	begin();
	mount_it();
	fd = open_size(mnt, LARGE, O_RDONLY);
	mapped = map_large();
	/* The kernel knows where these pages are, and might map them by itself. */
	touch_pages(mapped + THREE, 4 * page_size(), 4096);
	CHECK_EQ(pread(fd, &byte, 1, ONE), 1);
	list_in_large();
	CHECK_FAILS(pread(fd, &byte, 1, ONE), EIO);
	good_but_for(is_bad);
	/* Blocks next to listed ones extend a range of the list, and leave the number of ranges. */
	CHECK_EQ(pread(fd, &byte, 1, THREE + 3 * page_size()), 1);
	list_bytes(data_of_large() + THREE + 3 * page_size(), SECTOR);
	CHECK_FAILS(pread(fd, &byte, 1, THREE + 3 * page_size()), EIO);
	close(fd);
	munmap(mapped, LARGE);
	CHECK_EQ(bounded_umount(mnt), 0);
	end();
}

static bool is_one_of_many(size_t offset)
{
	size_t page = offset / page_size();

	return page < 2 * MANY + ONE / page_size() && page >= ONE / page_size() &&
	       (page - ONE / page_size()) % 2 == 0;
}

POINT(many_listed, "many blocks are listed")
{
	u64 data = data_of_large();
	double start;

	begin();
	for (size_t i = 0; i < MANY; i++)
		list_bytes(data + ONE + 2 * i * page_size(), SECTOR);
	start = now();
	mount_it();
	CHECK(now() - start < limit());
	good_but_for(is_one_of_many);
	CHECK_EQ(bounded_umount(mnt), 0);
	end();
}

static void refused(u64 offset, int error, const char *message)
{
	begin();
	list_bytes(offset, SECTOR);
	CHECK(!context_mount(source_context(source, 0), mnt));
	CHECK_EQ(errno, error);
	if (!CHECK(strstr(context_log, message)))
		printf("# %s\n", context_log);
	end();
}

POINT(first_listed, "the first block is listed")
{
	refused(0, EIO, "cannot be read");
	mount_it();
	CHECK_EQ(bounded_umount(mnt), 0);
}

POINT(metadata_listed, "a block of the metadata is listed")
{
	refused(image.super->dirents.offset, EIO, "cannot be read");
}

static bool has_list(const struct source *source)
{
	return source_is_device(source) && strcmp(source->argument, "dax");
}

int main(void)
{
	mnt = private_mount_point();
	image = sources_image();
	return run_on_sources(has_list, &image, &source);
}
