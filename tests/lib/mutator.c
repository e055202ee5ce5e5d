// SPDX-License-Identifier: GPL-2.0-only
/* Damage to the fields of an image. */
#include "mutator.h"

/* The superblock of the image before any damage. */
static const struct superblock *good;

void damage_init(const struct image *image)
{
	good = image->super;
}

u64 draw(u64 round, unsigned int index, u64 limit)
{
	u64 number;

	pattern_fill(&number, sizeof(number), 7000 + round, index * sizeof(number));
	return number % limit;
}

/* Return a value that checks of @size bytes and tables of them are likely to get wrong. */
static u64 nasty(u64 round, unsigned int index, u64 size)
{
	const u64 values[] = {
		0, 1, 2, 0x7f, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, ~0ULL >> 1,
		1ULL << 63, ~0ULL, size, size - 1, size + 1, size - 4096, size & ~4095ULL, size / 2,
	};

	return values[draw(round, index, ARRAY_SIZE(values))];
}

/* The fields of a record: where each starts, and after the last one where the record ends. */
static const u8 inode_fields[] = { 0, 2, 4, 8, 12, 16, 24, 32, 36, 40, 48, 52, 56, 60, 64 };
static const u8 dirent_fields[] = { 0, 4, 8, 12, 14, 15, 16 };

/* Give a field of @size bytes at @at another value. */
static void damage_field(struct image *image, u64 round, unsigned int index, u64 at, u64 size)
{
	u64 value;

	if (at + size > good->total_size)
		return;
	if (draw(round, index + 2, 2)) {
		value = nasty(round, index + 3, good->total_size);
	} else {
		value = 0;
		memcpy(&value, image->bytes + at, size);
		value += 1 - 2 * (s64)draw(round, index + 3, 2);
	}
	memcpy(image->bytes + at, &value, size);
}

void damage_anywhere(struct image *image, u64 round, unsigned int index, u64 from, u64 length)
{
	unsigned int size = 1 << draw(round, index, 4);
	u64 at = (from + draw(round, index + 1, length)) & ~(u64)(size - 1);

	damage_field(image, round, index, at, size);
}

/* Damage a field of a random record of a table. */
static void damage_record(struct image *image, u64 round, unsigned int index, struct extent table,
			  const u8 fields[], size_t count)
{
	u64 length = fields[count - 1], field = draw(round, index, count - 1);
	u64 record = table.offset + draw(round, index + 1, table.length / length) * length;

	damage_field(image, round, index, record + fields[field], fields[field + 1] - fields[field]);
}

/* Make a file end near the end of the image: a page before it, at it, or after it. */
static void damage_end(struct image *image, u64 round, unsigned int index)
{
	u64 inodes = good->inodes.length / sizeof(struct inode);
	/* Not by image_inode(): the superblock may be damaged. */
	struct inode *inode = (struct inode *)(image->bytes + good->inodes.offset) +
			      draw(round, index, inodes);

	inode->size = good->total_size - inode->data - 4096 + draw(round, index + 1, 3) * 4096 +
		      draw(round, index + 2, 3) - 1;
}

void damage(struct image *image, u64 round)
{
	const struct superblock *super = good;
	u64 count = 1 + draw(round, 0, 12);

	for (unsigned int i = 0; i < count; i++) {
		unsigned int index = 10 + 10 * i;

		switch (draw(round, index, 8)) {
		case 0 ... 2:
			damage_record(image, round, index + 1, super->inodes, inode_fields,
				      ARRAY_SIZE(inode_fields));
			break;
		case 3 ... 4:
			damage_record(image, round, index + 1, super->dirents, dirent_fields,
				      ARRAY_SIZE(dirent_fields));
			break;
		case 5:
			damage_end(image, round, index + 1);
			break;
		case 6:
			damage_anywhere(image, round, index + 1, sizeof(*super),
					super->data.offset - sizeof(*super));
			break;
		case 7:
			/* The superblock, but not often: few of these images can be mounted. */
			if (!draw(round, index + 1, 4))
				damage_anywhere(image, round, index + 2, 0, sizeof(*super));
			break;
		}
	}
	/* Some keep a wrong checksum, which the mount must then refuse. */
	if (draw(round, 1, 20))
		image_seal(image);
}
