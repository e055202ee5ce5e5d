// SPDX-License-Identifier: GPL-2.0-only
/*
 * Images whose files share data blocks in ways that the format forbids. The kernel's DAX code
 * would take the pages of one file for pages of another, so the driver must refuse them.
 *
 * Group: modules
 * Machine: cpus=2 virtio-pmem=scratch
 */
#include <sched.h>

#include "device.h"

#define PACKED 1
#define SHARED 4

static const char *device, *mnt;
static struct image good;

/* Write @image to the device with right checksums and mount it, for this process only, which changes to its root. */
static void seal_and_mount(struct image *image)
{
	image_seal(image);
	image_write(image, device);
	REQUIRE(!unshare(CLONE_NEWNS));
	REQUIRE(!mount(device, mnt, "daxfs", MS_RDONLY, NULL));
	REQUIRE(!chdir(mnt));
}

/* A copy of the image with room for large files, and the inodes of three files in it. */
struct case_image {
	struct image image;
	struct inode *first, *second, *third;
	u32 first_ino, second_ino, third_ino;
};

#define ROOM (8UL << 20)

/* The block size of the image, and the page size of the kernel. Sizes and places are in blocks. */
static u64 block;

static struct case_image new_image(void)
{
	struct case_image new = { .image = { .bytes = calloc(1, ROOM), .size = ROOM } };
	u32 a = image_entry(&good, "file")->ino, b = image_entry(&good, "good")->ino;

	memcpy(new.image.bytes, good.bytes, good.size);
	pattern_fill(new.image.bytes + HUGE_SIZE, ROOM - HUGE_SIZE, 9, HUGE_SIZE);
	new.image.super = (struct superblock *)new.image.bytes;
	new.image.super->total_size = ROOM;
	new.image.super->data.length = ROOM - new.image.super->data.offset;
	new.first_ino = a < b ? a : b;
	new.second_ino = a < b ? b : a;
	new.first = image_inode(&new.image, new.first_ino);
	new.second = image_inode(&new.image, new.second_ino);
	new.third_ino = image_entry(&good, "labelled")->ino;
	new.third = image_inode(&new.image, new.third_ino);
	return new;
}

static void place(struct inode *inode, u64 data, u64 size)
{
	inode->data = data;
	inode->size = size;
}

/* An image whose first two files are at these places. */
static struct case_image pair(u64 first, u64 first_size, u64 second, u64 second_size)
{
	struct case_image image = new_image();

	place(image.first, first, first_size);
	place(image.second, second, second_size);
	return image;
}

static const char *name_of(const struct case_image *image, u32 ino)
{
	if (ino == image->third_ino)
		return "labelled";
	return image_entry(&image->image, "file")->ino == ino ? "file" : "good";
}

/* Read a file, map it and compare both. Return the mapping, or MAP_FAILED. */
static char *read_and_map(const struct case_image *image, u32 ino)
{
	const struct inode *inode = image_inode(&image->image, ino);
	int fd = open(name_of(image, ino), O_RDONLY | O_CLOEXEC);
	char *buffer = malloc(inode->size), *address;

	REQUIRE(fd >= 0);
	CHECK_EQ(read(fd, buffer, inode->size), inode->size);
	CHECK(pattern_matches(buffer, inode->size, 9, inode->data));
	address = mmap(NULL, inode->size, PROT_READ, MAP_SHARED, fd, 0);
	if (address != MAP_FAILED)
		CHECK(pattern_matches(address, inode->size, 9, inode->data));
	free(buffer);
	close(fd);
	return address;
}

/*
 * The file that is mapped first owns the pages, and the other one cannot be mapped. That lasts
 * until unmount: the kernel keeps inodes with DAX entries.
 */
static void first_comes(struct case_image *image, u32 first, u32 second)
{
	const struct inode *inode = image_inode(&image->image, first);
	char *one;

	seal_and_mount(&image->image);
	one = read_and_map(image, first);
	REQUIRE(one != MAP_FAILED);
	CHECK(read_and_map(image, second) == MAP_FAILED);
	CHECK_EQ(errno, EUCLEAN);
	CHECK(pattern_matches(one, inode->size, 9, inode->data));
	/* The owner may be mapped again. */
	CHECK(read_and_map(image, first) != MAP_FAILED);
}

static void exclude_one_another(struct case_image *image)
{
	for (int turn = 0; turn < 2; turn++) {
		pid_t pid = fork();
		int status;

		if (!pid) {
			first_comes(image, turn ? image->second_ino : image->first_ino,
				    turn ? image->first_ino : image->second_ino);
			fflush(stdout);
			_exit(ktap_point->failed);
		}
		REQUIRE(waitpid(pid, &status, 0) == pid);
		CHECK_EQ(status, 0);
	}
}

