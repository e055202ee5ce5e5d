/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Images in memory, for tests that damage them: the records of format version 1 and the checksums. Little-endian
 * machines only. Documentation/format.rst says what the fields mean.
 */
#ifndef IMAGE_H
#define IMAGE_H

#include <stdint.h>
#include <sys/types.h>

struct extent {
	uint64_t offset, length;
} __attribute__((packed));

struct superblock {
	char magic[8];
	uint32_t version, block_size;
	uint64_t compat, incompat, total_size;
	int64_t build_sec;
	uint32_t build_nsec, root;
	uint8_t uuid[16];
	char label[64];
	struct extent inodes, dirents, names, xattrs, data;
	uint32_t metadata_crc;
	uint8_t sha256[32];
	uint32_t crc;
} __attribute__((packed));

struct inode {
	uint16_t mode, reserved;
	uint32_t nlink, uid, gid;
	uint64_t size;
	int64_t mtime_sec;
	uint32_t mtime_nsec, xattrs;
	uint64_t data;
	uint32_t parent, position;
	uint64_t reserved2;
} __attribute__((packed));

struct dirent_record {
	uint32_t hash, ino, name_low;
	uint16_t name_high;
	uint8_t name_len, file_type;
} __attribute__((packed));

_Static_assert(sizeof(struct superblock) == 256, "superblock");
_Static_assert(sizeof(struct inode) == 64, "inode");
_Static_assert(sizeof(struct dirent_record) == 16, "dirent");

struct image {
	char *bytes;
	size_t size;
	struct superblock *super;
};

/* Loads the image in @path; ends the program if that fails. */
struct image image_load(const char *path);

/* A copy to be damaged. */
struct image image_copy(const struct image *image);
void image_free(struct image *image);

/* Writes the image to the start of a block device, past every cache. */
void image_write(const struct image *image, const char *device);

/* Inode number @ino. */
struct inode *image_inode(const struct image *image, uint32_t ino);

/* The entry at @path, which starts at the root without a slash; ends the program if there is none. */
struct dirent_record *image_entry(const struct image *image, const char *path);

/* The name of an entry. */
char *image_name(const struct image *image, const struct dirent_record *entry);

/* Makes the checksums of the metadata and of the superblock right again. */
void image_seal(struct image *image);

#endif
