// SPDX-License-Identifier: GPL-2.0-only
/*
 * stat, statx, statfs, access and /proc/self/mounts.
 *
 * Group: files
 */
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "util.h"

#ifndef STATX_DIO_READ_ALIGN
#define STATX_DIO_READ_ALIGN 0x00020000U
#endif

static const char *mnt;

static const char *path_of(const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", mnt, name);
	return path;
}

static struct stat stat_of(const char *name)
{
	struct stat stat;

	REQUIRE(!lstat(path_of(name), &stat));
	return stat;
}

static struct statx statx_of(const char *name)
{
	struct statx statx_buffer;

	REQUIRE(!statx(AT_FDCWD, path_of(name), AT_SYMLINK_NOFOLLOW,
		       STATX_ALL | STATX_DIOALIGN | STATX_DIO_READ_ALIGN, &statx_buffer));
	return statx_buffer;
}

/* Files smaller than 4 KiB share blocks, and count as the bytes that they have. */
static long long allocated(size_t size)
{
	return size < 4096 ? (size + 511) / 512 : page_round(size) / 512;
}

POINT(blocks, "st_blocks counts allocated blocks in units of 512 bytes")
{
	static const struct {
		const char *name;
		size_t size;
	} files[] = {
		{ "sizes/0", 0 },
		{ "sizes/1", 1 },
		{ "sizes/4095", 4095 },
		{ "sizes/4096", 4096 },
		{ "sizes/4097", 4097 },
		{ "sizes/2097152", HUGE_SIZE },
		{ "sizes/2097153", HUGE_SIZE + 1 },
		{ "types/fifo", 0 },
		{ "types/char-1-3", 0 },
		{ "types/socket", 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		CHECK_EQ(stat_of(files[i].name).st_blocks, allocated(files[i].size));
}

POINT(block_size, "st_blksize is the block size")
{
	CHECK_EQ(stat_of("sizes/1").st_blksize, page_size());
	CHECK_EQ(stat_of("sizes").st_blksize, page_size());
}

POINT(one_device, "one st_dev")
{
	CHECK(stat_of("sizes").st_dev == stat_of("types/regular").st_dev);
	/* Only mounts without a device have an anonymous device number. */
	CHECK(major(stat_of(".").st_dev) != 0 || on_fuse());
}

POINT(inode_numbers, "inode numbers")
{
	CHECK(stat_of("types/regular").st_ino == stat_of("types/regular-link").st_ino);
	CHECK(stat_of("types/regular").st_ino == stat_of("types/directory/regular-link").st_ino);
	CHECK(stat_of("types/regular").st_ino != stat_of("types/fifo").st_ino);
	CHECK(stat_of("types/.").st_ino == stat_of("types").st_ino);
	CHECK(stat_of("types/..").st_ino == stat_of(".").st_ino);
}

POINT(directory_links, "link counts of directories")
{
	CHECK_EQ(stat_of("directories/0").st_nlink, 2);
	CHECK_EQ(stat_of("types").st_nlink, 3);
	CHECK_EQ(stat_of("directories").st_nlink, 2 + 16);
}

POINT(dax_attribute, "STATX_ATTR_DAX on regular files")
{
	struct statx file = statx_of("sizes/4096");

	if (on_fuse())
		SKIP("no DAX through FUSE");
	CHECK(file.stx_attributes_mask & STATX_ATTR_DAX);
	CHECK(file.stx_attributes & STATX_ATTR_DAX);
	CHECK(!(statx_of("types/fifo").stx_attributes & STATX_ATTR_DAX));
}

POINT(read_only_attributes, "other statx attributes")
{
	struct statx file = statx_of("sizes/4096");

	CHECK(!(file.stx_attributes &
		(STATX_ATTR_COMPRESSED | STATX_ATTR_ENCRYPTED | STATX_ATTR_APPEND)));
	/* Access times are not kept, and the kernel says so. */
	CHECK((file.stx_mask & STATX_BASIC_STATS & ~STATX_ATIME) ==
	      (STATX_BASIC_STATS & ~STATX_ATIME));
	CHECK(!(file.stx_mask & STATX_BTIME)); /* the image knows no birth time */
	CHECK(statx_of(".").stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

POINT(direct_io_alignment, "direct I/O from any byte")
{
	struct statx file = statx_of("sizes/12345");
	char buffer[100];
	int fd;

	if (on_fuse())
		SKIP("the same file through FUSE has no alignment");
	CHECK(file.stx_mask & STATX_DIOALIGN);
	CHECK_EQ(file.stx_dio_mem_align, 1);
	/* The loop driver takes this for a block size, which cannot be less. */
	CHECK_EQ(file.stx_dio_offset_align, 512);
	/* Any offset does. */
	fd = open_in(mnt, "sizes/12345", O_RDONLY | O_DIRECT);
	CHECK_EQ(pread(fd, buffer + 1, 77, 1111), 77);
	CHECK(pattern_matches(buffer + 1, 77, 12345, 1111));
	CHECK(!(statx_of("sizes").stx_mask & STATX_DIOALIGN));
	CHECK(!(statx_of("types/fifo").stx_mask & STATX_DIOALIGN));
}

POINT(immutable, "STATX_ATTR_IMMUTABLE")
{
	static const char *const names[] = { ".", "sizes", "sizes/1", "types/fifo", "types/symlink" };

	if (on_fuse())
		SKIP("FUSE does not pass this attribute");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct statx file = statx_of(names[i]);

		CHECK(file.stx_attributes_mask & STATX_ATTR_IMMUTABLE);
		CHECK(file.stx_attributes & STATX_ATTR_IMMUTABLE);
	}
}

/* The image stores the modification time; the others equal it. */
POINT(all_times_alike, "atime and ctime equal mtime")
{
	static const char *const names[] = { "times/file+1700000000.123456789",
					     "times/dir-1.999999999", "." };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct stat stat = stat_of(names[i]);

		CHECK_EQ(stat.st_ctim.tv_sec, stat.st_mtim.tv_sec);
		CHECK_EQ(stat.st_ctim.tv_nsec, stat.st_mtim.tv_nsec);
		CHECK_EQ(stat.st_atim.tv_sec, stat.st_mtim.tv_sec);
		CHECK_EQ(stat.st_atim.tv_nsec, stat.st_mtim.tv_nsec);
	}
}

POINT(reading_leaves_times, "reading does not change the times")
{
	struct stat before = stat_of("sizes/12345"), after;
	char byte;
	int fd = open_in(mnt, "sizes/12345", O_RDONLY);

	CHECK_EQ(read(fd, &byte, 1), 1);
	after = stat_of("sizes/12345");
	CHECK(before.st_atim.tv_sec == after.st_atim.tv_sec &&
	      before.st_atim.tv_nsec == after.st_atim.tv_nsec);
}

POINT(statfs_fields, "statfs")
{
	struct statfs fs, again;

	REQUIRE(!statfs(mnt, &fs));
	CHECK_EQ(fs.f_type, on_fuse() ? FUSE_SUPER_MAGIC : DAXFS_STATFS_MAGIC);
	CHECK_EQ(fs.f_namelen, 255);
	CHECK_EQ(fs.f_bfree, 0);
	CHECK_EQ(fs.f_bavail, 0);
	CHECK_EQ(fs.f_ffree, 0);
	CHECK_EQ(fs.f_bsize, page_size());
	CHECK(fs.f_blocks > LARGE / page_size());
	CHECK(fs.f_files > 1000);
	CHECK(fs.f_flags & 1);
	CHECK(fs.f_fsid.__val[0] || fs.f_fsid.__val[1] || on_fuse());
	REQUIRE(!statfs(path_of("sizes/1"), &again));
	CHECK(!memcmp(&fs.f_fsid, &again.f_fsid, sizeof(fs.f_fsid)));
}

POINT(mounts_line, "/proc/self/mounts shows ro")
{
	char line[1000], target[400], options[300] = "";
	FILE *mounts = fopen("/proc/self/mounts", "re");
	char type[64];

	REQUIRE(mounts);
	while (fgets(line, sizeof(line), mounts))
		if (sscanf(line, "%*s %399s %63s %299s", target, type, options) == 3 &&
		    !strcmp(target, mnt))
			break;
	printf("# %s", line);
	CHECK(!strcmp(target, mnt) && !strncmp(type, on_fuse() ? "fuse" : "daxfs", 4));
	CHECK(!strncmp(options, "ro", 2) && (!options[2] || options[2] == ','));
}

POINT(permissions, "permissions")
{
	CHECK(!access(path_of("modes/file-7777"), X_OK));
	CHECK_FAILS(access(path_of("sizes/1"), X_OK), EACCES);
	CHECK_FAILS(access(path_of("sizes/1"), W_OK), EROFS);
	/* Devices and FIFOs may be written on a read-only file system. */
	CHECK(!access(path_of("types/fifo"), W_OK));
	CHECK(!setresgid(1000, 1000, 1000) && !setresuid(1000, 1000, 1000));
	CHECK_FAILS(open(path_of("modes/file-0001"), O_RDONLY), EACCES);
	CHECK_FAILS(open(path_of("modes/dir-0001"), O_RDONLY), EACCES);
	CHECK(!access(path_of("modes/dir-0001/."), X_OK));
	CHECK_FAILS(open(path_of("modes/dir-0000/x"), O_RDONLY), EACCES);
	CHECK(!access(path_of("owners/1000"), R_OK));
}

POINT(special_files, "special files work")
{
	char byte = 1;
	int fd = open(path_of("types/char-1-3"), O_RDWR | O_CLOEXEC); /* the null device */

	CHECK(fd >= 0 && read(fd, &byte, 1) == 0 && write(fd, &byte, 1) == 1);
	close(fd);
	fd = open(path_of("types/fifo"), O_RDWR | O_CLOEXEC | O_NONBLOCK);
	CHECK(fd >= 0 && write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1);
	close(fd);
	CHECK_FAILS(open(path_of("types/socket"), O_RDONLY), ENXIO);
}

POINT(names_not_there, "look-ups that fail")
{
	char name[NAME_MAX + 20];
	struct stat stat;

	CHECK_FAILS(lstat(path_of("nothing"), &stat), ENOENT);
	CHECK_FAILS(lstat(path_of("sizes/4096/x"), &stat), ENOTDIR);
	CHECK_FAILS(lstat(path_of("symlinks/loop/x"), &stat), ELOOP);
	memset(name, 'n', sizeof(name));
	memcpy(name, "names/lengths/", 14);
	name[14 + NAME_MAX] = 0;
	CHECK(!lstat(path_of(name), &stat));
	name[14 + NAME_MAX] = 'n';
	name[15 + NAME_MAX] = 0;
	CHECK_FAILS(lstat(path_of(name), &stat), ENAMETOOLONG);
}

POINT(following_symlinks, "following symlinks")
{
	struct stat stat;

	REQUIRE(!fstatat(AT_FDCWD, path_of("symlinks/file"), &stat, 0));
	CHECK_EQ(stat.st_size, 4097);
	CHECK_FAILS(open(path_of("symlinks/loop"), O_RDONLY), ELOOP);
	CHECK_FAILS(open(path_of("symlinks/absolute"), O_RDONLY), ENOENT);
	CHECK_FAILS(open(path_of("symlinks/file"), O_RDONLY | O_NOFOLLOW), ELOOP);
}

POINT(readlink_buffers, "readlink into small and bad buffers")
{
	char buffer[5000];

	CHECK_EQ(readlink(path_of("symlinks/length-4095"), buffer, sizeof(buffer)), 4095);
	CHECK_EQ(readlink(path_of("symlinks/length-4095"), buffer, 100), 100);
	CHECK_EQ(readlink(path_of("symlinks/length-1"), buffer, 1), 1);
	CHECK_EQ(stat_of("symlinks/length-4095").st_size, 4095);
	CHECK_FAILS(readlink(path_of("sizes/1"), buffer, sizeof(buffer)), EINVAL);
	CHECK_FAILS(readlink(path_of("symlinks/file"), nowhere, 8), EFAULT);
}

int main(void)
{
	mnt = fixture_mount("tree");
	return ktap_run();
}
