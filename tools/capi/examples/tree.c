// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Print the files of an image with their modes and sizes, and the targets of symlinks.
 *
 *	cc -o tree tree.c $(pkg-config --cflags --libs daxfs)
 *	./tree base.img /etc
 */
#include <daxfs.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void fail(const char *what)
{
	fprintf(stderr, "tree: %s: %s\n", what, daxfs_error());
	exit(1);
}

static void print(const struct daxfs *image, const struct daxfs_stat *stat, const char *path)
{
	char target[PATH_MAX];

	printf("%06o %10llu %s", stat->mode, (unsigned long long)stat->size, path);
	if (S_ISLNK(stat->mode)) {
		ssize_t length = daxfs_readlink(image, stat->ino, target, sizeof(target));

		if (length < 0)
			fail(path);
		printf(" -> %.*s", (int)length, target);
	}
	putchar('\n');
}

static void list(const struct daxfs *image, uint32_t directory, const char *path)
{
	struct daxfs_dirent entries[64];
	uint32_t position = 0;
	ssize_t count;

	while ((count = daxfs_readdir(image, directory, position, entries, 64)) > 0) {
		position += count;
		for (ssize_t i = 0; i < count; i++) {
			const struct daxfs_stat *stat = &entries[i].stat;
			char *name = malloc(strlen(path) + entries[i].length + 2);

			if (!name)
				abort();
			sprintf(name, "%s/%s", path, entries[i].name);
			print(image, stat, name);
			if (S_ISDIR(stat->mode))
				list(image, stat->ino, name);
			free(name);
		}
	}
	if (count < 0)
		fail(path);
}

int main(int argc, char **argv)
{
	const char *path = argc > 2 ? argv[2] : "";
	struct daxfs_stat stat;
	struct daxfs *image;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: tree IMAGE [PATH]\n");
		return 2;
	}
	if (daxfs_open(argv[1], &image))
		fail(argv[1]);
	if (daxfs_find(image, argc > 2 ? path : "/", 0, &stat))
		fail(path);
	if (S_ISDIR(stat.mode))
		list(image, stat.ino, path);
	else
		print(image, &stat, path);
	daxfs_close(image);
	return 0;
}
