// SPDX-License-Identifier: GPL-2.0-only
/*
 * Identity of a mounted image: the label, the UUID, and the name of the directory in sysfs.
 *
 * Group: vfs
 */
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "util.h"

static const char *mnt;
static char device[PATH_MAX];

/* Read from @offset of the image. */
static void from_image(void *bytes, size_t length, off_t offset)
{
	int fd = open(device, O_RDONLY | O_CLOEXEC);

	REQUIRE(fd >= 0 && pread(fd, bytes, length, offset) == (ssize_t)length);
	close(fd);
}

POINT(label, "the label")
{
	static const char *const paths[] = { ".", "sizes", "sizes/4097" };
	char label[FSLABEL_MAX], zeros[FSLABEL_MAX] = {};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		int fd = open_in(mnt, paths[i], O_RDONLY);

		memset(label, 'x', sizeof(label));
		REQUIRE(!ioctl(fd, FS_IOC_GETFSLABEL, label));
		CHECK(!strcmp(label, "tree"));
		CHECK(!memcmp(label + 4, zeros, sizeof(label) - 4));
		CHECK_FAILS(ioctl(fd, FS_IOC_GETFSLABEL, nowhere), EFAULT);
		CHECK_FAILS(ioctl(fd, FS_IOC_SETFSLABEL, label), ENOTTY);
		CHECK_FAILS(ioctl(fd, FIONREAD ^ 0x5a5a, label), ENOTTY);
		close(fd);
	}
}

POINT(uuid, "the UUID")
{
	struct fsuuid2 uuid = {};
	u8 want[16];

	from_image(want, sizeof(want), 56);
	REQUIRE(!ioctl(open_in(mnt, "sizes", O_RDONLY), FS_IOC_GETFSUUID, &uuid));
	CHECK_EQ(uuid.len, sizeof(want));
	CHECK(!memcmp(uuid.uuid, want, sizeof(want)));
}

/* The directory of this name exists in sysfs. Its name is the device number. */
POINT(path_in_sysfs, "the name of the directory in sysfs")
{
	struct fs_sysfs_path path = {};
	char directory[PATH_MAX];
	struct stat stat;

	REQUIRE(!lstat(mnt, &stat));
	REQUIRE(!ioctl(open_in(mnt, "sizes", O_RDONLY), FS_IOC_GETFSSYSFSPATH, &path));
	CHECK_EQ(path.len, strlen((char *)path.name));
	snprintf(directory, sizeof(directory), "daxfs/%u:%u", major(stat.st_dev),
		 minor(stat.st_dev));
	CHECK(!strcmp((char *)path.name, directory));
	snprintf(directory, sizeof(directory), "/sys/fs/%s/reads", path.name);
	CHECK(!lstat(directory, &stat));
}

int main(void)
{
	snprintf(device, sizeof(device), "%s", fixture_device("tree"));
	mnt = fixture_mount("tree");
	return ktap_run();
}
