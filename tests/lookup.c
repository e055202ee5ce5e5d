// SPDX-License-Identifier: GPL-2.0-only
/*
 * Look-ups in directories of up to a million names, also with names made to be slow: all with one
 * hash, or far from where the search guesses. The image is made here, as no tree holds hundreds of
 * thousands of colliding names by chance.
 *
 * Prints the cost of a look-up. In a machine whose clock counts instructions (qemu/vm --icount), the
 * costs must not grow faster than the logarithm of the number of names.
 *
 * Group: lookups
 * Machine: no-debug icount virtio-pmem=scratch
 */
#include <dirent.h>

#include "image.h"

#define PRIME1 0x9e3779b1U
#define PRIME2 0x85ebca77U
#define PRIME3 0xc2b2ae3dU
#define PRIME4 0x27d4eb2fU
#define PRIME5 0x165667b1U

/* Names have at most 15 bytes here, and look-ups are sampled. */
#define NAME_SIZE 16
#define SAMPLE 2000

enum kind { EVEN, COLLIDING, SKEWED };

static const struct {
	const char *name;
	enum kind kind;
	unsigned int count;
} directories[] = {
	{ "1000", EVEN, 1000 },		   { "10000", EVEN, 10000 },
	{ "100000", EVEN, 100000 },	   { "1000000", EVEN, 1000000 },
	{ "same-100", COLLIDING, 100 },	   { "same-10000", COLLIDING, 10000 },
	{ "same-100000", COLLIDING, 100000 },
	{ "skewed-1000", SKEWED, 1000 },   { "skewed-100000", SKEWED, 100000 },
};

static const char *mnt;
/* Nanoseconds for a name that is there, and for one that is not. */
static struct { long found, missing; } *costs;

static u32 rotate(u32 word, unsigned int bits)
{
	return word << bits | word >> (32 - bits);
}

/* Return the inverse of the odd @factor modulo 2^32. */
static u32 inverse(u32 factor)
{
	u32 result = factor;

	for (int i = 0; i < 5; i++)
		result *= 2 - factor * result;
	return result;
}

static u32 finish(u32 hash)
{
	hash = (hash ^ hash >> 15) * PRIME2;
	hash = (hash ^ hash >> 13) * PRIME3;
	return hash ^ hash >> 16;
}

/* XXH32 of less than 16 bytes. */
static u32 name_hash(const char *name)
{
	size_t length = strlen(name), i = 0;
	u32 hash = PRIME5 + length, word;

	for (; i + 4 <= length; i += 4) {
		memcpy(&word, name + i, 4);
		hash = rotate(hash + word * PRIME3, 17) * PRIME4;
	}
	for (; i < length; i++)
		hash = rotate(hash + (u8)name[i] * PRIME5, 11) * PRIME1;
	return finish(hash);
}

/* Invert finish(). */
static u32 unfinish(u32 hash)
{
	hash ^= hash >> 16;
	hash *= inverse(PRIME3);
	hash ^= hash >> 13 ^ hash >> 26;
	hash *= inverse(PRIME2);
	return hash ^ hash >> 15 ^ hash >> 30;
}

/*
 * Make a name of eight bytes with the hash @want: four make it unique, and four give the hash.
 * Return false if these cannot be in a name.
 */
static bool name_with_hash(char name[NAME_SIZE], u32 number, u32 want)
{
	u32 first, hash = PRIME5 + 8, last;

	for (int i = 0; i < 4; i++)
		name[i] = '0' + (number >> (6 * i) & 63);
	memcpy(&first, name, 4);
	hash = rotate(hash + first * PRIME3, 17) * PRIME4;
	last = (rotate(unfinish(want) * inverse(PRIME4), 32 - 17) - hash) * inverse(PRIME3);
	memcpy(name + 4, &last, 4);
	name[8] = 0;
	return strlen(name) == 8 && !strchr(name, '/');
}

/* Return a hash for name @index of @count that interpolation between the ends misses. */
static u32 skewed_hash(u32 index, u32 count)
{
	u32 bits = (u64)index * 31 / count, part = (u64)index * 31 % count * 1024 / count;

	return (1U << bits) + ((u64)part << bits >> 10) + index % 7;
}

/*
 * Make the next name of a directory and increase *@number. High numbers give names that no
 * directory has.
 */
static void next_name(char name[NAME_SIZE], enum kind kind, u32 *number, u32 index, u32 count)
{
	switch (kind) {
	case EVEN:
		snprintf(name, NAME_SIZE, "file-%u", (*number)++);
		break;
	case COLLIDING:
		while (!name_with_hash(name, (*number)++, 0x12345678))
			;
		break;
	case SKEWED:
		while (!name_with_hash(name, (*number)++, skewed_hash(index, count)))
			;
		break;
	}
}

