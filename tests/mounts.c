// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bind mounts of parts of an image, and a mount without a path.
 *
 * Group: vfs
 * Machine: no-debug nvdimm=scratch
 */
#include <sched.h>

#include "source.h"

static const char *mnt;
static char device[PATH_MAX];

/* Bind a directory and a file elsewhere: they stay after the image is unmounted. */
POINT(bind_mounts, "bind mounts")
{
	char dir[PATH_MAX], file[PATH_MAX], path[PATH_MAX];
	struct stat stat;

	snprintf(dir, sizeof(dir), "%s/bound", work_dir());
	snprintf(file, sizeof(file), "%s/bound-file", work_dir());
	mkdir(dir, 0755);
	close(open(file, O_CREAT | O_WRONLY, 0644));
	REQUIRE(!unshare(CLONE_NEWNS));
	snprintf(path, sizeof(path), "%s/sizes", mnt);
	REQUIRE(!mount(path, dir, NULL, MS_BIND, NULL));
	snprintf(path, sizeof(path), "%s/sizes/4097", mnt);
	REQUIRE(!mount(path, file, NULL, MS_BIND, NULL));
	REQUIRE(!umount2(mnt, 0));
	snprintf(path, sizeof(path), "%s/12345", dir);
	CHECK(!lstat(path, &stat) && stat.st_size == 12345);
	CHECK(!lstat(file, &stat) && stat.st_size == 4097);
	CHECK_FAILS(open(file, O_RDWR), EROFS);
	snprintf(path, sizeof(path), "%s/../types", dir);
	CHECK_FAILS(lstat(path, &stat), ENOENT); /* not the parent in the image */
	CHECK(!umount2(dir, 0) && !umount2(file, 0));
}

/* A mount that is not attached anywhere. */
POINT(private_mount, "a mount that is not attached")
{
	int context = context_new("source", device), fd;
	struct stat stat;

	REQUIRE(!context_options(context, "ro") && !context_set(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	fd = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	REQUIRE(fd >= 0);
	CHECK(!fstatat(fd, "sizes/4097", &stat, 0) && stat.st_size == 4097);
	CHECK_FAILS(faccessat(fd, "exec/helper", X_OK, 0), EACCES);
}

int main(void)
{
	snprintf(device, sizeof(device), "%s", fixture_device("tree"));
	mnt = fixture_mount("tree");
	return ktap_run();
}
