// SPDX-License-Identifier: GPL-2.0-only
/*
 * Images that change while they are mounted.
 *
 * Group: modules
 * Machine: cpus=2 virtio-pmem=scratch
 */
#include <dirent.h>
#include <sched.h>
#include <sys/xattr.h>

#include "corrupt.h"

static void file_is_good(void)
{
	char buffer[5000];
	int fd = open("good", O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0 && read(fd, buffer, sizeof(buffer)) == 5000 &&
	      pattern_matches(buffer, 5000, 5, 0));
	close(fd);
}

static void look_at_xattrs(const char *path)
{
	static char names[XATTR_LIST_MAX], value[XATTR_SIZE_MAX];
	ssize_t length = llistxattr(path, names, sizeof(names));

	for (char *name = names; length > 0 && name < names + length; name += strlen(name) + 1) {
		CHECK(*name && memchr(name, 0, names + length - name));
		CHECK(lgetxattr(path, name, value, sizeof(value)) <= (ssize_t)sizeof(value));
	}
}

/* Use everything below @dir. Return the number of entries. */
static unsigned int walk(int dir, unsigned int depth, unsigned int budget)
{
	DIR *stream = fdopendir(dir);
	unsigned int seen = 0;
	struct dirent *entry;
	char buffer[4096], path[PATH_MAX];

	REQUIRE(depth < 100);
	while (stream && seen < budget && (entry = readdir(stream))) {
		struct stat stat;
		int fd;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		seen++;
		CHECK(!strchr(entry->d_name, '/') && entry->d_name[0]);
		if (fstatat(dirfd(stream), entry->d_name, &stat, AT_SYMLINK_NOFOLLOW))
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dirfd(stream), entry->d_name);
		look_at_xattrs(path);
		if (S_ISLNK(stat.st_mode))
			readlinkat(dirfd(stream), entry->d_name, buffer, sizeof(buffer));
		if (!S_ISREG(stat.st_mode) && !S_ISDIR(stat.st_mode))
			continue;
		fd = openat(dirfd(stream), entry->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (S_ISDIR(stat.st_mode)) {
			seen += walk(fd, depth + 1, budget - seen);
			continue;
		}
		for (int i = 0; i < 16 && read(fd, buffer, sizeof(buffer)) > 0; i++)
			;
		if (stat.st_size) {
			char *byte = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);

			REQUIRE(byte != MAP_FAILED);
			asm volatile("" : : "r"(*byte) : "memory");
			munmap(byte, 1);
		}
		close(fd);
	}
	if (stream)
		closedir(stream);
	return seen;
}

/* Skip the point on kernels that forbid writing to a mounted device. */
static void skip_if_protected(void)
{
	int fd = open(device, O_WRONLY | O_CLOEXEC);

	if (fd < 0 && errno == EBUSY)
		SKIP("needs CONFIG_BLK_DEV_WRITE_MOUNTED");
	close(fd);
}

/* Write to the memory while it is mounted. */
POINT(changed_while_mounted, "metadata that changes while mounted")
{
	struct image image = image_copy(&good);
	u64 from = sizeof(struct superblock), length = image.super->data.offset - from;

	mount_image(&good);
	skip_if_protected();
	for (unsigned int round = 0; round < 30; round++) {
		for (unsigned int i = 0; i < 200; i++) {
			u64 at = pattern_byte(round, 3 * i) << 8 | pattern_byte(round, 3 * i + 1);

			image.bytes[from + at % length] = pattern_byte(round, 3 * i + 2);
		}
		image_write(&image, device);
		REQUIRE(shrink_caches(2));
		walk(open(mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0, 10000);
	}
	/* No wrong record was cached: with the right bytes restored, everything can be read. */
	image_write(&good, device);
	REQUIRE(shrink_caches(2));
	file_is_good();
	CHECK(walk(open(mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0, 10000) > 25);
}

POINT(file_data_changes, "file data that changes while mounted")
{
	struct image image = image_copy(&good);
	struct inode *inode = image_inode(&image, image_entry(&image, "file")->ino);
	unsigned char *mapped;
	char byte;
	int fd;

	mount_image(&good);
	skip_if_protected();
	fd = open("file", O_RDONLY | O_CLOEXEC);
	mapped = mmap(NULL, 6000, PROT_READ, MAP_SHARED, fd, 0);
	REQUIRE(mapped != MAP_FAILED);
	CHECK_EQ(mapped[100], pattern_byte(6, 100));
	image.bytes[inode->data + 100] ^= 0xff;
	image_write(&image, device);
	CHECK_EQ(mapped[100], pattern_byte(6, 100) ^ 0xff);
	CHECK(pread(fd, &byte, 1, 100) == 1 && (u8)byte == (u8)(pattern_byte(6, 100) ^ 0xff));
}

int main(void)
{
	corrupt_init();
	return ktap_run();
}
