// SPDX-License-Identifier: GPL-2.0
/*
 * Every memory source that this machine has, with everything that can be done with files on it,
 * and everything that can happen to it. With --matrix FILE, write the results as a table for the
 * documentation.
 *
 * Group: sources
 * Order: 1
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,cxl-pmem,reserve=sources.daxfs drm share
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "device.h"
#include "image.h"
#include "ktap.h"
#include "source.h"
#include "source_ops.h"
#include "util.h"

struct image image;
const struct source *source;
const char *mnt;
bool *limited;
static char tree[PATH_MAX];

/* The result of an operation on a source. In memory that all points share. */
#define OPERATION_MAX 40
static struct cell {
	bool tried, limited, failed;
} (*cells)[OPERATION_MAX];

/*
 * List the tree at @dir in @file: paths, types, modes, sizes, targets, content, hard links. Times
 * and owners depend on the user who made the image; other tests compare them.
 */
static void list_tree(const char *dir, const char *file)
{
	char command[4 * PATH_MAX];

	snprintf(command, sizeof(command), "'%s/manifest' '%s' | cut -f 1,2,5,8- >'%s'",
		 program_dir(), dir, file);
	REQUIRE(!system(command));
}

static void whole_tree(void)
{
	char want[PATH_MAX], got[PATH_MAX], command[3 * PATH_MAX];

	snprintf(want, sizeof(want), "%s/sources.want", work_dir());
	snprintf(got, sizeof(got), "%s/sources.got", work_dir());
	list_tree(tree, want);
	list_tree(mnt, got);
	snprintf(command, sizeof(command), "test -s '%s' && cmp '%s' '%s'", want, want, got);
	CHECK_EQ(system(command), 0);
}

/* Return the options of the mount on @mnt. */
static const char *mount_options(void)
{
	static char line[PATH_MAX + 500];
	FILE *mounts = fopen("/proc/self/mounts", "re");
	char device[PATH_MAX], dir[PATH_MAX], type[64], *found = NULL;

	while (mounts && fgets(line, sizeof(line), mounts)) {
		static char options[500];

		if (sscanf(line, "%s %s %63s %499s", device, dir, type, options) == 4 &&
		    !strcmp(dir, mnt) && !strcmp(type, "daxfs"))
			found = options;
	}
	fclose(mounts);
	return found ? found : "";
}

/* Neither daxfs nor the module that exports its memory can be unloaded. */
static void modules_held(void)
{
	char path[100];
	long long users;

	CHECK(number_in("/sys/module/daxfs/refcnt", "") > 0);
	if (!source->module)
		return;
	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", source->module);
	users = number_in(path, "");
	CHECK(users > 0 || access(path, F_OK)); /* it may be built in */
}

static void drop_capability(int capability)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	REQUIRE(!syscall(SYS_capget, &header, data));
	data[capability / 32].effective &= ~(1U << capability % 32);
	data[capability / 32].permitted &= ~(1U << capability % 32);
	data[capability / 32].inheritable &= ~(1U << capability % 32);
	REQUIRE(!syscall(SYS_capset, &header, data));
}

static bool has_option(const char *options, const char *option)
{
	const char *at = strstr(options, option);

	return at && at > options && at[-1] == ',';
}

static void told(void)
{
	const char *options = mount_options();

	CHECK(!strncmp(options, "ro,", 3));
	if (source->shown && !CHECK(has_option(options, source->shown)))
		printf("# %s\n", options);
	if (!source->shown)
		CHECK(!strstr(options, "phys") && !strstr(options, "memfd") &&
		      !strstr(options, "dmabuf"));
	if (!source->shown || strncmp(source->shown, "phys", 4))
		return;
	CHECK(has_option(options, "size="));
	drop_capability(CAP_SYS_RAWIO);
	options = mount_options();
	CHECK(has_option(options, "phys") && !strstr(options, "0x") && !strstr(options, "size="));
}

/* Two mounts at a time, each of which works after the other has ended. */
static void two_mounts(void)
{
	int fd = source->make(source, &image), one, two, copy;
	const char *first = mnt;
	char second[PATH_MAX];

	REQUIRE(fd >= 0);
	snprintf(second, sizeof(second), "%s/second", work_dir());
	mkdir(second, 0700);
	copy = fd ? dup(fd) : 0;
	one = source_context(source, fd);
	if (!source->shared) {
		CHECK(!context_mount(one, second) && errno == EBUSY);
		*limited = true;
		return;
	}
	two = source_context(source, copy);
	if (fd) {
		close(fd);
		close(copy);
	}
	REQUIRE(context_mount(one, second) && context_mount(two, first));
	mnt = second;
	reads();
	close_range(3, ~0U, 0);
	CHECK(!umount(second));
	mnt = first;
	reads();
	close_range(3, ~0U, 0);
	CHECK(!umount(first));
	reads(); /* that of the mount below */
}

