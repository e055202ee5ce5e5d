// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * libdaxfs as used by a C program: the answers for the image in the first argument, the errors, and damaged images.
 * tests/library makes the image and runs this.
 */
#include <daxfs.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/stat.h>

#include "lib/ktap.h"

#define PAGE 4096

static const char *path;
static struct daxfs *image;

static void open_it(void)
{
	REQUIRE(daxfs_open(path, &image) == 0);
}

static struct daxfs_stat find(const char *name)
{
	struct daxfs_stat stat;

	open_it();
	REQUIRE(daxfs_find(image, name, DAXFS_NOFOLLOW, &stat) == 0);
	return stat;
}

POINT(superblock, "the superblock")
{
	struct daxfs_info info;
	struct stat file;

	open_it();
	daxfs_info(image, &info);
	CHECK(strcmp(info.label, "library") == 0);
	CHECK(stat(path, &file) == 0 && (uint64_t)file.st_size == info.size);
	CHECK_EQ(info.block_size, PAGE);
	CHECK_EQ(daxfs_verify(image), 0);
	daxfs_close(image);
	daxfs_close(NULL);
}

POINT(content, "content of a file")
{
	struct daxfs_stat file = find("/dir/hello");
	char bytes[20] = "";

	CHECK(S_ISREG(file.mode) && (file.mode & 07777) == 0640);
	CHECK_EQ(file.size, 14);
	CHECK_EQ(file.mtime_sec, 1000000000);
	CHECK_EQ(file.nlink, 2);
	CHECK_EQ(daxfs_read(image, file.ino, bytes, sizeof(bytes), 0), 14);
	CHECK(memcmp(bytes, "Hello, world!\n", 14) == 0);
	CHECK_EQ(daxfs_read(image, file.ino, bytes, 5, 7), 5);
	CHECK(memcmp(bytes, "world", 5) == 0);
	CHECK_EQ(daxfs_read(image, file.ino, bytes, sizeof(bytes), 14), 0);
	CHECK_EQ(daxfs_read(image, file.ino, bytes, sizeof(bytes), UINT64_MAX), 0);
	CHECK_EQ(daxfs_read(image, file.ino, NULL, 0, 0), 0);
}

POINT(mapped, "content of a file, mapped at its offset")
{
	struct daxfs_stat file = find("/dir/hello");
	int fd = open(path, O_RDONLY);
	const char *data;

	CHECK(file.offset % PAGE == 0);
	data = mmap(NULL, file.size, PROT_READ, MAP_SHARED, fd, file.offset);
	REQUIRE(data != MAP_FAILED);
	CHECK(memcmp(data, "Hello, world!\n", file.size) == 0);
}

POINT(descriptor, "an image by its descriptor")
{
	int fd = open(path, O_RDONLY);
	char bytes[5];
	struct daxfs_stat stat;

	REQUIRE(daxfs_open_fd(fd, &image) == 0);
	close(fd);
	REQUIRE(daxfs_find(image, "dir/hello", 0, &stat) == 0);
	CHECK_EQ(daxfs_read(image, stat.ino, bytes, 5, 0), 5);
	daxfs_close(image);
	CHECK_EQ(daxfs_open_fd(fd, &image), -EBADF);
	CHECK_EQ(daxfs_open_fd(-1, &image), -EBADF);
	CHECK(!image);
}

POINT(located, "a file that is not on a mounted image")
{
	uint64_t offset, length;
	int fd = open(path, O_RDONLY), memory;

	CHECK_EQ(daxfs_memory(fd, path, &memory, &offset, &length), -ENODEV);
	CHECK_EQ(daxfs_locate(fd, &offset, &length), -ENODEV);
	CHECK(strstr(daxfs_error(), "not on a mounted image"));
	close(fd);
	CHECK_EQ(daxfs_locate(fd, &offset, &length), -EBADF);
	CHECK_EQ(daxfs_locate(-1, &offset, &length), -EBADF);
}

