// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writes to private mappings. The copies of pages are ordinary memory, whatever the pages are. A page that cannot be
 * copied gives SIGBUS, and only that page, also if nothing knew of its failure. The module daxfs_pages looks at the
 * copies and has them fail.
 *
 * Group: memory
 * Order: 8
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,reserve,pci=sources.daxfs drm share
 */
#include <sys/utsname.h>

#include "lib/device.h"
#include "lib/mapped.h"

#define PARAMETERS "/sys/module/daxfs_pages/parameters/"

static const struct source *source;
static struct image image;
static const char *mnt;

/* Mount the image, with the module loaded. */
static void set_up(void)
{
	struct utsname kernel;

	skip_if_stuck();
	REQUIRE(!uname(&kernel));
	if (access(PARAMETERS, F_OK) && run_command("insmod '%s/%s.ko'", program_dir(), kernel.release))
		SKIP("needs the module daxfs_pages (make module)");
	REQUIRE(source_mount(source, &image, mnt));
}

/* Return true if the page-table entry of @address, in a mapping of page frames, is write-back. */
static bool is_cached(const char *address)
{
	REQUIRE(write_text(PARAMETERS "cached", "%#lx", (unsigned long)address));
	return number_in(PARAMETERS "cached", "");
}

static bool is_by_frames(void)
{
	return !source->pages;
}

POINT_IF(copy_is_cached, "the copy of a page is write-back, in a child and after mprotect(2) as well", is_by_frames)
{
	char *private, *shared;
	bool cached;
	int status;
	pid_t pid;

	set_up();
	shared = map_size(mnt, LARGE, PROT_READ, MAP_SHARED);
	private = map_size(mnt, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	touch_pages(private, 2 * HUGE_SIZE, 4096);
	touch_pages(shared, 1, 1);
	cached = is_cached(shared);
	/* Exporters of memory that devices read map it write-combined. */
	CHECK_EQ(cached, !source->module);
	CHECK_EQ(is_cached(private), cached);
	/* The first write to a page, and a write after a read. */
	private[3 * HUGE_SIZE] ^= 1;
	private[HUGE_SIZE] ^= 1;
	CHECK(is_cached(private + 3 * HUGE_SIZE));
	CHECK(is_cached(private + HUGE_SIZE));
	pid = fork();
	if (!pid) {
		private[HUGE_SIZE + 1] ^= 1;
		_exit(!is_cached(private + HUGE_SIZE));
	}
	CHECK(waitpid(pid, &status, 0) == pid && !status);
	REQUIRE(!mprotect(private, LARGE, PROT_READ));
	REQUIRE(!mprotect(private, LARGE, PROT_READ | PROT_WRITE));
	private[0] ^= 1;
	/* The kernel drops an entry of 2 MiB to copy a page. */
	touch_pages(private, 2 * HUGE_SIZE, 4096);
	CHECK(is_cached(private) && is_cached(private + HUGE_SIZE));
	CHECK_EQ(is_cached(private + page_size()), cached);
	CHECK_EQ(is_cached(shared), cached);
	munmap(shared, LARGE);
	munmap(private, LARGE);
	CHECK_EQ(bounded_umount(mnt), 0);
}

/* A copy from I/O memory does not survive a machine check. */
static bool survives(void)
{
	return strcmp(source->name, "qxl, device memory");
}

/* Check that the first write to the page at @private, page frame @frame, gets SIGBUS if the page cannot be copied. */
static void copy_of_page_fails(char *private, size_t at, u64 frame)
{
	const size_t page = page_size();
	char *here = private + at;

	REQUIRE(write_text(PARAMETERS "failing", "%llu", (unsigned long long)frame));
	CHECK(store_gets_sigbus(here));
	__atomic_store_n(here - page, 0, __ATOMIC_RELAXED);
	__atomic_store_n(here + page, 0, __ATOMIC_RELAXED);
	REQUIRE(write_text(PARAMETERS "failing", "0"));
	CHECK(pattern_matches(here - page + 1, page - 1, LARGE, at - page + 1));
	CHECK(pattern_matches(here + page + 1, page - 1, LARGE, at + page + 1));
}

POINT_IF(copy_fails, "a page that cannot be copied gives SIGBUS", survives)
{
	const size_t page = page_size(), bad = 2 * HUGE_SIZE + 188 * page;
	int kmsg = kmsg_open(), fd;
	struct device device = {};
	char *shared, *private;
	long long faults;
	u64 frame;

	set_up();
	fd = open_size(mnt, LARGE, O_RDONLY);
	/* No other page gets a page-table entry. */
	shared = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, bad);
	close(fd);
	private = map_size(mnt, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	touch_pages(shared, 1, 1);
	page_frames(shared, 1, &frame);
	REQUIRE(frame);
	faults = counter_of(mnt, "faults_poisoned");
	copy_of_page_fails(private, bad, frame);
	if (source->pages) {
		/* The kernel takes a counted page that it cannot copy for failed. */
		if (!source->key)
			copy_of_page_fails(private, bad + 64 * page, frame + 64);
	} else {
		CHECK_EQ(counter_of(mnt, "faults_poisoned"), faults + 1);
		__atomic_store_n(private + bad, 0, __ATOMIC_RELAXED);
		CHECK(pattern_matches(private + bad + 1, page - 1, LARGE, bad + 1));
		CHECK(pattern_matches(shared, page, LARGE, bad));
	}
	CHECK_EQ(kmsg_count(kmsg, "WARNING", NULL, 0), 0);
	munmap(shared, page);
	munmap(private, LARGE);
	CHECK_EQ(bounded_umount(mnt), 0);
	if (source_is_device(source))
		device_find(source, &device);
	bring_back(source, &device, true);
}

int main(void)
{
	mnt = private_mount_point();
	image = sources_image();
	return run_on_sources(source_is_distinct, &image, &source);
}
