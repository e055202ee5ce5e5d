// SPDX-License-Identifier: GPL-2.0-only
/*
 * Wrong inodes: each is an error of that inode, reported once in a while in the log, and of
 * nothing else. The checksums are corrected, so that only the driver's own checks can refuse it.
 *
 * Group: modules
 * Machine: cpus=2 virtio-pmem=scratch
 */
#include "corrupt.h"

/* Damage one inode of an image with these @features: it cannot be opened, but its directory can be listed. */
static void refused_with(u64 features, const char *path, void (*damage)(struct inode *inode))
{
	struct image image = image_copy(&good);
	struct stat stat;

	image.super->incompat |= features;
	damage(image_inode(&image, image_entry(&image, path)->ino));
	if (in_child_with(&image)) {
		CHECK_FAILS(lstat(path, &stat), EUCLEAN);
		CHECK_FAILS(open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK), EUCLEAN);
		CHECK_FAILS(lstat(path, &stat), EUCLEAN);
		listing_is(".", 0);
		child_is_done();
	}
}

static void refused_inode(const char *path, void (*damage)(struct inode *inode))
{
	refused_with(0, path, damage);
}

#define DAMAGE(name, statement) \
	static void name(struct inode *inode) \
	{ \
		statement; \
	}

DAMAGE(no_type, inode->mode = 0644)
DAMAGE(unknown_type, inode->mode = 0xf1a4)
DAMAGE(other_type, inode->mode = (inode->mode & 07777) | 0x1000)
DAMAGE(no_links, inode->nlink = 0)
DAMAGE(too_many_nanoseconds, inode->mtime_nsec = 1000000000)
DAMAGE(xattrs_nowhere, inode->xattrs = 0xffffffff)

POINT(any_inode, "inodes of any type")
{
	static const char *const paths[] = { "file", "dir", "link2", "fifo", "other" };

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		refused_inode(paths[i], no_type);
		refused_inode(paths[i], unknown_type);
		refused_inode(paths[i], no_links);
		refused_inode(paths[i], too_many_nanoseconds);
		refused_inode(paths[i], xattrs_nowhere);
	}
	refused_inode("file", other_type);
	refused_inode("dir", other_type);
	refused_inode("link2", other_type);
}

DAMAGE(data_unaligned, inode->data += 1)
DAMAGE(data_in_metadata, inode->data = 4096)
DAMAGE(data_in_superblock, inode->data = 0)
DAMAGE(data_beyond, inode->data = 1ULL << 40)
DAMAGE(data_overflows, inode->data = 0xfffffffffffff000)
DAMAGE(size_beyond, inode->size = 1ULL << 40)
DAMAGE(size_negative, inode->size = 1ULL << 63)
DAMAGE(size_maximal, inode->size = ~0ULL)
DAMAGE(size_over_limit, inode->size = INT64_MAX)

POINT(files, "regular files")
{
	refused_inode("file", data_unaligned);
	refused_inode("file", data_in_metadata);
	refused_inode("file", data_in_superblock);
	refused_inode("file", data_beyond);
	refused_inode("file", data_overflows);
	refused_inode("file", size_beyond);
	refused_inode("file", size_negative);
	refused_inode("file", size_maximal);
	refused_inode("file", size_over_limit);
}

static void without_data(struct inode *inode)
{
	inode->flags = INODE_METADATA_ONLY;
	inode->data = 0;
}

DAMAGE(no_data, without_data(inode))
DAMAGE(no_data_but_flag, inode->flags = INODE_METADATA_ONLY)
DAMAGE(no_data_and_packed, without_data(inode); inode->flags |= 1)
DAMAGE(no_data_and_unknown, without_data(inode); inode->flags |= 4)
DAMAGE(no_data_and_shared, without_data(inode); inode->original = 1)
DAMAGE(no_data_and_empty, without_data(inode); inode->size = 0)
DAMAGE(no_data_and_negative, without_data(inode); inode->size = 1ULL << 63)

/* Features: packed files, shared data, files without data. */
POINT(metadata_only, "files without data")
{
	static const char *const others[] = { "dir", "link2", "fifo", "other" };

	refused_inode("file", no_data);
	refused_with(1 | 4, "file", no_data);
	refused_with(INCOMPAT_METADATA_ONLY, "file", no_data_but_flag);
	refused_with(1 | INCOMPAT_METADATA_ONLY, "file", no_data_and_packed);
	refused_with(INCOMPAT_METADATA_ONLY, "file", no_data_and_unknown);
	refused_with(4 | INCOMPAT_METADATA_ONLY, "file", no_data_and_shared);
	refused_with(INCOMPAT_METADATA_ONLY, "file", no_data_and_empty);
	refused_with(INCOMPAT_METADATA_ONLY, "file", no_data_and_negative);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		refused_with(INCOMPAT_METADATA_ONLY, others[i], no_data_but_flag);
}