/* Take the place and the size of each file. */
static void exclude(u64 first, u64 first_size, u64 second, u64 second_size)
{
	struct case_image image = pair(first, first_size, second, second_size);

	exclude_one_another(&image);
}

POINT(same_pages, "all pages in common")
{
	exclude(HUGE_SIZE, 5 * block - 480, HUGE_SIZE, 5 * block - 480);
}

POINT(some_pages, "some pages in common")
{
	exclude(HUGE_SIZE + 2 * block, 5 * block - 480, HUGE_SIZE, 2 * block + 1);
}

POINT(inside, "all pages inside another file's")
{
	exclude(HUGE_SIZE + block, block, HUGE_SIZE, 5 * block - 480);
}

POINT(huge_over_small, "an entry of 2 MiB over small ones")
{
	exclude(2 * HUGE_SIZE - block, 2 * block, HUGE_SIZE, 2 * HUGE_SIZE);
}

POINT(small_over_huge, "small entries over one of 2 MiB")
{
	exclude(HUGE_SIZE, 2 * HUGE_SIZE, HUGE_SIZE + 2 * block, block);
}

POINT(huge_out_of_step, "misaligned entries of 2 MiB")
{
	exclude(HUGE_SIZE, 2 * HUGE_SIZE, HUGE_SIZE + block, 2 * HUGE_SIZE);
}

POINT(packed_over_whole, "a packed file over another")
{
	struct case_image image = pair(HUGE_SIZE, 2 * block, HUGE_SIZE + block, 2 * block + 1808);

	image.image.super->incompat = PACKED;
	image.second->flags = PACKED;
	exclude_one_another(&image);
}

/* Packed pages are mapped by copies and own no page, so they may overlap others. */
POINT(copies, "packed files that are mapped by copies")
{
	struct case_image image = pair(HUGE_SIZE + 1, HUGE_SIZE, HUGE_SIZE + block + 77, ROOM - HUGE_SIZE - block - 77);
	char *one, *other;

	image.image.super->incompat = PACKED;
	image.first->flags = PACKED;
	image.second->flags = PACKED;
	seal_and_mount(&image.image);
	one = read_and_map(&image, image.first_ino);
	other = read_and_map(&image, image.second_ino);
	CHECK(one != MAP_FAILED && other != MAP_FAILED);
}

POINT(neighbours, "adjacent files")
{
	struct case_image image = pair(HUGE_SIZE + block, block, HUGE_SIZE + 2 * block, 5 * block - 480);

	seal_and_mount(&image.image);
	CHECK(read_and_map(&image, image.first_ino) != MAP_FAILED);
	CHECK(read_and_map(&image, image.second_ino) != MAP_FAILED);
}

/* Map two files with room for four blocks between them, and then the second, of @blocks, from @from on. */
static char *map_between(u64 from, u64 blocks)
{
	struct case_image image = pair(HUGE_SIZE, 4 * block, HUGE_SIZE + from * block, blocks * block);

	place(image.third, HUGE_SIZE + 8 * block, block);
	seal_and_mount(&image.image);
	CHECK(read_and_map(&image, image.third_ino) != MAP_FAILED);
	CHECK(read_and_map(&image, image.first_ino) != MAP_FAILED);
	return read_and_map(&image, image.second_ino);
}

POINT(between, "a file between two others")
{
	CHECK(map_between(4, 4) != MAP_FAILED);
}

POINT(end_of_the_one_before, "the last page of the file before")
{
	CHECK(map_between(3, 2) == MAP_FAILED);
	CHECK_EQ(errno, EUCLEAN);
}

POINT(start_of_the_one_after, "the first page of the file after")
{
	CHECK(map_between(5, 4) == MAP_FAILED);
	CHECK_EQ(errno, EUCLEAN);
}

/*
 * Make four processes map the files at the same moment, two each, when nothing of them is in memory. Count in @mapped
 * the processes that could map each file, and check their content.
 */
static void map_at_once(const struct case_image *image, int mapped[2])
{
	int status, ready[2], start[2];
	char byte = 0;

	REQUIRE(!pipe(ready) && !pipe(start));
	bounded_drop_caches(1);
	for (int i = 0; i < 4; i++) {
		if (fork())
			continue;
		close(start[1]);
		REQUIRE(write(ready[1], &byte, 1) == 1);
		/* This ends when the parent closes the pipe. */
		REQUIRE(read(start[0], &byte, 1) == 0);
		_exit(read_and_map(image, i % 2 ? image->second_ino : image->first_ino) != MAP_FAILED ?
			      1 + i % 2 : errno == EUCLEAN && !ktap_point->failed ? 0 : 3);
	}
	for (int i = 0; i < 4; i++)
		REQUIRE(read(ready[0], &byte, 1) == 1);
	close(start[1]);
	mapped[0] = 0;
	mapped[1] = 0;
	for (int i = 0; i < 4; i++) {
		REQUIRE(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) < 3);
		if (WEXITSTATUS(status))
			mapped[WEXITSTATUS(status) - 1]++;
	}
	close(ready[0]);
	close(ready[1]);
	close(start[0]);
}

