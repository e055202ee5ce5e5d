// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mounts and what keeps them alive: open files, mappings, bind mounts, other filesystems on top.
 *
 * Group: modules
 * Order: 6
 * Machine: cpus=2 virtio-pmem=scratch
 */
#include <sched.h>

#include "util.h"

static const char *device, *mnt;

/* Each point makes its own mounts, which end with it. */
static void mount_here(void)
{
	REQUIRE(!unshare(CLONE_NEWNS));
	REQUIRE(!mount(device, mnt, "daxfs", MS_RDONLY, NULL));
}

static const char *other_directory(const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", work_dir(), name);
	mkdir(path, 0755);
	return path;
}

static bool device_is_free(void)
{
	int fd = open(device, O_RDONLY | O_EXCL | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

POINT(open_file, "an open file outlives a lazy unmount")
{
	char buffer[100];
	int fd;

	mount_here();
	fd = open_in(mnt, "sizes/12345", O_RDONLY);
	CHECK_FAILS(umount(mnt), EBUSY);
	CHECK(!umount2(mnt, MNT_DETACH));
	CHECK_EQ(pread(fd, buffer, 100, 5000), 100);
	CHECK(pattern_matches(buffer, 100, 12345, 5000));
	CHECK(!device_is_free());
	close(fd);
	CHECK(device_is_free());
}

POINT(mapping, "mappings outlive close and a lazy unmount")
{
	char *small, *large;
	int fd;

	mount_here();
	fd = open_in(mnt, "sizes/12345", O_RDONLY);
	small = mmap(NULL, 12345, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	fd = open_in(mnt, "sizes/16777216", O_RDONLY);
	large = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	REQUIRE(small != MAP_FAILED && large != MAP_FAILED);
	CHECK_FAILS(umount(mnt), EBUSY);
	CHECK(!umount2(mnt, MNT_DETACH));
	/* These are the first accesses: the faults happen after the mount is gone. */
	CHECK(pattern_matches(small, 12345, 12345, 0));
	large[HUGE_SIZE + 1] ^= 1;
	large[HUGE_SIZE + 1] ^= 1;
	CHECK(pattern_matches(large, 4 * HUGE_SIZE, LARGE, 0));
	CHECK(!munmap(small, 12345));
	CHECK(!device_is_free());
	CHECK(!munmap(large, LARGE));
	CHECK(device_is_free());
}

POINT(working_directory, "a working directory outlives a lazy unmount")
{
	struct stat stat;

	mount_here();
	REQUIRE(!chdir(mnt) && !chdir("types/directory"));
	CHECK_FAILS(umount(mnt), EBUSY);
	CHECK(!umount2(mnt, MNT_DETACH));
	CHECK(!lstat("regular-link", &stat));
	CHECK(!lstat("../fifo", &stat));
	CHECK(!chdir("/"));
	CHECK(device_is_free());
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* The usual way to get a writable root: the image as the lower layer of an overlay. */
POINT(under_an_overlay, "the lower layer of an overlay")
{
	const char *top = other_directory("overlay");
	char options[PATH_MAX * 3], path[PATH_MAX], buffer[5000];
	struct stat stat;
	int fd;

	mount_here();
	REQUIRE(!mount("tmpfs", top, "tmpfs", 0, NULL));
	REQUIRE(!chdir(top) && !mkdir("upper", 0755) && !mkdir("work", 0755) &&
		!mkdir("all", 0755));
	snprintf(options, sizeof(options), "lowerdir=%s,upperdir=upper,workdir=work", mnt);
	if (mount("overlay", "all", "overlay", 0, options)) {
		if (errno == ENODEV)
			SKIP("needs overlayfs");
		REQUIRE(!"overlay mount");
	}
	REQUIRE(!chdir("all"));
	write_file("sizes/4097", "changed");
	write_file("new", "new");
	CHECK(!unlink("sizes/1") && !rename("sizes/12345", "moved"));
	CHECK_FAILS(lstat("sizes/1", &stat), ENOENT);
	CHECK(!chmod("sizes/4095", 0600));
	fd = open("sizes/4097", O_RDONLY | O_CLOEXEC);
	CHECK_EQ(read(fd, buffer, sizeof(buffer)), 4097);
	CHECK(!memcmp(buffer, "changed", 7) && pattern_matches(buffer + 7, 4090, 4097, 7));
	close(fd);
	fd = open_in(mnt, "sizes/4097", O_RDONLY);
	CHECK_EQ(read(fd, buffer, sizeof(buffer)), 4097);
	CHECK(pattern_matches(buffer, 4097, 4097, 0));
	close(fd);
	snprintf(path, sizeof(path), "%s/sizes/1", mnt);
	CHECK(!lstat(path, &stat));
	CHECK(!chdir("/"));
}

POINT(propagation, "mounts on top, and a root directory")
{
	pid_t pid;
	int status;

	mount_here();
	/* A mount on top of a directory of the image, and a process with that as its root. */
	pid = fork();
	if (!pid) {
		struct stat stat;

		REQUIRE(!chroot(mnt) && !chdir("/"));
		CHECK(!mount("tmpfs", "/directories/0", "tmpfs", 0, NULL));
		CHECK(!mkdir("/directories/0/made", 0755) && !lstat("/directories/0/made", &stat));
		CHECK_FAILS(mkdir("/directories/1/made", 0755), EROFS);
		CHECK(!umount("/directories/0"));
		_exit(ktap_point->failed);
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	CHECK(!umount(mnt));
	CHECK(device_is_free());
}

int main(void)
{
	device = fixture_device("tree");
	mnt = private_mount_point();
	return ktap_run();
}
