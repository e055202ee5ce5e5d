// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device mapper offers DAX over pmem devices, but does not report that the devices below are
 * gone, or that its table has changed. Such a device is refused, with a reason.
 *
 * Group: memory
 * Machine: no-debug cpus=2 nvdimm,virtio-pmem=sources.daxfs
 */
#include <sys/sysmacros.h>

#include "device.h"

#define NODE "/dev/mapper/daxfs-test"
#define DMSETUP "dmsetup --noudevsync --noudevrules "

static const struct source *source;
static const char *mnt;

static void create(const char *table)
{
	char command[1000];

	if (access("/dev/mapper/control", F_OK) && system("modprobe -q dm_mod"))
		SKIP("needs the device mapper");
	if (system("command -v dmsetup >/dev/null"))
		SKIP("needs dmsetup");
	snprintf(command, sizeof(command),
		 "printf '%s' | " DMSETUP "create daxfs-test && dmsetup mknodes", table);
	REQUIRE(!system(command));
}

static void destroy(void)
{
	CHECK(!system(DMSETUP "remove --retry daxfs-test && dmsetup mknodes"));
}

static void refuse(const char *node)
{
	bool mounted = context_mount(context_new("source", node), mnt);

	check_refused(mounted ? 0 : errno, EOPNOTSUPP,
		      "stacked DAX devices are not supported; mount the pmem device below it");
	CHECK(mounted || strstr(context_log, "/dev/dm-") || strstr(context_log, NODE));
	if (mounted)
		CHECK(!umount(mnt));
}

/* Refuse the device by each of its names; the device below can be mounted afterwards. */
static void stacked(const char *table)
{
	struct stat stat;
	char node[64];

	create(table);
	REQUIRE(!fstatat(AT_FDCWD, NODE, &stat, 0));
	snprintf(node, sizeof(node), "/dev/dm-%u", minor(stat.st_rdev));
	refuse(NODE);
	refuse(node);
	destroy();
	CHECK_EQ(bounded_mount(source, mnt), 0);
	CHECK_EQ(bounded_umount(mnt), 0);
}

POINT(one_piece, "the device mapper, over all of it")
{
	char table[200];

	REQUIRE(source->make(source, NULL) == 0);
	/* The length matches the image. */
	snprintf(table, sizeof(table), "0 45056 linear %s 0\\n", source_device(source));
	stacked(table);
}

POINT(two_pieces, "the device mapper, over two parts of it")
{
	char table[200];

	REQUIRE(source->make(source, NULL) == 0);
	snprintf(table, sizeof(table), "0 16384 linear %s 0\\n16384 8192 linear %s 20480\\n",
		 source_device(source), source_device(source));
	stacked(table);
}

static bool is_pmem(const struct source *source)
{
	return !strcmp(source->name, "NVDIMM") || !strcmp(source->name, "virtio-pmem");
}

int main(void)
{
	mnt = private_mount_point();
	return run_on_sources(is_pmem, NULL, &source);
}
