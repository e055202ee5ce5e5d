// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counters in sysfs: their initial values, what each event adds, and files that are open while
 * their mount goes.
 *
 * Group: vfs
 */
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/vfs.h>

#include "image.h"

static const char *const counters[] = {
	"reads", "read_bytes", "faults_pte", "faults_around", "faults_pmd", "faults_failed",
	"faults_poisoned", "errors_io", "errors_corrupted", "pieces_verified", "pieces_bad",
};

static const char *device, *mnt;
static char directory[64];

/* Open one of the files. */
static int open_file(const char *name)
{
	return open_in(directory, name, O_RDONLY);
}

/* Check that the file @name has one line, and return it without the newline. */
static const char *line(const char *name)
{
	static char text[4096];
	int fd = open_file(name);
	ssize_t length = read(fd, text, sizeof(text));

	REQUIRE(length > 0 && strnlen(text, length) == (size_t)length);
	CHECK_EQ(strcspn(text, "\n"), length - 1);
	text[length - 1] = 0;
	close(fd);
	return text;
}

/* Return the number in the file @name. */
static long long number(const char *name)
{
	const char *text = line(name);
	char *end;
	long long value = strtoll(text, &end, 10);

	REQUIRE(*text && !*end);
	return value;
}

POINT(image, "source, size and inodes")
{
	struct statfs fs;

	REQUIRE(!statfs(mnt, &fs));
	CHECK_EQ(number("size"), fs.f_blocks * fs.f_bsize);
	CHECK_EQ(number("inodes"), fs.f_files);
	CHECK(!strcmp(line("source"), device));
	CHECK(!strcmp(line("mapping"), "dax"));
}

POINT(files, "names and permissions")
{
	DIR *dir = opendir(directory);
	struct dirent *entry;
	size_t count = 0;
	struct stat stat;

	REQUIRE(dir);
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.') {
			bool source = !strcmp(entry->d_name, "source");

			REQUIRE(!fstatat(dirfd(dir), entry->d_name, &stat, 0));
			CHECK_EQ(stat.st_mode, S_IFREG | (source ? 0400 : 0444));
			count++;
		}
	CHECK_EQ(count, ARRAY_SIZE(counters) + 6);
	closedir(dir);
}

POINT(nothing_yet, "all counters are 0 after mounting")
{
	for (size_t i = 0; i < ARRAY_SIZE(counters); i++)
		CHECK_EQ(number(counters[i]), 0);
}

POINT(reads, "reads")
{
	long long calls = number("reads"), bytes = number("read_bytes");
	int fd = open_in(mnt, "sizes/12345", O_RDONLY);
	static char buffer[20000];

	CHECK_EQ(read(fd, buffer, sizeof(buffer)), 12345);
	CHECK_EQ(pread(fd, buffer, 100, 5), 100);
	CHECK_EQ(read(fd, buffer, 1), 0);
	CHECK_EQ(number("reads"), calls + 2);
	CHECK_EQ(number("read_bytes"), bytes + 12345 + 100);
}

POINT(faults, "faults by size")
{
	long long page = number("faults_pte"), around = number("faults_around");
	long long huge = number("faults_pmd"), failed = number("faults_failed");
	/* Of two pages, or of five of 16 KiB. */
	const size_t one = page_size(), size = one == 4096 ? 8192 : 65537, end = page_round(size);
	int fd = open_in(mnt, "sizes/16777216", O_RDONLY), small = open_size(mnt, size, O_RDONLY);
	char *map, *pages;

	map = mmap(NULL, LARGE, PROT_READ, MAP_SHARED, fd, 0);
	REQUIRE(map != MAP_FAILED);
	for (size_t i = 0; i < LARGE; i += HUGE_SIZE)
		touch_pages(map + i, 1, 1);
	if (has_huge_mappings()) {
		CHECK_EQ(number("faults_pmd"), huge + LARGE / HUGE_SIZE);
		CHECK_EQ(number("faults_pte"), page);
		CHECK_EQ(number("faults_around"), around);
	} else {
		CHECK_EQ(number("faults_pmd"), huge);
		CHECK_EQ(number("faults_pte") + number("faults_around"), page + around + LARGE / HUGE_SIZE);
		page = number("faults_pte");
		around = number("faults_around");
	}
	CHECK_EQ(number("faults_failed"), failed);
	/* The pages are in the same part of a page table, and the last one is after the end. */
	pages = mmap((void *)(1UL << 41), end + one, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, small, 0);
	REQUIRE(pages != MAP_FAILED);
	touch_pages(pages, 1, 1);
	touch_pages(pages + end - one, 1, 1);
	CHECK_EQ(number("faults_around"), around + 1);
	CHECK_EQ(number("faults_pte"), page);
	CHECK(gets_sigbus(pages + end));
	CHECK_EQ(number("faults_failed"), failed + 1);
	CHECK_EQ(number("faults_poisoned"), 0);
}