/* What mounts could leak. */
struct counters {
	long long buffers, huge_pages, available, users, ranges; /* available: kB */
};

static struct counters count(void)
{
	long long total = number_in("/proc/meminfo", "HugePages_Total:");
	long long unused = number_in("/proc/meminfo", "HugePages_Free:");
	struct counters now = {
		.available = number_in("/proc/meminfo", "MemAvailable:") +
			     unused * (long long)(HUGE_SIZE / 1024),
		.huge_pages = total - unused,
	};
	static const char *const modules[] = { "daxfs", "vgem", "virtio_gpu", "drm_shmem_helper",
					       "fsdev_dax", "nd_pmem" };
	char line[500], path[100];
	FILE *file = fopen("/sys/kernel/debug/dma_buf/bufinfo", "re");

	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "Total %lld objects", &now.buffers);
	if (file)
		fclose(file);
	for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
		snprintf(path, sizeof(path), "/sys/module/%s/refcnt", modules[i]);
		now.users += number_in(path, "");
	}
	file = fopen("/proc/iomem", "re");
	while (file && fgets(line, sizeof(line), file))
		now.ranges += !!strstr(line, "daxfs");
	if (file)
		fclose(file);
	return now;
}

static struct counters before;

/* Some of it is freed a little later. */
void given_back(void)
{
	struct counters now;

	for (int tries = 0; tries < 50; tries++) {
		now = count();
		if (now.buffers == before.buffers && now.huge_pages == before.huge_pages &&
		    now.users == before.users && now.ranges == before.ranges)
			break;
		usleep(100000);
	}
	CHECK_EQ(now.buffers, before.buffers);
	CHECK_EQ(now.huge_pages, before.huge_pages);
	CHECK_EQ(now.users, before.users);
	CHECK_EQ(now.ranges, before.ranges);
}

/*
 * Return an image of one file, or NULL if it cannot be made. It is for memory that is made in each
 * cycle, since making a large one takes longer than mounting it.
 */
static const struct image *small_image(void)
{
	static struct image small;
	char command[5 * PATH_MAX];

	if (small.bytes)
		return &small;
	snprintf(command, sizeof(command),
		 "mkdir -p '%s.small/sizes' && cp '%s/sizes/%lu' '%s.small/sizes' && mkdaxfs --quiet '%s.small' '%s.small.daxfs' >&2",
		 tree, tree, MIDDLE, tree, tree, tree);
	if (system(command))
		return NULL;
	snprintf(command, sizeof(command), "%s.small.daxfs", tree);
	small = image_load(command);
	return &small;
}

static void cycles(void)
{
	const struct image *what = source->key ? small_image() : NULL;
	/* Enough for a leak of the smallest image in each cycle to exceed the limit below. */
	int rounds = repeats(40);
	struct counters first = {}, last;

	for (int i = 0; i < rounds; i++) {
		REQUIRE(source_mount(source, what ?: &image, mnt));
		CHECK(holds(open_file(MIDDLE, O_RDONLY), MIDDLE, 0, MIDDLE));
		/* The file is open and must be closed first. */
		CHECK_FAILS(umount(mnt), EBUSY);
		close_range(3, ~0U, 0);
		REQUIRE(!umount(mnt));
		if (!i)
			first = count();
	}
	last = count();
	printf("# %s: available %lld kB after one cycle, %lld kB after %d\n", source->name,
	       first.available, last.available, rounds);
	/* The available memory varies by megabytes; all images together are 80 MiB and more. */
	CHECK(last.available > first.available - 65536);
	given_back();
}

static const struct operation mount_operations[] = {
	{ "whole tree, by path and content", whole_tree, NULL, false },
	{ "/proc/mounts", told, NULL, false },
	{ "modules are held", modules_held, NULL, false },
	{ "two mounts at once", two_mounts,
	  "the first mount has exclusive use of the memory (EBUSY)", false },
	{ "everything is given back", given_back, NULL, true },
	{ "mount cycles without growth", cycles, NULL, true },
};

/* All operations, those that mount the source themselves at the end. */
static struct operation operations[OPERATION_MAX];
static size_t operation_count;

static void collect_operations(void)
{
	for (size_t i = 0; i < file_operation_count; i++)
		operations[operation_count++] = file_operations[i];
	for (size_t i = 0; i < ARRAY_SIZE(mount_operations); i++)
		operations[operation_count++] = mount_operations[i];
	/* On a slow kernel these are left to buffers, unbind, pinned and poison. */
	for (size_t i = 0; i < memory_operation_count && !getenv("DAXFS_SLOW"); i++)
		operations[operation_count++] = memory_operations[i];
}

