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
	/* On a slow kernel these are left to the test buffers. */
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
	struct ktap_test test = { .name = name, .run = run };
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

int main(void)
{
	int context;

	ktap_start();
	device_init();
	mnt = private_mount_point();
	context = syscall(SYS_fsopen, "daxfs", 0); /* loads the module */
	if (context < 0)
		ktap_skip_all("needs the daxfs module");
	close(context);
	image = sources_image();
	snprintf(tree, sizeof(tree), "%s/sources", work_dir());
	REQUIRE(!run_command("rm -rf '%s' && '%s/mktree' sources '%s'", tree, program_dir(), tree));
	collect_operations();
	printf("KTAP version 1\n1..%u\n", probe());
	for (source = sources; source < sources + source_count; source++)
		test_source();
	return ktap_totals(results);
}
