// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files of the same content, and packed files, on every memory source. Two files of the same
 * content map the same memory, at once and with entries of either size. Packed files hide their
 * neighbours.
 *
 * Group: packing
 * Machine: rare-debug cpus=2 nvdimm,virtio-pmem,cxl,cxl-pmem,reserve=packing.daxfs drm share
 */
#include "packing.h"

struct image image;
const struct source *source;
const char *mnt;
static char tree[PATH_MAX];

bool any_source(const struct source *source)
{
	return true;
}

bool has_huge(const struct source *source)
{
	return source_maps_huge(source);
}

bool has_pages(const struct source *source)
{
	return source->pages;
}

bool has_device(const struct source *source)
{
	return source->pages && !source->key;
}

/* All points. Points that make memory fail come last, since the pages stay bad. */
static const struct {
	const struct packing_point *points;
	const size_t *count;
} parts[] = {
	{ twin_points, &twin_point_count },
	{ packed_points, &packed_point_count },
	{ failure_points, &failure_point_count },
};

static void write_pattern(int dir, const char *path, u64 seed, u64 size, mode_t mode)
{
	int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	char *content = malloc(size);

	pattern_fill(content, size, seed, 0);
	REQUIRE(fd >= 0 && write(fd, content, size) == (ssize_t)size && !fchmod(fd, mode));
	close(fd);
	free(content);
}

/* Make the tree; tests/images makes an image of it. */
static void make_tree(void)
{
	static const char script[] = "#!/bin/sh\necho script \"$1\"\n";
	char command[5 * PATH_MAX], path[64];
	int dir, file;

	umask(022);
	snprintf(command, sizeof(command), "mkdir -p '%s' && cp '%s/helper' '%s/helper'", tree,
		 program_dir(), tree);
	REQUIRE(!system(command));
	dir = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	REQUIRE(!mkdirat(dir, "twins", 0755) && !mkdirat(dir, "packed", 0755));
	for (size_t i = 0; i < twin_sizes; i++)
		for (char which = 'a'; which <= 'c'; which++) {
			snprintf(path, sizeof(path), "twins/%llu.%c", (unsigned long long)twins[i],
				 which);
			write_pattern(dir, path, twins[i] + (which == 'c'), twins[i],
				      which == 'b' ? 0600 : 0644);
		}
	for (unsigned int i = 0; i < PACKED; i++) {
		snprintf(path, sizeof(path), "packed/%u", 1 + i * STEP);
		write_pattern(dir, path, 1 + i * STEP, 1 + i * STEP, 0644);
	}
	file = openat(dir, "packed/script", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	REQUIRE(write(file, script, strlen(script)) == (ssize_t)strlen(script));
	close(file);
	close(dir);
}

/* Load the image that tests/images has made, or make it now. */
static void load_image(void)
{
	const char *images = getenv("DAXFS_IMAGES");
	char path[PATH_MAX], command[3 * PATH_MAX];

	snprintf(path, sizeof(path), "%s/packing.daxfs", images ? images : "/run/images");
	if (access(path, R_OK)) {
		snprintf(tree, sizeof(tree), "%s/packing", work_dir());
		make_tree();
		snprintf(path, sizeof(path), "%s/packing.daxfs", work_dir());
		snprintf(command, sizeof(command),
			 "mkdaxfs --quiet --pack --label packing '%s' '%s' >&2", tree, path);
		if (system(command))
			ktap_skip_all("needs mkdaxfs, or packing.daxfs in DAXFS_IMAGES");
	}
	image = image_load(path);
}

static unsigned int results[KTAP_SKIP + 1], points;

static void test_point(const struct ktap_test *test)
{
	char name[200];
	struct ktap_test named = { name, test->run };

	snprintf(name, sizeof(name), "%s: %s", source->name, test->name);
	results[ktap_one(++points, &named)]++;
}

/* Return the number of points that fit @source. */
static unsigned int fitting(const struct source *source)
{
	unsigned int count = 0;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		for (size_t j = 0; j < *parts[i].count; j++)
			count += parts[i].points[j].fits(source);
	return count;
}

static void test_points(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		for (size_t j = 0; j < *parts[i].count; j++)
			if (parts[i].points[j].fits(source))
				test_point(&parts[i].points[j].test);
}

static void mounts(void)
{
	REQUIRE(source_mount(source, &image, mnt));
}

static void unmounts(void)
{
	for (int tries = 0; tries < 50 && umount(mnt); tries++)
		usleep(100000);
	CHECK(umount(mnt));
}

int main(int argc, char **argv)
{
	static const struct ktap_test mount = { "mounts", mounts }, unmount = { "unmounts", unmounts };
	bool offered[SOURCE_MAX] = {};
	unsigned int plan = 0;
	int context;

	ktap_start();
	if (argc == 3 && !strcmp(argv[1], "--tree")) {
		snprintf(tree, sizeof(tree), "%s", argv[2]);
		make_tree();
		return 0;
	}
	mnt = private_mount_point();
	context = syscall(SYS_fsopen, "daxfs", 0); /* loads the module */
	if (context < 0)
		ktap_skip_all("needs the daxfs module");
	close(context);
	load_image();
	for (size_t i = 0; i < source_count; i++) {
		int fd = sources[i].make(&sources[i], &image);

		if (fd > 0)
			close(fd);
		if (fd < 0) {
			printf("# %s: %s\n", sources[i].name, source_missing);
			continue;
		}
		/* A kernel with checkers takes one source for each way to map. */
		offered[i] = !getenv("DAXFS_SLOW") || source_stands_for_way(&sources[i]);
		if (!offered[i])
			continue;
		plan += 2;
		plan += fitting(&sources[i]);
	}
	printf("KTAP version 1\n1..%u\n", plan);
	for (source = sources; source < sources + source_count; source++) {
		if (!offered[source - sources])
			continue;
		test_point(&mount);
		test_points();
		test_point(&unmount);
	}
	return ktap_totals(results);
}
