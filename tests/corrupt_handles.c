// SPDX-License-Identifier: GPL-2.0-only
/*
 * File handles of directories whose records contradict one another: they are stale. The checksums
 * are corrected, so that only the driver's own checks can refuse it.
 *
 * Group: modules
 * Machine: cpus=2 virtio-pmem=scratch
 */
#include "corrupt.h"

/* Open inode @ino by a handle. The generation is the start of the image's SHA-256. */
static int open_inode(const struct image *image, u32 ino, u32 parent)
{
	struct {
		struct file_handle head;
		u32 ino, generation, parent, parent_generation;
	} handle = { .head = { parent ? 16 : 8, parent ? 0x10002 : 1 }, .ino = ino };
	int dir = open(mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd, error;

	memcpy(&handle.generation, image->super->sha256, 4);
	handle.parent = parent;
	handle.parent_generation = handle.generation;
	fd = open_by_handle_at(dir, &handle.head, O_RDONLY | O_CLOEXEC);
	error = errno;
	close(dir);
	errno = error;
	return fd;
}

/* Opening a directory by its handle fails if its parent does not hold it where its record says. */
static void handle_case(void (*damage)(struct image *image), const char *path)
{
	struct image image = image_copy(&good);
	u32 ino = image_entry(&image, path)->ino;

	damage(&image);
	if (in_child_with(&image)) {
		for (int i = 0; i < 2; i++)
			CHECK_FAILS(open_inode(&image, ino, 0), ESTALE);
		listing_is(".", 0);
		child_is_done();
	}
}

static struct inode *inode_at(struct image *image, const char *path)
{
	return image_inode(image, image_entry(image, path)->ino);
}

/* "dir" holds "sub" and "sub" holds "dir": neither can be reached from the root. */
static void circle(struct image *image)
{
	struct dirent_record *leaf = image_entry(image, "dir/sub/leaf");

	inode_at(image, "dir")->parent = image_entry(image, "dir/sub")->ino;
	inode_at(image, "dir")->position = 0;
	leaf->ino = image_entry(image, "dir")->ino;
	leaf->file_type = S_IFDIR >> 12;
}

SPOIL(parent_of_itself, inode_at(image, "dir")->parent = image_entry(image, "dir")->ino)
SPOIL(parent_is_a_file, inode_at(image, "dir")->parent = image_entry(image, "file")->ino)
SPOIL(parent_beyond, inode_at(image, "dir")->parent = 0xffffffff)
SPOIL(parent_nothing, inode_at(image, "dir")->parent = 0)
SPOIL(place_beyond, inode_at(image, "dir")->position = 1000)
SPOIL(place_of_another, inode_at(image, "dir")->position ^= 1)
SPOIL(name_with_slash, image_name(image, image_entry(image, "dir"))[1] = '/')

POINT(handles, "handles of directories with a wrong parent")
{
	struct image image = image_copy(&good);
	u32 file = image_entry(&image, "file")->ino, dir = image_entry(&image, "dir")->ino;

	handle_case(circle, "dir");
	handle_case(circle, "dir/sub");
	handle_case(parent_of_itself, "dir");
	handle_case(parent_of_itself, "dir/sub");
	handle_case(parent_is_a_file, "dir");
	handle_case(parent_beyond, "dir");
	handle_case(parent_nothing, "dir");
	handle_case(place_beyond, "dir");
	handle_case(place_of_another, "dir");
	seal_and_mount(&image);
	CHECK(open_inode(&image, file, 0) >= 0);
	CHECK(open_inode(&image, dir, 0) >= 0);
	CHECK(open_inode(&image, image_entry(&image, "dir/sub")->ino, 0) >= 0);
	CHECK(open_inode(&image, image.super->root, 0) >= 0);
	CHECK_FAILS(open_inode(&image, file, dir), ESTALE);
	CHECK_FAILS(open_inode(&image, file, file), ESTALE);
}

/* The entry of a directory has an invalid name; listing its parent fails as well. */
POINT(handle_and_name, "a handle of a directory with a bad name")
{
	struct image image = image_copy(&good);
	u32 ino = image_entry(&image, "dir")->ino;

	name_with_slash(&image);
	seal_and_mount(&image);
	CHECK_FAILS(open_inode(&image, ino, 0), ESTALE);
	listing_is(".", EUCLEAN);
	rest_is_good();
}

int main(void)
{
	corrupt_init();
	return ktap_run();
}