static void mounts(void)
{
	REQUIRE(source_mount(source, &image, mnt));
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
		snprintf(command, sizeof(command), "mkdaxfs --quiet --label sources '%s' '%s' >&2",
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
		points += lacking[i] ? 1 : operation_count + 1;
	}
	return points;
}

static unsigned int results[KTAP_SKIP + 1], points;

static int test_point(const char *what, void (*run)(void))
{
	char name[200];
	struct ktap_test test = { name, run };
	int result;

	snprintf(name, sizeof(name), "%s: %s", source->name, what);
	result = ktap_one(++points, &test);
	results[result]++;
	return result;
}

static void test_source(void)
{
	struct cell *row = cells[source - sources];
	bool mounted;

	if (lacking[source - sources]) {
		test_point("mounts", not_offered);
		return;
	}
	before = count();
	mounted = test_point("mounts", mounts) == KTAP_PASS;
	for (size_t i = 0; i < operation_count; i++) {
		const struct operation *now = &operations[i];

		if (now->unmounted && mounted) {
			if (umount(mnt)) {
				printf("# umount: %s\n", strerror(errno));
				umount2(mnt, MNT_DETACH);
			}
			mounted = false;
		}
		limited = &row[i].limited;
		row[i].tried = true;
		row[i].failed = test_point(now->name, now->run) != KTAP_PASS;
	}
}

static const char *answer(const struct cell *cell)
{
	if (cell->failed)
		return "?";
	return cell->limited ? "no" : "yes";
}

/* The table for the documentation: a row for each operation, a column for each source. */
static void write_matrix(const char *path)
{
	FILE *table = fopen(path, "we");

	REQUIRE(table);
	fprintf(table, ".. %s: GPL-2.0\n", "SPDX-License-Identifier");
	fprintf(table, ".. Written by tests/sources --matrix\n\n");
	fprintf(table, ".. list-table::\n   :header-rows: 1\n   :stub-columns: 1\n\n");
	fprintf(table, "   * - Operation\n");
	for (size_t i = 0; i < source_count; i++)
		if (cells[i][0].tried)
			fprintf(table, "     - %s\n", sources[i].name);
	for (size_t j = 0; j < operation_count; j++) {
		fprintf(table, "   * - %s\n", operations[j].name);
		for (size_t i = 0; i < source_count; i++)
			if (cells[i][0].tried)
				fprintf(table, "     - %s\n", answer(&cells[i][j]));
	}
	for (size_t j = 0; j < operation_count; j++)
		if (operations[j].limit)
			fprintf(table, "\n* \"no\" for %s: %s.", operations[j].name,
				operations[j].limit);
	fprintf(table, "\n");
	fclose(table);
}

/* Mount the image in a file from a source, and leave it mounted. For tests/roots. */
static int mount_by_name(const char *name, const char *file, const char *dir)
{
	image = image_load(file);
	for (source = sources; source < sources + source_count; source++) {
		if (strcmp(source->name, name))
			continue;
		if (source_mount(source, &image, dir))
			return KTAP_PASS;
		puts(source_missing);
		return KTAP_SKIP;
	}
	printf("no source %s\n", name);
	return KTAP_FAIL;
}

int main(int argc, char **argv)
{
	const char *matrix = NULL;
	int context;

	ktap_point = mmap(NULL, sizeof(*ktap_point), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cells = mmap(NULL, SOURCE_MAX * sizeof(*cells), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(ktap_point != MAP_FAILED && cells != MAP_FAILED);
	if (argc == 3 && !strcmp(argv[1], "--tree")) {
		/* Make the tree; tests/images makes an image of it. */
		snprintf(tree, sizeof(tree), "%s", argv[2]);
		make_tree();
		return 0;
	}
	if (argc == 2 && !strcmp(argv[1], "--list")) {
		for (source = sources; source < sources + source_count; source++)
			puts(source->name);
		return 0;
	}
	if (argc == 5 && !strcmp(argv[1], "--mount"))
		return mount_by_name(argv[2], argv[3], argv[4]);
	if (argc == 3 && !strcmp(argv[1], "--matrix"))
		matrix = argv[2];

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
	if (matrix)
		write_matrix(matrix);
	printf("# totals: pass:%u fail:%u skip:%u\n", results[KTAP_PASS], results[KTAP_FAIL],
	       results[KTAP_SKIP]);
	if (results[KTAP_FAIL])
		return KTAP_FAIL;
	return results[KTAP_PASS] ? KTAP_PASS : KTAP_SKIP;
}