POINT(originals_at_once, "an original and its copy, mapped at once")
{
	struct case_image image = pair(HUGE_SIZE, 3 * block, HUGE_SIZE, 3 * block);
	int mapped[2], rounds = repeats(40);

	image.image.super->incompat = SHARED;
	image.second->original = image.first_ino;
	seal_and_mount(&image.image);
	for (int i = 0; i < rounds; i++) {
		map_at_once(&image, mapped);
		CHECK_EQ(mapped[0], 2);
		CHECK_EQ(mapped[1], 2);
	}
}

POINT(overlaps_at_once, "files with common pages, mapped at once")
{
	struct case_image image = pair(HUGE_SIZE, 3 * block, HUGE_SIZE + block, 3 * block);
	int mapped[2], rounds = repeats(40);

	seal_and_mount(&image.image);
	for (int i = 0; i < rounds; i++) {
		map_at_once(&image, mapped);
		CHECK_EQ(mapped[0] + mapped[1], 2);
		CHECK_EQ(mapped[0] * mapped[1], 0);
	}
}

POINT(true_originals, "an original")
{
	struct case_image image = pair(HUGE_SIZE, 2 * HUGE_SIZE, HUGE_SIZE, 2 * HUGE_SIZE);

	image.image.super->incompat = SHARED;
	image.second->original = image.first_ino;
	seal_and_mount(&image.image);
	CHECK(read_and_map(&image, image.second_ino) != MAP_FAILED);
	CHECK(read_and_map(&image, image.first_ino) != MAP_FAILED);
}

/* The second file cannot be opened; the first can. */
static void check_refused_file(struct case_image *image)
{
	int status;
	pid_t pid = fork();
	struct stat stat;

	if (!pid) {
		seal_and_mount(&image->image);
		for (int i = 0; i < 2; i++) {
			CHECK_FAILS(lstat(name_of(image, image->second_ino), &stat), EUCLEAN);
			CHECK(!lstat(name_of(image, image->first_ino), &stat));
		}
		CHECK(read_and_map(image, image->first_ino) != MAP_FAILED);
		fflush(stdout);
		_exit(ktap_point->failed);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
	image_free(&image->image);
}

/* Check that after this change the image's second file, a copy of the first, is refused. */
#define REFUSED(...) \
	do { \
		struct case_image image = pair(HUGE_SIZE, 5 * block - 480, HUGE_SIZE, 5 * block - 480); \
\
		image.image.super->incompat = PACKED | SHARED; \
		image.second->original = image.first_ino; \
		__VA_ARGS__; \
		check_refused_file(&image); \
	} while (0)

POINT(false_originals, "wrong originals")
{
	REFUSED(image.second->original = image.second_ino);
	REFUSED(image.second->original = image.second_ino + 1);
	REFUSED(image.second->original = ~0U);
	REFUSED(image.second->original = 1);
	REFUSED(image.image.super->incompat = PACKED);
	REFUSED(image.second->size -= 1);
	REFUSED(image.second->size += 1);
	REFUSED(image.second->data += block);
	REFUSED(image.second->size = 0);
}

POINT(false_flags, "wrong flags")
{
	REFUSED(image.second->flags = PACKED);
	REFUSED(image.second->flags = 2);
	REFUSED(image.second->data += 1);
	REFUSED(image.second->flags = PACKED; image.image.super->incompat = SHARED);
}

/*
 * Two inodes that name each other as original, looked up by several processes at once: no deadlock.
 */
POINT(circles, "two originals of each other")
{
	struct case_image image = pair(HUGE_SIZE, 5 * block - 480, HUGE_SIZE, 5 * block - 480);
	int status, left = 4;

	image.image.super->incompat = SHARED;
	image.first->original = image.second_ino;
	image.second->original = image.first_ino;
	seal_and_mount(&image.image);
	for (int i = 0; i < left; i++) {
		if (fork())
			continue;
		for (int j = 0; j < 200; j++) {
			struct stat stat;

			CHECK_FAILS(lstat("good", &stat), EUCLEAN);
			CHECK_FAILS(lstat("file", &stat), EUCLEAN);
		}
		_exit(0);
	}
	while (left--)
		REQUIRE(wait(&status) > 0 && !status);
}

int main(void)
{
	device = fixture_device("scratch");
	mnt = private_mount_point();
	good = image_load_small();
	block = good.super->block_size;
	return ktap_run();
}