/*
 * Map a file of one page far from other mappings: the kernel asks for 1 GiB and for 2 MiB first,
 * and refusing those does not count as a failure.
 */
POINT(fallback, "a fault that falls back")
{
	long long small = number("faults_pte"), around = number("faults_around");
	long long failed = number("faults_failed");
	int fd = open_in(mnt, "sizes/4096", O_RDONLY);
	char *map = mmap((void *)(1UL << 40), page_size(), PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);

	REQUIRE(map != MAP_FAILED);
	touch_pages(map, 1, 1);
	CHECK_EQ(number("faults_pte"), small + 1);
	CHECK_EQ(number("faults_around"), around);
	CHECK_EQ(number("faults_failed"), failed);
	munmap(map, page_size());
	close(fd);
}

POINT(no_errors, "no errors")
{
	CHECK_EQ(number("errors_io"), 0);
	CHECK_EQ(number("errors_corrupted"), 0);
}

POINT(goes, "the directory goes with the mount, and open files with it")
{
	int reads = open_file("reads"), source = open_file("source"), unread = open_file("size");
	struct stat stat;
	char byte;

	CHECK_EQ(read(reads, &byte, 1), 1);
	CHECK_EQ(read(source, &byte, 1), 1);
	CHECK(!lstat(directory, &stat));
	REQUIRE(!umount2(mnt, 0));
	CHECK_FAILS(lstat(directory, &stat), ENOENT);
	CHECK_FAILS(pread(reads, &byte, 1, 0), ENODEV);
	CHECK_FAILS(pread(source, &byte, 1, 0), ENODEV);
	CHECK_FAILS(read(unread, &byte, 1), ENODEV);
	/* The next mount has the same device number. The open files belong to the previous one. */
	REQUIRE(!mount(device, mnt, "daxfs", 0, NULL));
	CHECK_EQ(number("reads"), 0);
	CHECK_FAILS(pread(reads, &byte, 1, 0), ENODEV);
	REQUIRE(!umount2(mnt, 0));
	close(reads);
	close(source);
	close(unread);
}

static atomic_bool done;
static atomic_long seen;

/* Read all files of all mounts until told to stop. */
static void *reader(void *unused)
{
	char path[160], text[4096];

	while (!done)
		for (size_t i = 0; i < ARRAY_SIZE(counters); i++) {
			int fd;

			snprintf(path, sizeof(path), "%s/%s", directory, counters[i]);
			fd = open(path, O_RDONLY | O_CLOEXEC);
			for (int k = 0; fd >= 0 && k < 20; k++)
				if (pread(fd, text, sizeof(text), 0) > 0)
					seen++;
			if (fd >= 0)
				close(fd);
		}
	return NULL;
}

/* Read the files while the mount comes and goes. */
POINT(race, "files that are read while the mount comes and goes")
{
	pthread_t threads[2];

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		REQUIRE(!pthread_create(&threads[i], NULL, reader, NULL));
	for (int i = repeats(40); i > 0; i--) {
		REQUIRE(!mount(device, mnt, "daxfs", 0, NULL));
		usleep(5000);
		REQUIRE(!umount2(mnt, 0));
	}
	done = true;
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	CHECK(seen > 0);
}

/* Look up an invalid record several times: each counts. */
POINT(errors, "errors")
{
	char path[PATH_MAX];
	struct image image;
	struct stat stat;

	image = image_load_small();
	image_inode(&image, image_entry(&image, "good")->ino)->mode = 0;
	image_seal(&image);
	image_write(&image, device);
	REQUIRE(!mount(device, mnt, "daxfs", 0, NULL));
	snprintf(path, sizeof(path), "%s/good", mnt);
	for (int i = 0; i < 100; i++)
		CHECK_FAILS(lstat(path, &stat), EUCLEAN);
	CHECK_EQ(number("errors_corrupted"), 100);
	CHECK_EQ(number("errors_io"), 0);
	REQUIRE(!umount2(mnt, 0));
}

int main(void)
{
	/* Make the image to damage. */
	fixture_device("scratch");
	device = strdup(fixture_device("tree"));
	mnt = fixture_mount("tree");
	snprintf(directory, sizeof(directory), "%s", sysfs_of(mnt));
	return ktap_run();
}