/* Check that the image equals the one in a file of its own. */
static void check_part(int fd, off_t start)
{
	struct daxfs_stat alone = find("dir/hello"), stat;
	char bytes[5];

	REQUIRE(!daxfs_open_part(fd, start, NULL, &image));
	CHECK_EQ(daxfs_offset(image), start);
	REQUIRE(!daxfs_find(image, "dir/hello", 0, &stat));
	CHECK(!memcmp(&stat, &alone, sizeof(stat)));
	CHECK_EQ(daxfs_read(image, stat.ino, bytes, 5, 0), 5);
	CHECK(!memcmp(bytes, "Hello", 5));
	/* The offset in the file. */
	CHECK_EQ(pread(fd, bytes, 5, daxfs_offset(image) + stat.offset), 5);
	CHECK(!memcmp(bytes, "Hello", 5));
	daxfs_close(image);
}

POINT(part, "an image in the middle of a file, and one of a store")
{
	char disk[PATH_MAX], temporary[] = "/tmp/daxfs-api-XXXXXX", buffer[65536];
	int from = open(path, O_RDONLY), fd = mkstemp(temporary);
	off_t start = 5003, at = 0;
	ssize_t length;

	REQUIRE(from >= 0 && fd >= 0);
	unlink(temporary);
	while ((length = pread(from, buffer, sizeof(buffer), at)) > 0) {
		REQUIRE(pwrite(fd, buffer, length, start + at) == length);
		at += length;
	}
	check_part(fd, start);
	CHECK_EQ(daxfs_open_part(fd, 0, NULL, &image), -EINVAL);
	CHECK_EQ(daxfs_open_part(fd, start + at + 1, NULL, &image), -EINVAL);
	CHECK(strstr(daxfs_error(), "ends before the offset"));
	CHECK_EQ(daxfs_open_part(fd, start, "library", &image), -EINVAL);
	close(fd);

	/* tests/library made this. */
	snprintf(disk, sizeof(disk), "%s.disk", path);
	fd = open(disk, O_RDONLY);
	REQUIRE(fd >= 0);
	REQUIRE(!daxfs_open_part(fd, 0, "library", &image));
	start = daxfs_offset(image);
	CHECK(start >= 2 << 20);
	daxfs_close(image);
	check_part(fd, start);
	CHECK_EQ(daxfs_open_part(fd, 0, "none", &image), -ENOENT);
	CHECK_EQ(daxfs_open_part(fd, 0, NULL, &image), -EUCLEAN);
	CHECK_EQ(daxfs_open_part(-1, 0, NULL, &image), -EBADF);
	CHECK(!image);
	close(fd);
}

/* tests/library made a composed image, whose content is all in this image. */
POINT(packs, "a file with its content in a pack")
{
	char composed[PATH_MAX], bytes[20] = "";
	struct daxfs_stat file = find("/dir/hello"), other, stat;
	struct daxfs *pack = image;
	struct daxfs_info info;
	struct daxfs_pack record;
	uint32_t number;

	snprintf(composed, sizeof(composed), "%s.composed", path);
	REQUIRE(daxfs_open(composed, &image) == 0);
	daxfs_info(pack, &info);
	CHECK_EQ(daxfs_pack(image, 0, &record), 0);
	CHECK(record.size == info.size && !memcmp(record.sha256, info.sha256, sizeof(info.sha256)));
	CHECK_EQ(daxfs_pack(image, 1, &record), -EINVAL);
	CHECK_EQ(daxfs_pack(pack, 0, &record), -EINVAL);

	REQUIRE(daxfs_find(image, "/dir/hello", 0, &stat) == 0);
	CHECK(stat.size == file.size && stat.ino == file.ino && stat.offset == 0);
	CHECK_EQ(daxfs_read(image, stat.ino, bytes, sizeof(bytes), 0), -EOPNOTSUPP);
	CHECK(strstr(daxfs_error(), "its content is in the pack "));
	CHECK_EQ(daxfs_source(image, stat.ino, &number, &other), -EOPNOTSUPP);
	CHECK_EQ(daxfs_add_pack(image, image), -EINVAL);
	CHECK_EQ(daxfs_add_pack(pack, pack), -EINVAL);

	CHECK_EQ(daxfs_add_pack(image, pack), 0);
	CHECK_EQ(daxfs_add_pack(image, pack), 0);
	CHECK_EQ(daxfs_add_pack(image, image), -EINVAL);
	daxfs_close(pack);
	CHECK_EQ(daxfs_read(image, stat.ino, bytes, sizeof(bytes), 0), 14);
	CHECK(memcmp(bytes, "Hello, world!\n", 14) == 0);
	CHECK_EQ(daxfs_read(image, stat.ino, bytes, 5, 7), 5);
	CHECK_EQ(daxfs_source(image, stat.ino, &number, &other), 0);
	CHECK_EQ(number, 1);
	CHECK(!memcmp(&other, &file, sizeof(file)));
	/* An empty file is in the image itself. */
	REQUIRE(daxfs_find(image, "/empty", 0, &stat) == 0);
	CHECK_EQ(daxfs_source(image, stat.ino, &number, &other), 0);
	CHECK(number == 0 && other.size == 0);
	CHECK_EQ(daxfs_read(image, stat.ino, bytes, sizeof(bytes), 0), 0);
	REQUIRE(daxfs_find(image, "/dir", 0, &stat) == 0);
	CHECK_EQ(daxfs_source(image, stat.ino, &number, &other), -EISDIR);
}

