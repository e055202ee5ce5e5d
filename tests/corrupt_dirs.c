// SPDX-License-Identifier: GPL-2.0-only
/*
 * Wrong directory entries: each is an error of the entry, and of nothing else. No directory is
 * found at two places or within itself. The checksums are corrected, so that only the driver's own
 * checks can refuse it.
 *
 * Group: modules
 * Machine: cpus=2 virtio-pmem=scratch
 */
#include "corrupt.h"

SPOIL(inode_zero, image_entry(image, "dir/sub")->ino = 0)
SPOIL(inode_beyond, image_entry(image, "dir/sub")->ino = 0xffffffff)
SPOIL(entry_type_wrong, image_entry(image, "dir/sub")->file_type = 8)
SPOIL(entry_type_unknown, image_entry(image, "dir/sub")->file_type = 3)
SPOIL(name_beyond, image_entry(image, "dir/sub")->name_high = 0xffff)
SPOIL(name_empty, image_entry(image, "dir/sub")->name_len = 0)
SPOIL(directory_linked_twice, image_entry(image, "dir/sub")->ino = image_entry(image, "other")->ino)
SPOIL(directory_in_itself, image_entry(image, "dir/sub")->ino = image_entry(image, "dir")->ino)
SPOIL(root_in_directory, image_entry(image, "dir/sub")->ino = image->super->root)

POINT(entries, "directory entries")
{
	entry_case(inode_zero, "dir/sub", EUCLEAN, EUCLEAN);
	entry_case(inode_beyond, "dir/sub", EUCLEAN, EUCLEAN);
	entry_case(entry_type_wrong, "dir/sub", EUCLEAN, 0);
	entry_case(entry_type_unknown, "dir/sub", EUCLEAN, EUCLEAN);
	entry_case(name_beyond, "dir/sub", EUCLEAN, EUCLEAN);
	entry_case(name_empty, "dir/sub", EUCLEAN, EUCLEAN);
}

POINT(loops, "loops and hard links of directories")
{
	entry_case(directory_linked_twice, "dir/sub", EUCLEAN, 0);
	entry_case(directory_in_itself, "dir/sub", EUCLEAN, 0);
	entry_case(root_in_directory, "dir/sub", EUCLEAN, 0);
}

/* Write @length bytes at @offset of the name of the entry, which then has as many bytes as @all says. */
static void rename_entry(struct image *image, u8 all, size_t offset, const char *text, size_t length)
{
	struct dirent_record *entry = image_entry(image, "dir/sub");

	memcpy(image_name(image, entry) + offset, text, length);
	entry->name_len = all;
}

SPOIL(name_slash, rename_entry(image, 3, 1, "/", 1))
SPOIL(name_nul, rename_entry(image, 3, 1, "", 1))
SPOIL(name_dot, rename_entry(image, 1, 0, ".", 1))
SPOIL(name_dot_dot, rename_entry(image, 2, 0, "..", 2))

POINT(names, "names")
{
	entry_case(name_slash, "dir/sub", ENOENT, EUCLEAN);
	entry_case(name_nul, "dir/sub", ENOENT, EUCLEAN);
	entry_case(name_dot, "dir/sub", ENOENT, EUCLEAN);
	entry_case(name_dot_dot, "dir/sub", ENOENT, EUCLEAN);
}

/* Entries out of order may be found or not; anything else is an error. */
POINT(order, "entries out of order")
{
	struct image image = image_copy(&good);
	struct dirent_record *first =
		(struct dirent_record *)(image.bytes + image.super->dirents.offset) +
		image_inode(&image, image_entry(&image, "dir")->ino)->data;
	unsigned int count =
		image_inode(&image, image_entry(&image, "dir")->ino)->size / sizeof(*first);
	char name[NAME_MAX + 1];
	struct stat stat;

	for (unsigned int i = 0; i < count / 2; i++) {
		struct dirent_record swap = first[i];

		first[i] = first[count - 1 - i];
		first[count - 1 - i] = swap;
	}
	for (unsigned int i = 0; i < count; i += 3)
		first[i].hash = 0x80000000;
	seal_and_mount(&image);
	REQUIRE(!chdir("dir"));
	for (unsigned int i = 0; i < 20; i++) {
		many_name(name, i);
		CHECK(!lstat(name, &stat) || errno == ENOENT || errno == EUCLEAN);
	}
	REQUIRE(!chdir(".."));
	rest_is_good();
}

int main(void)
{
	corrupt_init();
	return ktap_run();
}
