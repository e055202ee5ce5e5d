// SPDX-License-Identifier: GPL-2.0-only
/*
 * daxfs load gives a memfd huge pages where memfds have none by default, and says so if it cannot.
 * An image takes its size in memory, whatever the kernel does with memfds by default.
 *
 * Group: modules
 * Machine: no-debug cpus=2 virtio-pmem=scratch
 */
#include "util.h"

#define SETTING "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define SIZE (8UL << 20)
/* Bytes of the file after its huge pages. */
#define REST (100UL << 10)
#define TINY_IMAGES 60
/* The kernel's counters are inexact by some pages for each processor. */
#define INEXACT 1024

static const char *mnt;

/* Load @image on @dir while memfds have this setting. Return true if there was a warning. */
static bool load_on(const char *dir, const char *image, const char *setting, const char *memory)
{
	char command[PATH_MAX + 200];
	int status;

	REQUIRE(write_text(SETTING, "%s", setting));
	snprintf(command, sizeof(command), "cd %s && daxfs load --into %s %s %s 2>warning", work_dir(), memory, image, dir);
	status = system(command);
	write_text(SETTING, "never");
	REQUIRE(!status);
	snprintf(command, sizeof(command), "cd %s && grep 'no huge pages' warning", work_dir());
	return !system(command);
}

static bool load_image(const char *setting, const char *memory)
{
	return load_on(mnt, "loaded.daxfs", setting, memory);
}

/* Return the size in KiB of an image in the work directory. */
static long long kilobytes(const char *image)
{
	char path[PATH_MAX];
	struct stat status;

	snprintf(path, sizeof(path), "%s/%s", work_dir(), image);
	REQUIRE(!stat(path, &status));
	return status.st_size / 1024;
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

POINT(huge_pages, "huge pages")
{
	if (!has_huge_mappings())
		SKIP("huge pages of this kernel have another size than 2 MiB");
	CHECK(!load_image("never", "memfd"));
	CHECK_EQ(faults(), SIZE / HUGE_SIZE);
	if (access("/dev/udmabuf", F_OK))
		return;
	CHECK(!load_image("never", "udmabuf"));
	CHECK_EQ(faults(), SIZE / HUGE_SIZE);
}

POINT(small_pages, "small pages, and a warning")
{
	const long expected = SIZE / (16 * page_size());
	long found;

	/* Without huge pages there is nothing to warn of, and mappings are not aligned. */
	CHECK_EQ(load_image("deny", "memfd"), has_huge_mappings());
	found = faults();
	CHECK(found == expected || (found == expected + 1 && !has_huge_mappings()));
}

/* Check that images are in memory that was @shmem and @huge KiB before, and has grown by @size and @full since. */
static void check_memory(long long shmem, long long huge, long long size, long long full)
{
	shmem = number_in("/proc/meminfo", "Shmem:") - shmem;
	huge = number_in("/proc/meminfo", "ShmemHugePages:") - huge;
	if (!CHECK(shmem >= size - INEXACT && shmem <= size + INEXACT))
		printf("# %lld KiB of images take %lld KiB\n", size, shmem);
	CHECK_EQ(huge, full);
}

static const char *const settings[] = { "never", "advise", "within_size", "always", "force", "deny" };

POINT(memory_of_tiny, "memory of tiny images")
{
	long long size = kilobytes("tiny.daxfs");
	char dir[PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		long long shmem = number_in("/proc/meminfo", "Shmem:");
		long long huge = number_in("/proc/meminfo", "ShmemHugePages:");
		/* All of them with two settings, to save time. */
		int count = i % 3 ? 20 : TINY_IMAGES;

		if (!write_text(SETTING, "%s", settings[i]))
			continue;
		for (int n = 0; n < count; n++) {
			snprintf(dir, sizeof(dir), "%s/tiny%d", work_dir(), n);
			CHECK(!load_on(dir, "tiny.daxfs", settings[i], "memfd"));
		}
		printf("# %s\n", settings[i]);
		check_memory(shmem, huge, count * size, 0);
		for (int n = 0; n < count; n++) {
			snprintf(dir, sizeof(dir), "%s/tiny%d", work_dir(), n);
			CHECK(!umount(dir));
		}
	}
}

POINT(memory_of_large, "memory of a large image")
{
	long long size = kilobytes("loaded.daxfs");

	if (!has_huge_mappings())
		SKIP("huge pages of this kernel have another size than 2 MiB");
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		long long shmem = number_in("/proc/meminfo", "Shmem:");
		long long huge = number_in("/proc/meminfo", "ShmemHugePages:");

		if (!strcmp(settings[i], "deny") || !write_text(SETTING, "%s", settings[i]))
			continue;
		CHECK(!load_image(settings[i], "memfd"));
		printf("# %s\n", settings[i]);
		check_memory(shmem, huge, size, size - size % 2048);
		CHECK_EQ(faults(), SIZE / HUGE_SIZE);
	}
}

/* Make an image of one file of @size bytes in the work directory. */
static bool make_image(const char *image, size_t size)
{
	static char content[SIZE + REST];
	char command[PATH_MAX + 200], path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s/file", work_dir());
	pattern_fill(content, size, SIZE, 0);
	file = fopen(path, "we");
	if (!file || fwrite(content, size, 1, file) != 1 || fclose(file))
		return false;
	snprintf(command, sizeof(command),
		 "cd %s && mkdir tree && mv file tree && mkdaxfs --quiet --padding 4K tree %s && rm -r tree",
		 work_dir(), image);
	return !system(command);
}

int main(void)
{
	char dir[PATH_MAX];

	if (access(SETTING, W_OK))
		ktap_skip_all("needs " SETTING);
	mnt = private_mount_point();
	if (system("command -v daxfs >/dev/null") || !make_image("loaded.daxfs", SIZE + REST) ||
	    !make_image("tiny.daxfs", 40000))
		ktap_skip_all("needs daxfs and mkdaxfs");
	for (int n = 0; n < TINY_IMAGES; n++) {
		snprintf(dir, sizeof(dir), "%s/tiny%d", work_dir(), n);
		if (mkdir(dir, 0755))
			ktap_skip_all("cannot make directories");
	}
	return ktap_run();
}