POINT(paths, "paths, symlinks and inode numbers")
{
	struct daxfs_stat stat, link = find("/dir/link");

	CHECK(S_ISLNK(link.mode));
	CHECK_EQ(daxfs_find(image, "/dir/link", 0, &stat), 0);
	CHECK_EQ(stat.ino, find("/dir/hello").ino);
	CHECK_EQ(daxfs_find(image, "/../dir/./../dir//hello", 0, &stat), 0);
	CHECK_EQ(daxfs_find(image, "/none", 0, &stat), -ENOENT);
	CHECK(strstr(daxfs_error(), "no such file"));
	CHECK_EQ(daxfs_find(image, "/dir/hello/x", 0, &stat), -ENOTDIR);
	CHECK_EQ(daxfs_find(image, "/dir/hello/", 0, &stat), -ENOTDIR);
	CHECK_EQ(daxfs_find(image, "/dir/hello/.", 0, &stat), -ENOTDIR);
	CHECK_EQ(daxfs_find(image, "/dir/link/.", DAXFS_NOFOLLOW, &stat), -ENOTDIR);
	CHECK_EQ(daxfs_find(image, "/dir/sub/up/.", DAXFS_NOFOLLOW, &stat), 0);
	CHECK(S_ISDIR(stat.mode));
	CHECK_EQ(daxfs_find(image, "", 0, &stat), -ENOENT);
	CHECK_EQ(daxfs_find(image, "/loop", 0, &stat), -ELOOP);
	CHECK_EQ(daxfs_find(image, "/loop", DAXFS_NOFOLLOW, &stat), 0);
	CHECK_EQ(daxfs_find(image, "/", 8, &stat), -EINVAL);
	CHECK_EQ(daxfs_stat(image, 0, &stat), -EUCLEAN);
	CHECK_EQ(daxfs_stat(image, UINT32_MAX, &stat), -EUCLEAN);
}

POINT(directories, "directories in parts")
{
	uint32_t ino = find("/many").ino, position = 0;
	struct daxfs_dirent entries[7];
	bool seen[100] = {};
	ssize_t count;

	while ((count = daxfs_readdir(image, ino, position, entries, 7)) > 0) {
		position += count;
		for (ssize_t i = 0; i < count; i++) {
			int number = atoi(entries[i].name);

			REQUIRE(number >= 0 && number < 100 && !seen[number]);
			seen[number] = true;
			CHECK_EQ(entries[i].length, strlen(entries[i].name));
			CHECK(S_ISREG(entries[i].stat.mode));
		}
	}
	CHECK_EQ(count, 0);
	CHECK_EQ(position, 100);
	CHECK_EQ(daxfs_readdir(image, ino, UINT32_MAX, entries, 7), 0);
	CHECK_EQ(daxfs_readdir(image, find("/dir/hello").ino, 0, entries, 7), -ENOTDIR);
}

