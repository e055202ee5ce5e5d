// SPDX-License-Identifier: GPL-2.0-only
/* Operations on a source apart from using its files: mounting it, again and again. */
#include <linux/capability.h>

#include "source_ops.h"

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
	const char *options = mount_options(mnt);

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
	options = mount_options(mnt);
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
	reads(); /* the mount below */
}

/* Resources that mounts could leak. */
struct counters {
	long long buffers, huge_pages, available, users, ranges; /* available: kB */
};

static struct counters count(void)
{
	long long total = number_in(HUGE_PAGES, "");
	long long unused = number_in(HUGE_PAGES_FREE, "");
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

void count_now(void)
{
	before = count();
}

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
		 "mkdir -p '%s.small/sizes' && cp '%s/sizes/%lu' '%s.small/sizes' && mkdaxfs --quiet --no-pack '%s.small' '%s.small.daxfs' >&2",
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

const struct operation mount_operations[] = {
	{ "whole tree, by path and content", whole_tree, false },
	{ "/proc/mounts", told, false },
	{ "modules are held", modules_held, false },
	{ "two mounts at once", two_mounts, false },
	{ "everything is given back", given_back, true },
	{ "mount cycles without growth", cycles, true },
};

const size_t mount_operation_count = ARRAY_SIZE(mount_operations);
