// SPDX-License-Identifier: GPL-2.0-only
/* Images in memory, for tests that damage them. */
#include <assert.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "image.h"

static_assert(sizeof(struct superblock) == 256, "superblock");
static_assert(sizeof(struct inode) == 64, "inode");
static_assert(sizeof(struct dirent_record) == 16, "dirent");

static void give_up(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(KTAP_FAIL);
}

struct image image_load(const char *path)
{
	struct image image;
	struct stat stat;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &stat))
		give_up(path);
	image.size = stat.st_size;
	image.bytes = malloc(image.size);
	if (read(fd, image.bytes, image.size) != (ssize_t)image.size)
		give_up(path);
	close(fd);
	image.super = (struct superblock *)image.bytes;
	return image;
}

struct image image_copy(const struct image *image)
{
	struct image copy = { .bytes = malloc(image->size), .size = image->size };

	memcpy(copy.bytes, image->bytes, image->size);
	copy.super = (struct superblock *)copy.bytes;
	return copy;
}

void image_free(struct image *image)
{
	free(image->bytes);
}

void image_write(const struct image *image, const char *device)
{
	int fd = open(device, O_WRONLY | O_DIRECT | O_CLOEXEC);
	size_t size = page_round(image->size);
	char *aligned = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (aligned == MAP_FAILED)
		give_up("memory");
	memcpy(aligned, image->bytes, image->size);
	if (fd < 0 || pwrite(fd, aligned, size, 0) != (ssize_t)size || fsync(fd))
		give_up(device);
	ioctl(fd, BLKFLSBUF, 0);
	close(fd);
	munmap(aligned, size);
}

struct inode *image_inode(const struct image *image, u32 ino)
{
	return (struct inode *)(image->bytes + image->super->inodes.offset) + (ino - 1);
}

static char *image_name(const struct image *image, const struct dirent_record *entry)
{
	u64 offset = (u64)entry->name_high << 32 | entry->name_low;

	return image->bytes + image->super->names.offset + offset;
}

struct dirent_record *image_entry(const struct image *image, const char *path)
{
	struct dirent_record *records = (void *)(image->bytes + image->super->dirents.offset);
	struct inode *dir = image_inode(image, image->super->root);

	for (;;) {
		struct dirent_record *found = NULL;
		size_t length = strcspn(path, "/");

		for (u64 i = 0; i < dir->size / sizeof(*records); i++) {
			struct dirent_record *entry = &records[dir->data + i];

			if (entry->name_len == length &&
			    !memcmp(image_name(image, entry), path, length))
				found = entry;
		}
		if (!found) {
			errno = ENOENT;
			give_up(path);
		}
		if (!path[length])
			return found;
		dir = image_inode(image, found->ino);
		path += length + 1;
	}
}

/* Castagnoli, byte by byte. */
static u32 crc32c(const void *buffer, size_t length)
{
	static u32 table[256];
	const u8 *bytes = buffer;
	u32 crc = ~0U;

	for (u32 i = 0; !table[255] && i < 256; i++) {
		u32 rest = i;

		for (int bit = 0; bit < 8; bit++)
			rest = rest >> 1 ^ (rest & 1 ? 0x82f63b78 : 0);
		table[i] = rest;
	}
	while (length--)
		crc = crc >> 8 ^ table[(crc ^ *bytes++) & 0xff];
	return ~crc;
}

void image_seal(struct image *image)
{
	struct superblock *super = image->super;

	/* A test may have moved a table out of the image, which then has no checksum. */
	if (super->data.offset >= sizeof(*super) && super->data.offset <= image->size)
		super->metadata_crc =
			crc32c(image->bytes + sizeof(*super), super->data.offset - sizeof(*super));
	super->crc = crc32c(super, offsetof(struct superblock, crc));
}

const char *image_digest(const struct image *image)
{
	static char text[65];

	for (int i = 0; i < 32; i++)
		sprintf(text + 2 * i, "%02x", image->super->sha256[i]);
	return text;
}