POINT(texts, "targets of symlinks and extended attributes")
{
	uint32_t ino = find("/dir/link").ino;
	char bytes[100];

	CHECK_EQ(daxfs_readlink(image, ino, NULL, 0), 5);
	CHECK_EQ(daxfs_readlink(image, ino, bytes, 4), -ERANGE);
	CHECK_EQ(daxfs_readlink(image, ino, bytes, 5), 5);
	CHECK(memcmp(bytes, "hello", 5) == 0);
	ino = find("/dir/hello").ino;
	CHECK_EQ(daxfs_readlink(image, ino, bytes, sizeof(bytes)), -EINVAL);
	CHECK_EQ(daxfs_listxattr(image, ino, bytes, sizeof(bytes)), 11);
	CHECK(memcmp(bytes, "user.color", 11) == 0);
	CHECK_EQ(daxfs_getxattr(image, ino, "user.color", NULL, 0), 4);
	CHECK_EQ(daxfs_getxattr(image, ino, "user.color", bytes, 3), -ERANGE);
	CHECK_EQ(daxfs_getxattr(image, ino, "user.color", bytes, 4), 4);
	CHECK(memcmp(bytes, "blue", 4) == 0);
	CHECK_EQ(daxfs_getxattr(image, ino, "user.none", bytes, 4), -ENODATA);
	CHECK_EQ(daxfs_getxattr(image, ino, "none", bytes, 4), -ENODATA);
	CHECK_EQ(daxfs_listxattr(image, find("/").ino, bytes, sizeof(bytes)), 0);
}

POINT(not_images, "what is not an image")
{
	char zeros[PAGE] = {}, directory[] = "/tmp/daxfs-XXXXXX", fifo[40];

	CHECK_EQ(daxfs_open("/nonexistent", &image), -ENOENT);
	CHECK(!image);
	CHECK_EQ(daxfs_open("/", &image), -EISDIR);
	CHECK_EQ(daxfs_open("/dev/null", &image), -EINVAL);
	REQUIRE(mkdtemp(directory) && snprintf(fifo, sizeof(fifo), "%s/fifo", directory) > 0);
	REQUIRE(mkfifo(fifo, 0600) == 0);
	CHECK_EQ(daxfs_open(fifo, &image), -EINVAL);
	unlink(fifo);
	rmdir(directory);
	CHECK_EQ(daxfs_open_memory(zeros, sizeof(zeros), &image), -EINVAL);
	CHECK(strstr(daxfs_error(), "not a daxfs image"));
	CHECK_EQ(daxfs_open_memory(NULL, PAGE, &image), -EINVAL);
	CHECK_EQ(daxfs_open_memory(zeros, 255, &image), -EINVAL);
}

/* Reading a file that was truncated or overwritten with another image fails. */
POINT(truncated, "an image that is truncated or replaced while it is open")
{
	char name[] = "/tmp/daxfs-XXXXXX", bytes[PAGE], sum[32];
	int from = open(path, O_RDONLY), to = mkstemp(name);
	struct daxfs_stat stat;
	ssize_t length;

	REQUIRE(to >= 0);
	unlink(name);
	while ((length = read(from, bytes, sizeof(bytes))) > 0)
		REQUIRE(write(to, bytes, length) == length);
	REQUIRE(daxfs_open_fd(to, &image) == 0);
	REQUIRE(daxfs_find(image, "/dir/hello", 0, &stat) == 0);
	/* The SHA-256 in the superblock. */
	REQUIRE(pread(to, sum, 32, 220) == 32 && pwrite(to, bytes, 32, 220) == 32);
	CHECK_EQ(daxfs_read(image, stat.ino, bytes, 10, 0), -ESTALE);
	CHECK_EQ(daxfs_stat(image, stat.ino, &stat), -ESTALE);
	CHECK_EQ(daxfs_find(image, "/dir/hello", 0, &stat), -ESTALE);
	REQUIRE(pwrite(to, sum, 32, 220) == 32);
	CHECK_EQ(daxfs_read(image, stat.ino, bytes, 10, 0), 10);
	REQUIRE(ftruncate(to, stat.offset) == 0);
	CHECK_EQ(daxfs_read(image, stat.ino, bytes, 10, 0), -EIO);
	REQUIRE(ftruncate(to, 256) == 0);
	CHECK_EQ(daxfs_find(image, "/dir/hello", 0, &stat), -EIO);
	CHECK_EQ(daxfs_verify(image), -EIO);
	daxfs_close(image);
	CHECK_EQ(daxfs_open_fd(to, &image), -EINVAL);
}

