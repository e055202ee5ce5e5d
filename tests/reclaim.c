// SPDX-License-Identifier: GPL-2.0-only
/*
 * Inodes of files that were mapped are reclaimed like all others once they are unused, with
 * everything that the mappings allocated. Waiting for one page of many files costs hardly any time.
 *
 * Group: modules
 * Machine: no-debug cpus=2 virtio-pmem=scratch
 */
#include <sys/prctl.h>
#include <sys/uio.h>

#include "lib/device.h"

/* Files of several pages, pairs with the same content, and files that are never mapped, as mktree makes them. */
#define MAPPED 1000
#define TWINS 300
#define OTHERS 1000

static const char *device, *mnt;
static struct image image;

static size_t size_of(unsigned int number)
{
	return 5000 + number % 5 * 3000;
}

static void path_of(char path[64], char kind, unsigned int number)
{
	snprintf(path, 64, "%c%u/%u", kind, number / 100, number);
}

static void stat_files(char kind, unsigned int count)
{
	char path[64], whole[PATH_MAX];
	struct stat stat;

	for (unsigned int i = 0; i < count; i++) {
		path_of(path, kind, i);
		snprintf(whole, sizeof(whole), "%s/%s", mnt, path);
		CHECK(!lstat(whole, &stat));
	}
}

static void map_files(char kind, unsigned int count)
{
	char path[64];

	for (unsigned int i = 0; i < count; i++) {
		size_t size = size_of(i);
		char *address;
		int fd;

		path_of(path, kind, i);
		fd = open_in(mnt, path, O_RDONLY);
		address = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
		REQUIRE(address != MAP_FAILED);
		touch_pages(address, size, 4096);
		munmap(address, size);
		close(fd);
	}
}

struct counts {
	long long inodes, nodes;
};

/* Return the counts after dropping the caches three times. */
static struct counts left(void)
{
	struct counts counts;

	bounded_drop_caches(3);
	/* Inodes are freed after a grace period, and processors keep some free ones for themselves. */
	rest(0.3);
	system("for name in daxfs_inode radix_tree_node; do echo 1 >/sys/kernel/slab/$name/shrink; done 2>/dev/null");
	counts.inodes = number_in("/proc/slabinfo", "daxfs_inode ");
	counts.nodes = number_in("/proc/slabinfo", "radix_tree_node ");
	if (counts.inodes < 0) {
		umount(mnt);
		SKIP("the kernel does not count inodes in /proc/slabinfo");
	}
	return counts;
}

static struct counts before;

static void begin(void)
{
	skip_if_stuck();
	REQUIRE(!mount(device, mnt, "daxfs", 0, NULL));
	stat_files('m', MAPPED);
	stat_files('a', TWINS);
	stat_files('b', TWINS);
	stat_files('o', OTHERS);
	before = left();
}

static void given_back(void)
{
	struct counts after = left();

	/* Other users of such nodes come and go. */
	if (!CHECK(after.inodes < before.inodes + 100) || !CHECK(after.nodes < before.nodes + 500))
		printf("# inodes: %lld without mapping, %lld after; nodes: %lld, %lld\n",
		       before.inodes, after.inodes, before.nodes, after.nodes);
}

static void end(void)
{
	CHECK_EQ(bounded_umount(mnt), 0);
}

POINT(mapped, "mapped files")
{
	begin();
	map_files('m', MAPPED);
	stat_files('o', OTHERS);
	given_back();
	map_files('m', MAPPED);
	given_back();
	end();
}

POINT(twins, "mapped files of the same content")
{
	begin();
	map_files('a', TWINS);
	map_files('b', TWINS);
	stat_files('o', OTHERS);
	given_back();
	map_files('b', TWINS);
	given_back();
	map_files('a', TWINS);
	map_files('b', TWINS);
	given_back();
	end();
}