struct entry {
	u32 hash, ino;
	char name[NAME_SIZE];
};

static int compare(const void *left, const void *right)
{
	const struct entry *a = left, *b = right;

	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	return memcmp(a->name, b->name, NAME_SIZE);
}

/* The tables of an image under construction. */
static struct dirent_record *records;
static u64 record_count;
static char *names;
static u64 names_size;

/* Add a directory's entries, sorted. Return the number of the first. */
static u64 add_entries(struct entry *entries, u32 count, u8 file_type)
{
	u64 first = record_count;

	qsort(entries, count, sizeof(*entries), compare);
	for (u32 i = 0; i < count; i++) {
		size_t length = strlen(entries[i].name);

		memcpy(names + names_size, entries[i].name, length);
		records[record_count++] = (struct dirent_record){
			.hash = entries[i].hash,
			.ino = entries[i].ino,
			.name_low = names_size,
			.name_len = length,
			.file_type = file_type,
		};
		names_size += length;
	}
	return first;
}

static u64 aligned(u64 offset)
{
	return (offset + 63) & ~63ULL;
}

static struct image make_image(void)
{
	static const u32 root_count = ARRAY_SIZE(directories);
	struct entry roots[ARRAY_SIZE(directories)] = {}, *entries;
	u32 total = 1 + root_count, ino = 1 + root_count;
	u64 root_first, offset = 4096;
	struct superblock super = {
		.magic = "\211daxfs\r\n", .version = 1, .block_size = 4096, .root = 1,
		.label = "look-ups",
	};
	struct image image;
	struct inode *inodes;

	for (u32 i = 0; i < root_count; i++)
		total += directories[i].count;
	inodes = calloc(total, sizeof(*inodes));
	records = calloc(total, sizeof(*records));
	names = calloc(total, NAME_SIZE);
	entries = calloc(1000000, sizeof(*entries));
	for (u32 i = 0; i < total; i++)
		inodes[i] = (struct inode){ .mode = S_IFREG | 0644, .nlink = 1 };
	for (u32 i = 0; i < root_count; i++) {
		snprintf(roots[i].name, NAME_SIZE, "%s", directories[i].name);
		roots[i].hash = name_hash(roots[i].name);
		roots[i].ino = 2 + i;
	}
	root_first = add_entries(roots, root_count, S_IFDIR >> 12);
	inodes[0] = (struct inode){
		.mode = S_IFDIR | 0755, .nlink = 2 + root_count, .size = root_count * 16,
		.data = root_first, .parent = 1, .position = 0xffffffff,
	};
	for (u32 i = 0; i < root_count; i++) {
		u32 count = directories[i].count, number = 0, position = 0;
		struct inode *dir = &inodes[1 + i];

		for (u32 j = 0; j < count; j++) {
			entries[j] = (struct entry){ .ino = ++ino };
			next_name(entries[j].name, directories[i].kind, &number, j, count);
			entries[j].hash = name_hash(entries[j].name);
		}
		while (records[position].ino != 2 + i)
			position++;
		*dir = (struct inode){
			.mode = S_IFDIR | 0755, .nlink = 2, .size = 16ULL * count,
			.parent = 1, .position = position,
			.data = add_entries(entries, count, S_IFREG >> 12),
		};
	}

	super.inodes = (struct extent){ offset, total * sizeof(*inodes) };
	offset = aligned(offset + super.inodes.length);
	super.dirents = (struct extent){ offset, record_count * sizeof(*records) };
	offset = aligned(offset + super.dirents.length);
	super.names = (struct extent){ offset, names_size };
	offset = aligned(offset + super.names.length);
	super.xattrs.offset = offset;
	offset = (offset + 4095) & ~4095ULL;
	super.data.offset = offset;
	super.total_size = offset;
	image.size = offset;
	image.bytes = calloc(1, offset);
	image.super = (struct superblock *)image.bytes;
	*image.super = super;
	memcpy(image.bytes + super.inodes.offset, inodes, super.inodes.length);
	memcpy(image.bytes + super.dirents.offset, records, super.dirents.length);
	memcpy(image.bytes + super.names.offset, names, names_size);
	image_seal(&image);
	free(inodes);
	free(records);
	free(names);
	free(entries);
	return image;
}

static u64 now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

