// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mount memory that is mounted already, or remount it: options that prove something hold then too,
 * and options that cannot be followed are refused.
 *
 * Group: memory
 * Machine: rare-debug cpus=2 nvdimm,virtio-pmem,cxl,reserve,pci=sources.daxfs drm share
 */
#include "device.h"

static const struct source *source;
static struct image image;
static const char *mnt;
static char other_mnt[PATH_MAX];
/* The descriptor of the memory, for sources that have one. */
static int memory;

/* Mount on @dir with one option, or none. Return 0 or an errno. */
static int mount_with(const char *dir, const char *key, const char *value)
{
	char option[200] = "";

	if (key)
		snprintf(option, sizeof(option), "%s=%s", key, value);
	return context_mount_with(source_context(source, memory), dir, option);
}

static void mounted_with(const char *key, const char *value)
{
	memory = source->make(source, &image);
	REQUIRE(memory >= 0);
	CHECK_EQ(mount_with(mnt, key, value), 0);
}

/* Remount with mount(2). */
static int remount(const char *options)
{
	return mount(NULL, mnt, NULL, MS_REMOUNT | MS_RDONLY, options) ? errno : 0;
}

static int remount_with(const char *key, const char *value)
{
	char options[200];
	int error;

	snprintf(options, sizeof(options), "%s=%s", key, value);
	error = remount(options);
	CHECK_EQ(context_remount(mnt, options), error);
	return error;
}

/* Check that files can still be read. */
static void good(const char *dir)
{
	char buffer[4097];
	int fd = open_in(dir, "sizes/4097", O_RDONLY);

	CHECK_EQ(read(fd, buffer, sizeof(buffer)), 4097);
	CHECK(pattern_matches(buffer, 4097, 4097, 0));
	close(fd);
}

static void needs_sharing(void)
{
	if (!source->shared)
		SKIP("the source can be mounted only once");
}

POINT(second_digest, "a second mount with digest=")
{
	needs_sharing();
	mounted_with("digest", image_digest(&image));
	check_refused(mount_with(other_mnt, "digest", WRONG_DIGEST), EBADMSG, "SHA-256");
	CHECK_FAILS(umount(other_mnt), EINVAL);
	good(mnt);
	CHECK_EQ(mount_with(other_mnt, "digest", image_digest(&image)), 0);
	good(other_mnt);
	CHECK(!umount(other_mnt) && !umount(mnt));
	mounted_with(NULL, NULL);
	if (!source_is_device(source)) {
		/* Each mount has its own superblock. */
		CHECK_EQ(mount_with(other_mnt, "digest", WRONG_DIGEST), EBADMSG);
		CHECK_EQ(mount_with(other_mnt, "digest", image_digest(&image)), 0);
		CHECK(!umount(other_mnt) && !umount(mnt));
		return;
	}
	/* Earlier reads are unverified. */
	check_refused(mount_with(other_mnt, "digest", image_digest(&image)), EBUSY, "without digest=");
	CHECK_EQ(mount_with(other_mnt, "digest", WRONG_DIGEST), EBUSY);
	CHECK(umount(other_mnt) && !umount(mnt));
}

POINT(remounted_digest, "a remount with digest=")
{
	mounted_with("digest", image_digest(&image));
	check_refused(remount_with("digest", WRONG_DIGEST), EBADMSG, "SHA-256");
	good(mnt);
	CHECK_EQ(remount_with("digest", image_digest(&image)), 0);
	good(mnt);
	CHECK(!umount(mnt));
	mounted_with(NULL, NULL);
	check_refused(remount_with("digest", image_digest(&image)), EBUSY, "without digest=");
	good(mnt);
	CHECK(!umount(mnt));
}

/* Change the owner of an inode, or change it back. */
static void damage(u64 ino)
{
	u64 at = (char *)&image_inode(&image, ino)->uid - image.bytes;
	int fd = open(source_device(source), O_RDWR | O_CLOEXEC);
	char byte;

	REQUIRE(fd >= 0 && pread(fd, &byte, 1, at) == 1);
	byte ^= 1;
	if (pwrite(fd, &byte, 1, at) != 1 || fsync(fd))
		SKIP("the device cannot be written to");
	close(fd);
}

