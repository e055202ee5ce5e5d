// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unbind the drivers of devices that are mounted. Reads then fail, loads from mappings get SIGBUS,
 * nothing else happens, and the filesystem can be unmounted.
 *
 * Group: sources
 * Machine: nvdimm,virtio-pmem,cxl,cxl-pmem=sources.daxfs
 */
#include <dirent.h>
#include <sys/statfs.h>
#include <sys/uio.h>

#include "device.h"

static const struct source *source;
static const char *mnt;
static struct device device;

static int open_file(u64 size)
{
	return open_size(mnt, size, O_RDONLY);
}

static char *map_file(u64 size, int protection, int flags)
{
	return map_size(mnt, size, protection, flags);
}

static void mount_source(void)
{
	REQUIRE(source->make(source, NULL) == 0);
	device_find(source, &device);
	REQUIRE(context_mount(source_context(source, 0), mnt));
}

/* Bind the device to its driver again and check that its image can be used. */
static void bring_back(void)
{
	REQUIRE(device_bind(&device));
	REQUIRE(context_mount(source_context(source, 0), mnt));
	CHECK(pattern_matches(map_file(LARGE, PROT_READ, MAP_SHARED), LARGE, LARGE, 0));
	/* Mappings end with the process; do not wait for that. */
	CHECK(!umount2(mnt, MNT_DETACH));
}

/* Return true if reading the directory gives EIO after "." and "..", which need no memory. */
static bool ends_with_error(DIR *dir)
{
	struct dirent *entry;

	errno = 0;
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			return false;
	return errno == EIO;
}

POINT(open_files, "open files")
{
	char path[PATH_MAX], buffer[4096];
	struct statfs statistics;
	struct stat stat;
	int fd, unread;
	DIR *dir;

	mount_source();
	fd = open_file(LARGE);
	unread = open_file(MIDDLE);
	REQUIRE(read(fd, buffer, sizeof(buffer)) == sizeof(buffer));
	snprintf(path, sizeof(path), "%s/deep", mnt);
	dir = opendir(path);
	REQUIRE(dir);
	REQUIRE(device_unbind(&device));

	CHECK_FAILS(read(fd, buffer, sizeof(buffer)), EIO);
	CHECK_FAILS(pread(unread, buffer, 10, 5), EIO);
	CHECK(!fstat(fd, &stat) && stat.st_size == LARGE);
	CHECK_EQ(lseek(fd, 0, SEEK_END), LARGE);
	CHECK(ends_with_error(dir));
	snprintf(path, sizeof(path), "%s/sizes/4097", mnt);
	CHECK_FAILS(open(path, O_RDONLY), EIO);
	snprintf(path, sizeof(path), "%s/deep/link", mnt);
	CHECK_FAILS(readlink(path, buffer, sizeof(buffer)), EIO);
	snprintf(path, sizeof(path), "%s/deep", mnt);
	CHECK(!statfs(mnt, &statistics));
	snprintf(path, sizeof(path), "%s/helper", mnt);
	execl(path, path, NULL);
	CHECK_EQ(errno, EIO);
	CHECK_FAILS(umount(mnt), EBUSY);
	closedir(dir);
	close(fd);
	close(unread);
	CHECK(!umount(mnt));
	bring_back();
}

POINT(mapped_files, "mapped files")
{
	char *shared, *private, *untouched, *small, copied;

	mount_source();
	shared = map_file(LARGE, PROT_READ, MAP_SHARED);
	private = map_file(LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	untouched = map_file(HUGE_SIZE + 1, PROT_READ, MAP_SHARED);
	small = map_file(MIDDLE, PROT_READ, MAP_SHARED | MAP_POPULATE);
	CHECK(pattern_matches(shared, LARGE, LARGE, 0));
	CHECK(pattern_matches(private, LARGE, LARGE, 0));
	private[HUGE_SIZE + 100] ^= 1;
	copied = private[HUGE_SIZE + 100];
	REQUIRE(device_unbind(&device));

	CHECK(gets_sigbus(shared) && gets_sigbus(shared + LARGE - 1));
	CHECK(gets_sigbus(small) && gets_sigbus(untouched));
	CHECK(gets_sigbus(private) && gets_sigbus(private + HUGE_SIZE + 2 * page_size()));
	/* The page that was written to is a copy, and stays. */
	CHECK_EQ(private[HUGE_SIZE + 100], copied);
	CHECK(pattern_matches(private + HUGE_SIZE + 101, 1000, LARGE, HUGE_SIZE + 101));
	CHECK_FAILS(write(memfd_create("other", MFD_CLOEXEC), shared, 4096), EFAULT);
	CHECK_FAILS(umount(mnt), EBUSY);
	CHECK(!munmap(shared, LARGE) && !munmap(private, LARGE));
	CHECK(!munmap(untouched, HUGE_SIZE + 1) && !munmap(small, MIDDLE));
	close_range(3, ~0U, 0);
	CHECK(!umount(mnt));
	bring_back();
}

/* Unbind after a lazy unmount, while a mapping keeps the mount. */
POINT(lazily_unmounted, "a lazily unmounted file system")
{
	char *address;

	mount_source();
	address = map_file(LARGE, PROT_READ, MAP_SHARED);
	CHECK(pattern_matches(address, LARGE, LARGE, 0));
	CHECK(!umount2(mnt, MNT_DETACH));
	REQUIRE(device_unbind(&device));
	CHECK(gets_sigbus(address));
	CHECK(!munmap(address, LARGE));
	close_range(3, ~0U, 0);
	bring_back();
}

int main(void)
{
	mnt = private_mount_point();
	return run_on_sources(getenv("DAXFS_SLOW") ? source_stands_for_driver : source_is_device, NULL, &source);
}
