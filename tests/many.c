// SPDX-License-Identifier: GPL-2.0-only
/*
 * A directory of 100,000 files.
 *
 * Group: images
 * Machine: virtio-pmem=many.daxfs
 */
#include <dirent.h>

#include "util.h"

#define COUNT 100000

static const char *mnt;
static int root;

/* The distance from one name that is looked up to the next. */
static unsigned int step(void)
{
	return COUNT / repeats(COUNT);
}

static int compare(const void *left, const void *right)
{
	return strcmp(*(char **)left, *(char **)right);
}

POINT(lists_all, "the listing is complete")
{
	char **listed = calloc(COUNT + 1, sizeof(*listed)), **made = calloc(COUNT, sizeof(*made));
	DIR *dir = opendir(mnt);
	unsigned int count = 0;
	struct dirent *entry;
	char name[NAME_MAX + 1];

	REQUIRE(dir);
	while (errno = 0, entry = readdir(dir)) {
		if (entry->d_name[0] == '.')
			continue;
		REQUIRE(count < COUNT);
		CHECK_EQ(entry->d_type, DT_REG);
		listed[count++] = strdup(entry->d_name);
	}
	CHECK_EQ(errno, 0);
	CHECK_EQ(count, COUNT);
	for (unsigned int i = 0; i < COUNT; i++) {
		many_name(name, i);
		made[i] = strdup(name);
	}
	qsort(listed, count, sizeof(*listed), compare);
	qsort(made, COUNT, sizeof(*made), compare);
	for (unsigned int i = 0; i < count; i++)
		if (strcmp(listed[i], made[i])) {
			printf("# name %u is %s, should be %s\n", i, listed[i], made[i]);
			ktap_point->failed = true;
			break;
		}
}

POINT(finds_all, "every name is found")
{
	char name[NAME_MAX + 1];
	struct stat stat;

	for (unsigned int i = 0; i < COUNT; i += step()) {
		many_name(name, i);
		if (!CHECK(!fstatat(root, name, &stat, AT_SYMLINK_NOFOLLOW))) {
			printf("# name %u, %s\n", i, name);
			break;
		}
	}
}

POINT(finds_no_others, "missing names are not found")
{
	char name[NAME_MAX + 1];
	struct stat stat;

	for (unsigned int i = 0; i < COUNT; i += step()) {
		many_name(name, i);
		name[strlen(name) - 1] ^= 1;
		CHECK_FAILS(fstatat(root, name, &stat, AT_SYMLINK_NOFOLLOW), ENOENT);
	}
}

/* Seeking to a cookie anywhere in the directory continues with the same entries. */
POINT(cursors, "cursors")
{
	DIR *dir = opendir(mnt);
	unsigned int count = 0;

	REQUIRE(dir);
	while (readdir(dir)) {
		if (count % 9973 == 0) {
			long cookie = telldir(dir);
			struct dirent *next = readdir(dir);
			char *name = next ? strdup(next->d_name) : NULL;

			rewinddir(dir);
			readdir(dir);
			seekdir(dir, cookie);
			next = readdir(dir);
			CHECK(name && next && !strcmp(next->d_name, name));
			count++;
		}
		count++;
	}
	CHECK_EQ(count, COUNT + 2);
}

int main(void)
{
	mnt = fixture_mount("many");
	root = open(mnt, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return ktap_run();
}
