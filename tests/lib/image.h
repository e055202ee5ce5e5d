/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Images in memory, for tests that damage them: the records of format version 1 and the checksums.
 * Little-endian machines only. Documentation/format.rst describes the fields.
 */
#ifndef IMAGE_H
#define IMAGE_H

#include "util.h"

struct extent {
	u64 offset, length;
};

struct superblock {
	char magic[8];
	u32 version, block_size;
	u64 compat, incompat, total_size;
	s64 build_sec;
	u32 build_nsec, root;
	u8 uuid[16];
	char label[64];
	struct extent inodes, dirents, names, xattrs, data;
	u32 metadata_crc;
	u8 sha256[32];
	u32 crc;
};

/* The SHA-256 of all pieces of 2 MiB follow the image. */
#define COMPAT_SUMS 1

struct inode {
	u16 mode, flags;
	u32 nlink, uid, gid;
	u64 size;
	s64 mtime_sec;
	u32 mtime_nsec, xattrs;
	u64 data;
	u32 parent, position;
	u32 original, reserved;
};

struct dirent_record {
	u32 hash, ino, name_low;
	u16 name_high;
	u8 name_len, file_type;
};

struct image {
	char *bytes;
	size_t size;
	struct superblock *super;
};

/* Load the image in @path. End the program if that fails. */
struct image image_load(const char *path);

/* Copy an image, to damage the copy. */
struct image image_copy(const struct image *image);
void image_free(struct image *image);

/* Write the image to the start of a block device, bypassing caches. */
void image_write(const struct image *image, const char *device);

/* Return inode @ino. */
struct inode *image_inode(const struct image *image, u32 ino);

/*
 * Return the entry at @path, which starts at the root without a slash, or end the program.
 */
struct dirent_record *image_entry(const struct image *image, const char *path);

/* Return the SHA-256 that the superblock has, as text. It changes with the next call. */
const char *image_digest(const struct image *image);

/* The SHA-256 of no image. */
#define WRONG_DIGEST "0000000000000000000000000000000000000000000000000000000000000000"

/* Correct the checksums of the metadata and of the superblock. */
void image_seal(struct image *image);

#endif