DAMAGE(target_empty, inode->size = 0)
DAMAGE(target_too_long, inode->size = 4096)
DAMAGE(target_beyond, inode->data = 1 << 30)
DAMAGE(target_overflows, inode->data = ~0ULL)

POINT(symlinks, "symlinks")
{
	refused_inode("link2", target_empty);
	refused_inode("link2", target_too_long);
	refused_inode("link2", target_beyond);
	refused_inode("link2", target_overflows);
}

DAMAGE(entries_beyond, inode->data = 1ULL << 40)
DAMAGE(entries_overflow, inode->data = ~0ULL)
DAMAGE(entries_in_part, inode->size -= 1)
DAMAGE(entries_too_many, inode->size = 16ULL << 32)
DAMAGE(entries_maximal, inode->size = ~15ULL)
DAMAGE(parent_wrong, inode->parent += 1)
DAMAGE(position_wrong, inode->position += 1)
DAMAGE(own_parent, inode->position = 0xffffffff)

POINT(directories, "directories")
{
	refused_inode("dir", entries_beyond);
	refused_inode("dir", entries_overflow);
	refused_inode("dir", entries_in_part);
	refused_inode("dir", entries_too_many);
	refused_inode("dir", entries_maximal);
	refused_inode("dir", parent_wrong);
	refused_inode("dir", position_wrong);
	refused_inode("dir", own_parent);
}

DAMAGE(major_too_large, inode->data = 1ULL << 44)
DAMAGE(minor_too_large, inode->data = 1ULL << 32 | 1 << 20)
DAMAGE(size_of_nothing, inode->size = 1)

POINT(special_files, "special files")
{
	refused_inode("fifo", size_of_nothing);
}

POINT(device_numbers, "device numbers")
{
	void (*const damages[])(struct inode *inode) = { major_too_large, minor_too_large };

	for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
		struct image image = image_copy(&good);
		struct stat stat;

		damages[i](image_inode(&image, image_entry(&image, "null")->ino));
		if (in_child_with(&image)) {
			CHECK_FAILS(lstat("null", &stat), EUCLEAN);
			CHECK(!lstat("file", &stat));
			fflush(stdout);
			_exit(ktap_point->failed);
		}
	}
}

POINT(nul_in_target, "a NUL in a symlink")
{
	struct image image = image_copy(&good);
	struct inode *inode = image_inode(&image, image_entry(&image, "link2")->ino);
	struct stat stat;

	image.bytes[image.super->names.offset + inode->data + 1] = 0;
	seal_and_mount(&image);
	CHECK_FAILS(lstat("link2", &stat), EUCLEAN);
	CHECK_FAILS(open("link2", O_RDONLY), EUCLEAN);
	rest_is_good();
}

/* The line in the log names the device and the inode, and many errors give few lines. */
POINT(log_lines, "lines in the log")
{
	struct image image = image_copy(&good);
	u32 ino = image_entry(&image, "file")->ino;
	char line[500] = "", want[64];
	struct stat stat;
	int kmsg = kmsg_open();
	unsigned int count;

	no_links(image_inode(&image, ino));
	seal_and_mount(&image);
	sleep(6); /* until the rate limit has forgotten the lines of earlier points */
	kmsg_count(kmsg, "daxfs", NULL, 0);
	CHECK_FAILS(lstat("file", &stat), EUCLEAN);
	CHECK_EQ(kmsg_count(kmsg, "link count of zero", line, sizeof(line)), 1);
	printf("# %s\n", line);
	snprintf(want, sizeof(want), "inode %u", ino);
	CHECK(!strncmp(line, "daxfs: ", 7) && strstr(line, want) &&
	      strstr(line, strrchr(device, '/') + 1));
	for (int i = 0; i < 300; i++)
		CHECK_FAILS(lstat("file", &stat), EUCLEAN);
	count = kmsg_count(kmsg, "link count of zero", NULL, 0);
	printf("# %u lines for 300 errors\n", count);
	CHECK(count < 30);
}

int main(void)
{
	corrupt_init();
	return ktap_run();
}
