// SPDX-License-Identifier: GPL-2.0-only
/*
 * daxfs load gives a memfd huge pages where memfds have none by default, and says so if it cannot.
 * Pages of a memfd go into pipes without being copied.
 *
 * Group: modules
 * Machine: cpus=2 virtio-pmem=scratch
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include "ktap.h"
#include "util.h"

#define SETTING "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define SIZE (8UL << 20)
#define PIPES 32
#define PIPE (1 << 20)

static const char *mnt;

static bool set(const char *value)
{
	int fd = open(SETTING, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

	close(fd);
	return done;
}

/* Load the image while memfds have this setting. Return true if there was a warning. */
static bool load_image(const char *setting, const char *memory)
{
	char command[PATH_MAX + 200];
	int status;

	REQUIRE(set(setting));
	snprintf(command, sizeof(command), "cd %s && daxfs load --into %s loaded.daxfs %s 2>warning", work_dir(), memory, mnt);
	status = system(command);
	set("never");
	REQUIRE(!status);
	snprintf(command, sizeof(command), "cd %s && grep 'no huge pages' warning", work_dir());
	return !system(command);
}

/* Map the file, then unmount. Return the number of faults. */
static long faults(void)
{
	int fd = open_in(mnt, "file", O_RDONLY);
	char *address;
	long count;

	address = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	REQUIRE(address != MAP_FAILED);
	count = touch_pages(address, SIZE, 4096);
	CHECK(pattern_matches(address, SIZE, SIZE, 0));
	munmap(address, SIZE);
	close(fd);
	CHECK(!umount(mnt));
	return count;
}

static void huge_pages(void)
{
	CHECK(!load_image("never", "memfd"));
	CHECK_EQ(faults(), SIZE / HUGE_SIZE);
	if (access("/dev/udmabuf", F_OK))
		return;
	CHECK(!load_image("never", "udmabuf"));
	CHECK_EQ(faults(), SIZE / HUGE_SIZE);
}

static void small_pages(void)
{
	CHECK(load_image("deny", "memfd"));
	CHECK_EQ(faults(), SIZE / 65536);
}

/* The pages in pipes take no memory of their own, and outlive the mount. */
static void into_pipes(void)
{
	static char buffer[PIPE];
	int ends[PIPES][2], fd;
	long long before;

	load_image("never", "memfd");
	fd = open_in(mnt, "file", O_RDONLY);
	for (int i = 0; i < PIPES; i++)
		REQUIRE(!pipe(ends[i]) && fcntl(ends[i][1], F_SETPIPE_SZ, PIPE) == PIPE);
	before = number_in("/proc/meminfo", "MemFree:");
	for (int i = 0; i < PIPES; i++) {
		loff_t offset = 4096 * i + 1000;

		CHECK_EQ(splice(fd, &offset, ends[i][1], NULL, PIPE - 4096, 0), PIPE - 4096);
		CHECK_EQ(offset, 4096 * i + 1000 + PIPE - 4096);
	}
	CHECK(before - number_in("/proc/meminfo", "MemFree:") < PIPES * (PIPE / 1024) / 2);
	close(fd);
	CHECK(!umount(mnt));
	for (int i = 0; i < PIPES; i++) {
		CHECK_EQ(read(ends[i][0], buffer, PIPE), PIPE - 4096);
		CHECK(pattern_matches(buffer, PIPE - 4096, SIZE, 4096 * i + 1000));
	}
}

/* Make an image of one file in the work directory. */
static bool make_image(void)
{
	static char content[SIZE];
	char command[PATH_MAX + 200], path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s/file", work_dir());
	pattern_fill(content, SIZE, SIZE, 0);
	file = fopen(path, "we");
	if (!file || fwrite(content, SIZE, 1, file) != 1 || fclose(file))
		return false;
	snprintf(command, sizeof(command), "cd %s && mkdir loaded-tree && mv file loaded-tree && mkdaxfs --quiet loaded-tree loaded.daxfs", work_dir());
	return !system(command);
}

int main(void)
{
	static const struct ktap_test tests[] = {
		{ "huge pages", huge_pages },
		{ "small pages, and a warning", small_pages },
		{ "pages in pipes", into_pipes },
	};

	if (access(SETTING, W_OK))
		ktap_skip_all("needs " SETTING);
	mnt = private_mount_point();
	if (system("command -v daxfs >/dev/null") || !make_image())
		ktap_skip_all("needs daxfs and mkdaxfs");
	return ktap_run(tests, ARRAY_SIZE(tests));
}
