// SPDX-License-Identifier: GPL-2.0-only
/*
 * The filesystem is read-only: every way to write fails with EROFS.
 *
 * Group: files
 */
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/swap.h>
#include <sys/xattr.h>

#include "util.h"

static const char *mnt;

static void enter(void)
{
	REQUIRE(!chdir(mnt));
}

POINT(opening, "open for writing")
{
	enter();
	CHECK_FAILS(open("sizes/1", O_WRONLY), EROFS);
	CHECK_FAILS(open("sizes/1", O_RDWR), EROFS);
	CHECK_FAILS(open("sizes/1", O_RDONLY | O_TRUNC), EROFS);
	CHECK_FAILS(open("sizes/1", O_WRONLY | O_APPEND), EROFS);
	CHECK_FAILS(open("sizes/new", O_RDWR | O_CREAT, 0600), EROFS);
	CHECK_FAILS(open("sizes/new", O_RDONLY | O_CREAT, 0600), EROFS);
	CHECK_FAILS(open("sizes/1", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
	CHECK_FAILS(open("sizes", O_RDWR | O_TMPFILE, 0600), EROFS);
	CHECK_FAILS(creat("sizes/1", 0600), EROFS);
	CHECK_FAILS(open("sizes", O_RDWR), EISDIR);
	CHECK(open("sizes/1", O_RDONLY | O_CREAT, 0600) >= 0);
}

POINT(creating, "create")
{
	enter();
	CHECK_FAILS(mkdir("new", 0700), EROFS);
	CHECK_FAILS(mkdir("directories/0/new", 0700), EROFS);
	CHECK_FAILS(mkdir("sizes", 0700), EEXIST);
	CHECK_FAILS(mknod("new", S_IFREG | 0600, 0), EROFS);
	CHECK_FAILS(mknod("new", S_IFCHR | 0600, 0x103), EROFS);
	CHECK_FAILS(mkfifo("new", 0600), EROFS);
	CHECK_FAILS(symlink("x", "new"), EROFS);
	CHECK_FAILS(link("sizes/1", "new"), EROFS);
}

POINT(removing, "remove and rename")
{
	enter();
	CHECK_FAILS(unlink("sizes/1"), EROFS);
	CHECK_FAILS(rmdir("directories/0"), EROFS);
	CHECK_FAILS(rename("sizes/1", "sizes/new"), EROFS);
	CHECK_FAILS(rename("sizes/1", "sizes/0"), EROFS);
	CHECK_FAILS(syscall(SYS_renameat2, AT_FDCWD, "sizes/1", AT_FDCWD, "sizes/0",
			    RENAME_EXCHANGE),
		    EROFS);
	CHECK_FAILS(syscall(SYS_renameat2, AT_FDCWD, "sizes/1", AT_FDCWD, "new", RENAME_WHITEOUT),
		    EROFS);
	CHECK_FAILS(unlink("types/symlink"), EROFS);
	CHECK_FAILS(unlink("types/socket"), EROFS);
}

POINT(attributes, "attributes")
{
	const struct timespec times[2] = {};
	int fd;

	enter();
	CHECK_FAILS(chmod("sizes/1", 0600), EROFS);
	CHECK_FAILS(chown("sizes/1", 1, 1), EROFS);
	CHECK_FAILS(lchown("types/symlink", 1, 1), EROFS);
	CHECK_FAILS(utimensat(AT_FDCWD, "sizes/1", times, 0), EROFS);
	CHECK_FAILS(utimensat(AT_FDCWD, "sizes/1", NULL, 0), EROFS);
	CHECK_FAILS(setxattr("xattrs/file", "user.new", "x", 1, 0), EROFS);
	CHECK_FAILS(setxattr("xattrs/file", "trusted.new", "x", 1, 0), EROFS);
	CHECK_FAILS(lsetxattr("types/symlink", "trusted.new", "x", 1, 0), EROFS);
	CHECK_FAILS(removexattr("xattrs/file", "user.colour"), EROFS);
	CHECK_FAILS(truncate("sizes/1", 0), EROFS);
	CHECK_FAILS(truncate("sizes/1", 5000), EROFS);
	fd = open("sizes/4096", O_RDONLY | O_CLOEXEC);
	REQUIRE(fd >= 0);
	CHECK_FAILS(fchmod(fd, 0600), EROFS);
	CHECK_FAILS(fchown(fd, 1, 1), EROFS);
	CHECK_FAILS(futimens(fd, times), EROFS);
	CHECK_FAILS(fsetxattr(fd, "user.new", "x", 1, 0), EROFS);
}

POINT(writing, "write through a file opened for reading")
{
	unsigned int flags = 0;
	int fd;

	enter();
	fd = open("sizes/4096", O_RDONLY | O_CLOEXEC);
	REQUIRE(fd >= 0);
	CHECK_FAILS(write(fd, "x", 1), EBADF);
	CHECK_FAILS(pwrite(fd, "x", 1, 0), EBADF);
	CHECK_FAILS(ftruncate(fd, 0), EINVAL);
	CHECK_FAILS(fallocate(fd, 0, 0, 8192), EBADF);
	CHECK(ioctl(fd, FS_IOC_SETFLAGS, &flags) == -1);
	CHECK(ioctl(fd, FICLONE, fd) == -1);
	CHECK_FAILS(ioctl(fd, FITRIM, &flags), ENOTTY);
	CHECK(swapon("sizes/16777216", 0) == -1);
	/* Calls that write nothing succeed. */
	CHECK(!syncfs(fd));
	CHECK(!fsync(fd) || errno == EINVAL); /* as on EROFS and squashfs */
}

POINT(as_user, "as an ordinary user")
{
	enter();
	REQUIRE(!setresgid(1000, 1000, 1000) && !setresuid(1000, 1000, 1000));
	CHECK_FAILS(open("owners/1000", O_RDWR), EROFS);
	CHECK_FAILS(unlink("owners/1000"), EROFS);
	CHECK_FAILS(mkdir("new", 0700), EROFS);
	CHECK_FAILS(access("owners/1000", W_OK), EROFS);
}

/* Locks, leases and watches are the kernel's own and work. */
POINT(leases, "locks and leases")
{
	int fd = open_in(mnt, "sizes/4096", O_RDONLY);
	struct flock lock = { .l_type = F_RDLCK };

	CHECK(!flock(fd, LOCK_EX | LOCK_NB));
	CHECK(!fcntl(fd, F_SETLK, &lock));
	CHECK_EQ(fcntl(fd, F_GETLEASE), F_UNLCK);
	CHECK(!fcntl(fd, F_SETLEASE, F_RDLCK));
	CHECK_EQ(fcntl(fd, F_GETLEASE), F_RDLCK);
	/* Another reader does not break it, and writers cannot exist. */
	CHECK(open_in(mnt, "sizes/4096", O_RDONLY) >= 0);
	CHECK_EQ(fcntl(fd, F_GETLEASE), F_RDLCK);
	CHECK_FAILS(fcntl(fd, F_SETLEASE, F_WRLCK), EAGAIN);
	CHECK(!fcntl(fd, F_SETLEASE, F_UNLCK));
}

POINT(watches, "inotify")
{
	char path[PATH_MAX], buffer[4096] __attribute__((aligned(8)));
	int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), fd;
	unsigned int seen = 0;
	ssize_t length;

	if (watch < 0)
		SKIP("needs CONFIG_INOTIFY_USER");
	snprintf(path, sizeof(path), "%s/sizes", mnt);
	REQUIRE(inotify_add_watch(watch, path, IN_ALL_EVENTS) >= 0);
	fd = open_in(mnt, "sizes/4097", O_RDONLY);
	CHECK_EQ(read(fd, path, 100), 100);
	close(fd);
	length = read(watch, buffer, sizeof(buffer));
	for (char *at = buffer; at < buffer + length;) {
		struct inotify_event *event = (void *)at;

		if (event->len && !strcmp(event->name, "4097"))
			seen |= event->mask;
		at += sizeof(*event) + event->len;
	}
	CHECK_EQ(seen & IN_ALL_EVENTS, IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE);
}

POINT(remounting, "remount read-write")
{
	int fs;

	CHECK_FAILS(mount(NULL, mnt, NULL, MS_REMOUNT, NULL), EROFS);
	CHECK_FAILS(mount(NULL, mnt, NULL, MS_REMOUNT, "rw"), EROFS);
	CHECK(!mount(NULL, mnt, NULL, MS_REMOUNT | MS_RDONLY, NULL));
	fs = syscall(SYS_fspick, AT_FDCWD, mnt, 0);
	REQUIRE(fs >= 0);
	CHECK(!syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "rw", NULL, 0));
	CHECK_FAILS(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0), EROFS);
	enter();
	CHECK_FAILS(open("sizes/1", O_RDWR), EROFS);
}

/* Clearing the flag of the mount does not clear it for the filesystem. */
POINT(mount_attributes, "mount attributes")
{
	struct mount_attr attributes = { .attr_clr = MOUNT_ATTR_RDONLY };

	syscall(SYS_mount_setattr, AT_FDCWD, mnt, 0, &attributes, sizeof(attributes));
	enter();
	CHECK_FAILS(open("sizes/1", O_RDWR), EROFS);
	CHECK_FAILS(mkdir("new", 0700), EROFS);
	CHECK_FAILS(setxattr("xattrs/file", "user.new", "x", 1, 0), EROFS);
}

int main(void)
{
	mnt = fixture_mount("tree");
	return ktap_run();
}
