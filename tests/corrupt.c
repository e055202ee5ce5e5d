// SPDX-License-Identifier: GPL-2.0-only
/*
 * Corrupt images: mount them, and check what remains readable.
 */
#include <dirent.h>
#include <sched.h>

#include "corrupt.h"

const char *device, *mnt;
struct image good;

void corrupt_init(void)
{
	device = fixture_device("scratch");
	mnt = private_mount_point();
	good = image_load_small();
}

void mount_image(const struct image *image)
{
	image_write(image, device);
	REQUIRE(!unshare(CLONE_NEWNS));
	REQUIRE(!mount(device, mnt, "daxfs", MS_RDONLY, NULL));
	REQUIRE(!chdir(mnt));
}

void seal_and_mount(struct image *image)
{
	image_seal(image);
	mount_image(image);
}

bool in_child_with(struct image *image)
{
	pid_t pid = fork();
	int status;

	REQUIRE(pid >= 0);
	if (!pid) {
		seal_and_mount(image);
		return true;
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	image_free(image);
	return false;
}

void child_is_done(void)
{
	rest_is_good();
	fflush(stdout);
	_exit(ktap_point->failed);
}

void rest_is_good(void)
{
	char buffer[5000];
	struct stat stat;
	int fd = open("good", O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0 && read(fd, buffer, sizeof(buffer)) == 5000 &&
	      pattern_matches(buffer, 5000, 5, 0));
	CHECK(readlink("link", buffer, sizeof(buffer)) == 4 && !memcmp(buffer, "good", 4));
	CHECK(!lstat("null", &stat) && S_ISCHR(stat.st_mode));
	CHECK_FAILS(lstat("not there", &stat), ENOENT);
	close(fd);
}

/* List a directory. Return the number of names, and the errno in *@error. */
static int list(const char *path, int *error)
{
	DIR *dir = opendir(path);
	int count = 0;

	REQUIRE(dir);
	errno = 0;
	while (readdir(dir) && count < 100000)
		count++;
	*error = errno;
	closedir(dir);
	return count;
}

void listing_is(const char *path, int want)
{
	int error;

	list(path, &error);
	CHECK_EQ(error, want);
}

void entry_case(void (*damage)(struct image *image), const char *path, int error,
		int listing)
{
	struct image image = image_copy(&good);
	struct stat stat;

	damage(&image);
	if (in_child_with(&image)) {
		CHECK_FAILS(lstat(path, &stat), error);
		listing_is("dir", listing);
		child_is_done();
	}
}