/* A pipe keeps one page; all other mapped inodes are reclaimed. */
POINT(pinned, "mapped files, and a page that a pipe holds")
{
	char path[64], buffer[4096], *address;
	struct iovec vector = { NULL, 4096 };
	int ends[2], fd;

	begin();
	path_of(path, 'a', 7);
	fd = open_in(mnt, path, O_RDONLY);
	address = mmap(NULL, size_of(7), PROT_READ, MAP_SHARED, fd, 0);
	REQUIRE(address != MAP_FAILED && !pipe(ends));
	vector.iov_base = address;
	REQUIRE(vmsplice(ends[1], &vector, 1, 0) == 4096);
	munmap(address, size_of(7));
	close(fd);
	map_files('m', MAPPED);
	map_files('b', TWINS);
	stat_files('o', OTHERS);
	given_back();
	CHECK_EQ(read(ends[0], buffer, 4096), 4096);
	CHECK(pattern_matches(buffer, 4096, 7, 0));
	given_back();
	end();
}

/* Map all files, and keep a page of one in a pipe until @argument is set. */
static int keep_mapped(void *argument)
{
	bool *go = argument;
	char path[PATH_MAX];
	int ends[2];

	if (pipe(ends))
		return 1;
	for (unsigned int i = 0; i < MAPPED; i++) {
		struct iovec vector = { NULL, 4096 };
		int fd;

		snprintf(path, sizeof(path), "%s/m%u/%u", mnt, i / 100, i);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		vector.iov_base = mmap(NULL, size_of(i), PROT_READ, MAP_SHARED, fd, 0);
		if (vector.iov_base == MAP_FAILED)
			return 2;
		close(fd);
		touch_pages(vector.iov_base, 4096, 4096);
		if (i == MAPPED / 2 && vmsplice(ends[1], &vector, 1, 0) != 4096)
			return 3;
	}
	go[1] = true;
	while (!__atomic_load_n(go, __ATOMIC_SEQ_CST))
		usleep(1000);
	return 0;
}

/* Return the seconds that all processors have spent in the kernel. */
static double system_time(void)
{
	FILE *file = fopen("/proc/stat", "r");
	long long ticks = 0;

	REQUIRE(file && fscanf(file, "cpu %*d %*d %lld", &ticks) == 1);
	fclose(file);
	return ticks / (double)sysconf(_SC_CLK_TCK);
}

/* The device is removed while a user holds a page: the wait costs nothing, and ends with the page. */
POINT(removed, "mapped files, a page that a pipe holds, and removal of the device")
{
	const struct source *source = source_named("virtio-pmem");
	bool *go = shared_memory(2);
	double used, start;
	struct device found;
	pid_t user, unbinding;

	skip_if_stuck();
	REQUIRE(source->make(source, &image) == 0);
	device_find(source, &found);
	REQUIRE(!mount(device, mnt, "daxfs", 0, NULL));
	user = background_user(keep_mapped, go);
	for (int tries = 0; tries < 60000 && !__atomic_load_n(&go[1], __ATOMIC_SEQ_CST); tries++)
		usleep(1000);
	REQUIRE(go[1]);
	unbinding = begin_unbind(&found);
	/*
	 * The first rounds unmap everything. Both rests together are shorter than the time after
	 * which the kernel reports that the task which unbinds hangs.
	 */
	rest(5);
	used = system_time();
	rest(3);
	used = system_time() - used;
	printf("# %.2f s of system time in 3 s\n", used);
	CHECK(used < 0.6);
	CHECK_EQ(ends_within(unbinding, 0), -1);
	__atomic_store_n(go, true, __ATOMIC_SEQ_CST);
	CHECK_EQ(reaped("the user", user), 0);
	start = now();
	CHECK_EQ(reaped("unbind", unbinding), 0);
	CHECK(now() - start < limit() / 4.0);
	end();
	REQUIRE(device_bind(&found));
}

int main(void)
{
	device = fixture_device("scratch");
	mnt = private_mount_point();
	device_init();
	ktap_start();
	image = image_named("reclaim", "");
	image_write(&image, device);
	return ktap_run();
}