/* Find out if a nanosecond is an instruction: a million rounds of a loop of two then take 2 ms. */
static bool counts_instructions(void)
{
	for (int i = 0; i < 3; i++) {
		unsigned long rounds = 1000000;
		u64 start = now();

#ifdef __x86_64__
		asm volatile("1: dec %0\n\tjnz 1b" : "+r"(rounds));
#elif defined(__aarch64__)
		asm volatile("1: subs %0, %0, #1\n\tb.ne 1b" : "+r"(rounds) : : "cc");
#else
		return false;
#endif
		if (now() - start < 2000000 || now() - start > 2200000)
			return false;
	}
	return true;
}

/*
 * Look up a sample of the names of directory @which, and as many names that it does not have, with
 * cold caches. Record the costs.
 */
static void look_up(unsigned int which)
{
	enum kind kind = directories[which].kind;
	u32 count = directories[which].count, number = 0, every = count / SAMPLE + 1, tried = 0;
	char (*sample)[NAME_SIZE] = calloc(count, NAME_SIZE), name[NAME_SIZE];
	struct stat stat;
	u64 start;

	for (u32 i = 0; i < count; i++)
		next_name(sample[i], kind, &number, i, count);
	REQUIRE(!chdir(mnt) && !chdir(directories[which].name));
	REQUIRE(shrink_caches(2));
	start = now();
	for (u32 i = 0; i < count; i += every, tried++) {
		/* Spread over the directory, in random order. */
		u32 index = (u64)i * 7919 % count;

		if (!CHECK(!lstat(sample[index], &stat)))
			break;
	}
	costs[which].found = (now() - start) / tried;
	start = now();
	for (u32 i = 0; i < SAMPLE; i++) {
		next_name(name, kind, &number, (u64)i * count / SAMPLE, count);
		if (!CHECK(lstat(name, &stat) && errno == ENOENT))
			break;
	}
	costs[which].missing = (now() - start) / SAMPLE;
	free(sample);
}

POINT(even, "directories of up to a million names")
{
	for (unsigned int i = 0; i < ARRAY_SIZE(directories); i++)
		if (directories[i].kind == EVEN)
			look_up(i);
}

POINT(colliding, "names whose hashes are the same")
{
	for (unsigned int i = 0; i < ARRAY_SIZE(directories); i++)
		if (directories[i].kind == COLLIDING)
			look_up(i);
}

POINT(skewed, "hashes that interpolation misses")
{
	for (unsigned int i = 0; i < ARRAY_SIZE(directories); i++)
		if (directories[i].kind == SKEWED)
			look_up(i);
}

POINT(lists, "listings are complete")
{
	for (unsigned int i = 0; i < ARRAY_SIZE(directories); i++) {
		unsigned int count = 0;
		DIR *dir;

		REQUIRE(!chdir(mnt));
		dir = opendir(directories[i].name);
		REQUIRE(dir);
		while (errno = 0, readdir(dir))
			count++;
		CHECK_EQ(errno, 0);
		CHECK_EQ(count, directories[i].count + 2);
		closedir(dir);
	}
}

static double logarithm(unsigned int count)
{
	double bits = 0;

	for (; count > 1; count = (count + 1) / 2)
		bits++;
	return bits;
}

POINT(growth, "the cost grows no faster than the logarithm")
{
	printf("# directory     found  missing\n");
	for (unsigned int i = 0; i < ARRAY_SIZE(directories); i++)
		printf("# %-12s %6ld %8ld\n", directories[i].name, costs[i].found,
		       costs[i].missing);
	if (!counts_instructions())
		SKIP("needs a clock that counts instructions (qemu/vm --icount)");
	for (unsigned int i = 1; i < ARRAY_SIZE(directories); i++) {
		double factor;

		if (directories[i].kind != directories[i - 1].kind)
			continue;
		factor = logarithm(directories[i].count) / logarithm(directories[i - 1].count);
		CHECK(costs[i].found <= costs[i - 1].found * factor);
		CHECK(costs[i].missing <= costs[i - 1].missing * factor);
	}
	/*
	 * The worst names make a look-up in a directory of 100,000 less than 4 times as expensive.
	 */
	CHECK(costs[6].found < costs[2].found * 4);
	CHECK(costs[8].found < costs[2].found * 4);
}

int main(void)
{
	const char *device = fixture_device("scratch");
	struct image image;

	mnt = private_mount_point();
	costs = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	image = make_image();
	image_write(&image, device);
	image_free(&image);
	if (mount(device, mnt, "daxfs", MS_RDONLY, NULL)) {
		printf("Bail out! mount -t daxfs %s: %s\n", device, strerror(errno));
		return KTAP_FAIL;
	}
	return ktap_run();
}
