// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counters in debugfs: their initial values, and what each event adds.
 *
 * Group: vfs
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "image.h"
#include "ktap.h"
#include "util.h"

static const char *device, *mnt;
static char directory[PATH_MAX];

/* Return the number after @key in one of the files. */
static long long number(const char *file, const char *key)
{
	char path[PATH_MAX + 20];

	snprintf(path, sizeof(path), "%s/%s", directory, file);
	return number_in(path, key);
}

static void image(void)
{
	struct statfs fs;

	REQUIRE(!statfs(mnt, &fs));
	CHECK_EQ(number("image", "size"), fs.f_blocks * fs.f_bsize);
	CHECK_EQ(number("image", "inodes"), fs.f_files);
}

static void reads(void)
{
	long long calls = number("counters", "reads"), bytes = number("counters", "read_bytes");
	int fd = open_in(mnt, "sizes/12345", O_RDONLY);
	static char buffer[20000];

	CHECK_EQ(read(fd, buffer, sizeof(buffer)), 12345);
	CHECK_EQ(pread(fd, buffer, 100, 5), 100);
	CHECK_EQ(read(fd, buffer, 1), 0);
	CHECK_EQ(number("counters", "reads"), calls + 2);
	CHECK_EQ(number("counters", "read_bytes"), bytes + 12345 + 100);
}

static void touch(const char *byte)
{
	asm volatile("" : : "r"(*byte) : "memory");
}

static void faults(void)
{
	long long small = number("counters", "faults"), huge = number("counters", "huge_faults");
	long long failed = number("counters", "failed_faults");
	int fd = open_in(mnt, "sizes/67108864", O_RDONLY), page = open_in(mnt, "sizes/4097", O_RDONLY);
	char *map, *two;
	pid_t pid;
	int status;

	map = mmap(NULL, 64 << 20, PROT_READ, MAP_SHARED, fd, 0);
	two = mmap(NULL, 3 * page_size(), PROT_READ, MAP_SHARED, page, 0);
	REQUIRE(map != MAP_FAILED && two != MAP_FAILED);
	for (size_t i = 0; i < 64 << 20; i += HUGE_SIZE)
		touch(map + i);
	touch(two);
	CHECK_EQ(number("counters", "huge_faults"), huge + 32);
	CHECK_EQ(number("counters", "faults"), small + 1);
	CHECK_EQ(number("counters", "failed_faults"), failed);
	pid = fork();
	if (!pid) {
		touch(two + 2 * page_size());
		_exit(0);
	}
	waitpid(pid, &status, 0);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	CHECK_EQ(number("counters", "failed_faults"), failed + 1);
}

/*
 * Map a file of one page far from other mappings: the kernel asks for 1 GiB and for 2 MiB first,
 * and refusing those does not count as a failure.
 */
static void fallback(void)
{
	long long small = number("counters", "faults"), failed = number("counters", "failed_faults");
	int fd = open_in(mnt, "sizes/4096", O_RDONLY);
	char *map = mmap((void *)(1UL << 40), page_size(), PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);

	REQUIRE(map != MAP_FAILED);
	touch(map);
	CHECK_EQ(number("counters", "faults"), small + 1);
	CHECK_EQ(number("counters", "failed_faults"), failed);
	munmap(map, page_size());
	close(fd);
}

static void no_errors(void)
{
	CHECK_EQ(number("counters", "errors"), 0);
}

static void goes(void)
{
	struct stat stat;

	CHECK(!lstat(directory, &stat));
	REQUIRE(!umount2(mnt, 0));
	CHECK_FAILS(lstat(directory, &stat), ENOENT);
}

/* Look up an invalid record several times: each counts. */
static void errors(void)
{
	char path[PATH_MAX];
	struct image image;
	struct stat stat;

	snprintf(path, sizeof(path), "%s/small.daxfs", work_dir());
	image = image_load(path);
	image_inode(&image, image_entry(&image, "good")->ino)->mode = 0;
	image_seal(&image);
	image_write(&image, device);
	REQUIRE(!mount(device, mnt, "daxfs", 0, NULL));
	snprintf(path, sizeof(path), "%s/good", mnt);
	for (int i = 0; i < 100; i++)
		CHECK_FAILS(lstat(path, &stat), EUCLEAN);
	CHECK_EQ(number("counters", "errors"), 100);
	REQUIRE(!umount2(mnt, 0));
}

int main(void)
{
	static const struct ktap_test tests[] = {
		{ "size and inodes", image },
		{ "reads", reads },
		{ "faults by size", faults },
		{ "a fault that falls back", fallback },
		{ "no errors", no_errors },
		{ "the directory goes with the mount", goes },
		{ "errors", errors },
	};

	/* Make the image to damage. */
	fixture_device("scratch");
	device = strdup(fixture_device("tree"));
	mnt = fixture_mount("tree");
	if (mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL) && errno != EBUSY)
		ktap_skip_all("needs CONFIG_DEBUG_FS");
	snprintf(directory, sizeof(directory), "/sys/kernel/debug/daxfs/%s",
		 strrchr(device, '/') + 1);
	return ktap_run(tests, ARRAY_SIZE(tests));
}
