// SPDX-License-Identifier: GPL-2.0-only
/*
 * daxfs load gives a memfd huge pages where memfds have none by default, and says so if it cannot.
 * Pages of a memfd go into pipes without being copied.
 *
 * Group: modules
 * Machine: no-debug cpus=2 virtio-pmem=scratch
 */
#include "util.h"

#define SETTING "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define SIZE (8UL << 20)
#define PIPES 32
#define PIPE (1 << 20)

static const char *mnt;

/* Load the image while memfds have this setting. Return true if there was a warning. */
static bool load_image(const char *setting, const char *memory)
{
	char command[PATH_MAX + 200];
	int status;

	REQUIRE(write_text(SETTING, "%s", setting));
	snprintf(command, sizeof(command), "cd %s && daxfs load --into %s loaded.daxfs %s 2>warning", work_dir(), memory, mnt);
	status = system(command);
	write_text(SETTING, "never");
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

/* Pages in pipes take no additional memory, and outlive the mount. */
POINT(into_pipes, "pages in pipes")
{
	static char buffer[PIPE];
	const int page = page_size();
	int ends[PIPES][2], fd;
	long long before;

	load_image("never", "memfd");
	fd = open_in(mnt, "file", O_RDONLY);
	for (int i = 0; i < PIPES; i++)
		REQUIRE(!pipe(ends[i]) && fcntl(ends[i][1], F_SETPIPE_SZ, PIPE) == PIPE);
	before = number_in("/proc/meminfo", "MemFree:");
	for (int i = 0; i < PIPES; i++) {
		loff_t offset = page * i + 1000;

		CHECK_EQ(splice(fd, &offset, ends[i][1], NULL, PIPE - page, 0), PIPE - page);
		CHECK_EQ(offset, page * i + 1000 + PIPE - page);
	}
	CHECK(before - number_in("/proc/meminfo", "MemFree:") < PIPES * (PIPE / 1024) / 2);
	close(fd);
	CHECK(!umount(mnt));
	for (int i = 0; i < PIPES; i++) {
		CHECK_EQ(read(ends[i][0], buffer, PIPE), PIPE - page);
		CHECK(pattern_matches(buffer, PIPE - page, SIZE, page * i + 1000));
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
	if (access(SETTING, W_OK))
		ktap_skip_all("needs " SETTING);
	mnt = private_mount_point();
	if (system("command -v daxfs >/dev/null") || !make_image())
		ktap_skip_all("needs daxfs and mkdaxfs");
	return ktap_run();
}