POINT(damaged_metadata, "check=metadata finds damage after check=none")
{
	int error;

	if (!source_is_device(source) || !source->shared)
		SKIP("for block devices only");
	mounted_with("check", "none");
	damage(2);
	CHECK_EQ(mount_with(other_mnt, "check", "metadata"), EBADMSG);
	umount(other_mnt);
	CHECK_EQ(mount_with(other_mnt, "check", "none"), 0);
	CHECK(!umount(other_mnt));
	error = remount_with("check", "metadata");
	CHECK(error == EBADMSG || error == EINVAL);
	damage(2);
	CHECK_EQ(mount_with(other_mnt, "check", "metadata"), 0);
	CHECK(!umount(other_mnt));
	good(mnt);
	CHECK(!umount(mnt));
}

/* Return the status of the open file @fd. */
static struct stat status_of(int fd)
{
	struct stat status = {};

	CHECK(!fstat(fd, &status));
	return status;
}

/* An inode that was read before the memory had this digest stays as it was. */
POINT(inode_from_before, "a digest after an inode was read")
{
	struct stat before, after;
	int fd;

	if (!source_is_device(source) || !source->shared)
		SKIP("for block devices only");
	mounted_with(NULL, NULL);
	fd = open_in(mnt, "sizes/4097", O_RDONLY);
	before = status_of(fd);
	close(fd);
	CHECK(!umount(mnt));
	mounted_with("check", "none");
	damage(before.st_ino);
	fd = open_in(mnt, "sizes/4097", O_RDONLY);
	CHECK_EQ(status_of(fd).st_uid, before.st_uid ^ 1);
	damage(before.st_ino);
	CHECK_EQ(mount_with(other_mnt, "digest", image_digest(&image)), EBUSY);
	CHECK(umount(other_mnt));
	CHECK_EQ(remount_with("digest", image_digest(&image)), EBUSY);
	after = status_of(fd);
	CHECK_EQ(after.st_uid, before.st_uid ^ 1);
	close(fd);
	CHECK(!umount(mnt));
	CHECK_EQ(mount_with(mnt, "digest", image_digest(&image)), 0);
	CHECK(!umount(mnt));
}

/* A remount may name the memory only if it is the same memory. */
POINT(other_memory, "a remount names other memory")
{
	bool phys = !strcmp(source->name, "phys");
	u64 size = phys ? strtoull(getenv("DAXFS_RESERVED_SIZE"), NULL, 0) : HUGE_SIZE;
	const char *start = phys ? getenv("DAXFS_RESERVED_ADDR") : "0x100000000";
	char text[100];

	mounted_with(NULL, NULL);
	snprintf(text, sizeof(text), "phys=%s,size=%llu", start, (unsigned long long)size);
	CHECK_EQ(remount(text), phys ? 0 : EINVAL);
	snprintf(text, sizeof(text), "phys=%s,size=%llu", start, (unsigned long long)size - page_size());
	CHECK_EQ(remount(text), EINVAL);
	snprintf(text, sizeof(text), "phys=%#llx,size=%llu", strtoull(start, NULL, 0) + page_size(),
		 (unsigned long long)size);
	CHECK_EQ(remount(text), EINVAL);
	/* The message names the device. */
	CHECK_EQ(context_remount(mnt, "digest=" WRONG_DIGEST), EBUSY);
	CHECK(strstr(context_log, "mounted already") && !strstr(context_log, "none:"));
	good(mnt);
	CHECK(!umount(mnt));
}

/* mount(8) repeats the options in /proc/mounts. */
POINT(same_options, "a remount repeats the options")
{
	char command[2 * PATH_MAX];

	mounted_with(NULL, NULL);
	snprintf(command, sizeof(command), "mount -o remount,ro,noexec '%s'", mnt);
	CHECK(!system(command));
	snprintf(command, sizeof(command), "grep -q ' %s daxfs .*noexec' /proc/self/mounts", mnt);
	CHECK(!system(command));
	CHECK_EQ(remount(NULL), 0);
	good(mnt);
	CHECK(!umount(mnt));
}

static bool one_of_a_kind(const struct source *source)
{
	static const char *const names[] = { "NVDIMM", "CXL (fsdev)", "phys", "memfd", "udmabuf" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(source->name, names[i]))
			return true;
	return false;
}

int main(void)
{
	mnt = private_mount_point();
	snprintf(other_mnt, sizeof(other_mnt), "%s/other", work_dir());
	mkdir(other_mnt, 0755);
	image = sources_image();
	return run_on_sources(one_of_a_kind, &image, &source);
}