static void *fail_often(void *name)
{
	struct daxfs_stat stat;

	for (int i = 0; i < 1000; i++) {
		bool none = daxfs_find(image, name, 0, &stat) == -ENOENT;

		if (none != !strcmp(name, "/none") || !strstr(daxfs_error(), none ? "no such" : "too many"))
			return "wrong";
	}
	return NULL;
}

/* Threads share an image, but each has its own error message. */
POINT(threads, "threads")
{
	pthread_t thread;
	void *result;

	open_it();
	REQUIRE(pthread_create(&thread, NULL, fail_often, "/none") == 0);
	CHECK(!fail_often("/loop"));
	CHECK(pthread_join(thread, &result) == 0 && !result);
}

/* Walk everything reachable, and count the errors. */
static unsigned int walk(uint32_t ino, unsigned int depth)
{
	struct daxfs_dirent entries[16];
	char bytes[4096];
	struct daxfs_stat stat;
	uint32_t position = 0;
	unsigned int errors = 0;
	ssize_t count;

	/* The image has 120 inodes, so a deeper path is a loop. */
	REQUIRE(depth < 200);
	if (daxfs_stat(image, ino, &stat) < 0)
		return 1;
	errors += daxfs_read(image, ino, bytes, sizeof(bytes), 0) < 0;
	errors += daxfs_readlink(image, ino, bytes, sizeof(bytes)) < 0;
	errors += daxfs_listxattr(image, ino, bytes, sizeof(bytes)) < 0;
	errors += daxfs_getxattr(image, ino, "user.color", bytes, sizeof(bytes)) < 0;
	while ((count = daxfs_readdir(image, ino, position, entries, 16)) > 0) {
		position += count;
		for (ssize_t i = 0; i < count; i++)
			errors += walk(entries[i].stat.ino, depth + 1);
	}
	return errors + (count < 0);
}

static uint32_t crc32c(const uint8_t *bytes, size_t length)
{
	uint32_t crc = ~0u;

	while (length--) {
		crc ^= *bytes++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return ~crc;
}

/*
 * Change each byte of the metadata in turn. The image lies between inaccessible pages, so that reading outside it is
 * fatal.
 */
POINT(damaged, "images with damaged metadata")
{
	static const uint8_t masks[] = { 0x01, 0x80, 0xff };
	int fd = open(path, O_RDONLY);
	struct daxfs_stat stat;
	struct daxfs_info info;
	unsigned int refused = 0, opened = 0;
	uint8_t *map, *copy;
	uint64_t metadata;
	uint32_t sum;

	open_it();
	daxfs_info(image, &info);
	daxfs_close(image);
	map = mmap(NULL, info.size + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(map != MAP_FAILED);
	copy = mmap(map + PAGE, info.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0);
	REQUIRE(copy != MAP_FAILED);
	/* The data follows the metadata. */
	memcpy(&metadata, copy + 200, sizeof(metadata));
	REQUIRE(metadata < 64 << 10);
	for (size_t at = 0; at < metadata; at++) {
		uint8_t saved[256], byte = copy[at];

		memcpy(saved, copy, sizeof(saved));
		copy[at] ^= masks[at % sizeof(masks)];
		/* A damaged superblock with a valid checksum. */
		sum = crc32c(copy, 252);
		if (at < 252)
			memcpy(copy + 252, &sum, sizeof(sum));
		if (daxfs_open_memory(copy, info.size, &image) == 0) {
			uint32_t root = daxfs_find(image, "/", 0, &stat) == 0 ? stat.ino : 1;

			opened++;
			walk(root, 0);
			daxfs_find(image, "/dir/link", 0, &stat);
			daxfs_find(image, "/loop", 0, &stat);
			daxfs_close(image);
		} else {
			refused++;
		}
		copy[at] = byte;
		memcpy(copy, saved, sizeof(saved));
	}
	CHECK(refused > 50 && opened > 1000);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: api IMAGE\n");
		return 2;
	}
	path = argv[1];
	return ktap_run();
}
