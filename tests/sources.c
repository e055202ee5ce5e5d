// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every memory source of this machine, with all operations on its files and on its memory.
 *
 * Group: sources
 * Order: 1
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,cxl-pmem,reserve=sources.daxfs drm share
 */
#include "device.h"
#include "source_ops.h"

struct image image;
const struct source *source;
const char *mnt;
char tree[PATH_MAX];

#define OPERATION_MAX 40
/* All operations, those that mount the source themselves at the end. */
static struct operation operations[OPERATION_MAX];
static size_t operation_count;

static void collect_operations(void)
{
	for (size_t i = 0; i < file_operation_count; i++)
		operations[operation_count++] = file_operations[i];
	for (size_t i = 0; i < mount_operation_count; i++)
		operations[operation_count++] = mount_operations[i];
	/* On a slow kernel these are left to buffers, unbind, pinned and poison. */
	for (size_t i = 0; i < memory_operation_count && !getenv("DAXFS_SLOW"); i++)
		operations[operation_count++] = memory_operations[i];
}

static void mounts(void)
{
	REQUIRE(source_mount(source, &image, mnt));
}

/* On a slow kernel, files are used on one source for each way to map. */
static bool fits(const struct operation *operation)
{
	return operation->unmounted || !getenv("DAXFS_SLOW") || source_stands_for_way(source);
}

/* Why sources are missing. */
static char *lacking[SOURCE_MAX];

static void not_offered(void)
{
	SKIP("%s", lacking[source - sources]);
}

static void make_tree(void)
{
	static const u64 sizes[] = { 0, 1, 4095, 4096, 4097, MIDDLE, HUGE_SIZE + 1, LARGE };
	static const char script[] = "#!/bin/sh\necho script \"$1\"\n";
	char command[5 * PATH_MAX];
	int dir, file;

	umask(022);
	snprintf(command, sizeof(command),
		 "rm -rf '%s' && mkdir -p '%s' && cp '%s/helper' '%s/helper'", tree, tree,
		 program_dir(), tree);
	REQUIRE(!system(command));
	dir = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	REQUIRE(!fchmod(dir, 0755) && !fchmodat(dir, "helper", 0755, 0));
	REQUIRE(!mkdirat(dir, "sizes", 0755) && !mkdirat(dir, "deep", 0755));
	REQUIRE(!mkdirat(dir, "deep/er", 0700) && !mkfifoat(dir, "deep/fifo", 0640));
	REQUIRE(!symlinkat("../sizes/1", dir, "deep/link"));
	file = openat(dir, "script", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	REQUIRE(write(file, script, strlen(script)) == (ssize_t)strlen(script));
	close(file);
	close(dir);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		char path[PATH_MAX + 64], *content = malloc(sizes[i]);
		int fd;

		pattern_fill(content, sizes[i], sizes[i], 0);
		snprintf(path, sizeof(path), "%s/sizes/%llu", tree, (unsigned long long)sizes[i]);
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		REQUIRE(fd >= 0 && write(fd, content, sizes[i]) == (ssize_t)sizes[i]);
		close(fd);
		free(content);
	}
}

/* Load the image that tests/images has made, or make it now. */
static void load_image(void)
{
	const char *images = getenv("DAXFS_IMAGES");
	char path[PATH_MAX], command[3 * PATH_MAX];

	snprintf(path, sizeof(path), "%s/sources.daxfs", images ? images : "/run/images");
	if (access(path, R_OK)) {
		snprintf(path, sizeof(path), "%s/sources.daxfs", work_dir());
		snprintf(command, sizeof(command), "mkdaxfs --quiet --no-pack --label sources '%s' '%s' >&2",
			 tree, path);
		if (system(command))
			ktap_skip_all("needs mkdaxfs, or sources.daxfs in DAXFS_IMAGES");
	}
	image = image_load(path);
}

/* Find out which sources the machine has. Return the number of points. */
static unsigned int probe(void)
{
	unsigned int points = 0;

	for (size_t i = 0; i < source_count; i++) {
		int fd = sources[i].make(&sources[i], &image);

		if (fd < 0)
			lacking[i] = strdup(source_missing);
		if (fd > 0)
			close(fd);
		source = &sources[i];
		points++;
		for (size_t j = 0; !lacking[i] && j < operation_count; j++)
			points += fits(&operations[j]);
	}
	return points;
}

static unsigned int results[KTAP_SKIP + 1], number;

static int test_point(const char *what, void (*run)(void))
{
	char name[200];
	struct ktap_test test = { name, run };
	int result;

	snprintf(name, sizeof(name), "%s: %s", source->name, what);
	result = ktap_one(++number, &test);
	results[result]++;
	return result;
}

static void test_source(void)
{
	bool mounted;

	if (lacking[source - sources]) {
		test_point("mounts", not_offered);
		return;
	}
	count_now();
	mounted = test_point("mounts", mounts) == KTAP_PASS;
	for (size_t i = 0; i < operation_count; i++) {
		const struct operation *now = &operations[i];

		if (!fits(now))
			continue;
		if (now->unmounted && mounted) {
			if (umount(mnt)) {
				printf("# umount: %s\n", strerror(errno));
				umount2(mnt, MNT_DETACH);
			}
			mounted = false;
		}
		test_point(now->name, now->run);
	}
}

int main(int argc, char **argv)
{
	int context;

	ktap_start();
	if (argc == 3 && !strcmp(argv[1], "--tree")) {
		/* Make the tree; tests/images makes an image of it. */
		snprintf(tree, sizeof(tree), "%s", argv[2]);
		make_tree();
		return 0;
	}
	device_init();
	mnt = private_mount_point();
	context = syscall(SYS_fsopen, "daxfs", 0); /* loads the module */
	if (context < 0)
		ktap_skip_all("needs the daxfs module");
	close(context);
	snprintf(tree, sizeof(tree), "%s/sources", work_dir());
	make_tree();
	load_image();
	collect_operations();
	printf("KTAP version 1\n1..%u\n", probe());
	for (source = sources; source < sources + source_count; source++)
		test_source();
	return ktap_totals(results);
}
