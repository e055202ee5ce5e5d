// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writes to private mappings, and pages that fail, on each source that is mapped in a way of its own. The copies of pages
 * are ordinary memory, whatever the pages are. A page that cannot be copied gives SIGBUS, and only that page, also if
 * nothing knew of its failure. The module daxfs_pages looks at the copies and has them fail.
 *
 * Then a page of memory fails: loads from mappings of the page get SIGBUS and reads get EIO, now and after the next mount;
 * all other data stays readable. A device that is bound again, and the module that is loaded again, know nothing of it.
 * This runs after the other tests, since pages of buffers stay poisoned.
 *
 * Group: memory
 * Order: 8
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,reserve,pci=sources.daxfs drm share
 */
#include <setjmp.h>
#include <sys/utsname.h>

#include "lib/device.h"
#include "lib/mapped.h"

static const struct source *source;
static struct image image;
static const char *mnt;

#define PARAMETERS "/sys/module/daxfs_pages/parameters/"

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

static sigjmp_buf after_load;
static sig_atomic_t loading;

/* The kernel may also signal processes that map the page before they load from it. */
static void on_sigbus(int signal)
{
	if (loading)
		siglongjmp(after_load, 1);
}

/* Return true if a load from @address by this process gets SIGBUS. */
static bool load_fails(const char *address)
{
	bool failed = true;

	if (!sigsetjmp(after_load, 1)) {
		__atomic_store_n(&loading, true, __ATOMIC_SEQ_CST);
		touch_pages(address, 1, 1);
		failed = false;
	}
	__atomic_store_n(&loading, false, __ATOMIC_SEQ_CST);
	return failed;
}

/* Find the range of bytes of the large file that fail with the page at @bad. */
static void failed_range(size_t bad, size_t *start, size_t *end)
{
	size_t unit = strstr(source->name, "hugetlb") ? HUGE_SIZE : page_size();

	*start = bad & ~(unit - 1);
	*end = *start + unit < LARGE ? *start + unit : LARGE;
}

/* Check a process that maps and reads the files after the failure. */
static void page_is_bad(size_t bad)
{
	char *shared = map_size(mnt, LARGE, PROT_READ, MAP_SHARED), *buffer = malloc(LARGE);
	char *private = map_size(mnt, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	int fd = open_size(mnt, LARGE, O_RDONLY);
	size_t start, end;
	long long errors = counter_of(mnt, "errors_io"), faults = counter_of(mnt, "faults_poisoned");

	failed_range(bad, &start, &end);
	CHECK(load_fails(shared + bad) && load_fails(shared + bad + 4095));
	CHECK(load_fails(private + bad));
	CHECK_FAILS(pread(fd, buffer, 4096, bad), EIO);
	CHECK_FAILS(pread(fd, buffer, 1, bad + 4095), EIO);
	CHECK_EQ(counter_of(mnt, "errors_io"), errors + 2);
	CHECK(counter_of(mnt, "faults_poisoned") > faults);
	CHECK_EQ(pread(fd, buffer, LARGE, 0), start);
	CHECK(pattern_matches(buffer, start, LARGE, 0));
	CHECK_EQ(pread(fd, buffer, LARGE, end), LARGE - end);
	CHECK(pattern_matches(buffer, LARGE - end, LARGE, end));
	CHECK(!load_fails(shared + start - 1) && !load_fails(shared + end));
	CHECK(pattern_in_pages(shared, start, LARGE, 0));
	CHECK(pattern_in_pages(shared + end, LARGE - end, LARGE, end));
	munmap(shared, LARGE);
	munmap(private, LARGE);
	shared = map_size(mnt, MIDDLE, PROT_READ, MAP_SHARED);
	CHECK(pattern_matches(shared, MIDDLE, MIDDLE, 0));
	munmap(shared, MIDDLE);
	free(buffer);
	close(fd);
}

/*
 * Check a process on a mount that verifies pieces before their first use: a piece with a failed page cannot be
 * verified, and so not be used.
 */
static void piece_is_bad(size_t bad)
{
	size_t start = bad & ~(HUGE_SIZE - 1), end = start + HUGE_SIZE;
	char *shared = map_size(mnt, LARGE, PROT_READ, MAP_SHARED), *buffer = malloc(LARGE);
	int fd = open_size(mnt, LARGE, O_RDONLY);

	CHECK(load_fails(shared + start) && load_fails(shared + end - 1));
	CHECK_FAILS(pread(fd, buffer, 1, start), EIO);
	CHECK_FAILS(pread(fd, buffer, 1, end - 1), EIO);
	CHECK_EQ(pread(fd, buffer, LARGE, 0), start);
	CHECK(pattern_matches(buffer, start, LARGE, 0));
	CHECK(pattern_in_pages(shared + end, LARGE - end, LARGE, end));
	CHECK(!load_fails(shared + start - 1));
	munmap(shared, LARGE);
	free(buffer);
	close(fd);
}

struct use {
	size_t at;
	double end;
};

/* Read and map a page all the time. */
static int use_page(void *argument)
{
	const struct use *use = argument;
	char *shared = map_size(mnt, LARGE, PROT_READ, MAP_SHARED), byte;
	int fd = open_size(mnt, LARGE, O_RDONLY);

	signal(SIGBUS, SIG_DFL);
	while (now() < use->end) {
		if (pread(fd, &byte, 1, use->at) != 1)
			return 2;
		madvise(shared + use->at, page_size(), MADV_DONTNEED);
		touch_pages(shared + use->at, 1, 1);
	}
	return 0;
}

/*
 * The kernel marks the first page of a folio of 2 MiB when another one fails, here the page at @bad again and again. The
 * first page must not fail for others then.
 */
static void first_page_is_good(size_t bad)
{
	struct use use = { bad & ~(HUGE_SIZE - 1), now() + 2 };
	char *shared = map_size(mnt, LARGE, PROT_READ, MAP_SHARED);
	u64 frame;
	pid_t user;

	touch_pages(shared + use.at, 1, 1);
	page_frames(shared + use.at, 1, &frame);
	munmap(shared, LARGE);
	user = background(use_page, &use);
	while (now() < use.end)
		CHECK(write_text("/sys/devices/system/memory/hard_offline_page", "%#llx",
				 (unsigned long long)frame * page_size() + (bad - use.at)));
	CHECK_EQ(reaped("the user of the first page", user), 0);
}

/* Return 0, or an errno if the kernel cannot make this memory fail. The page stays poisoned. */
static int page_fails(void)
{
	const size_t page = page_size(), bad = 2 * HUGE_SIZE + (188 * 4096) / page * page;
	char *touched, *populated, *private, *injected;
	int memory = source->make(source, &image), context, error;

	REQUIRE(memory >= 0);
	signal(SIGBUS, on_sigbus);
	REQUIRE(context_mount(source_context(source, memory), mnt));
	touched = map_size(mnt, LARGE, PROT_READ, MAP_SHARED);
	populated = map_size(mnt, LARGE, PROT_READ, MAP_SHARED | MAP_POPULATE);
	private = map_size(mnt, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	CHECK(pattern_in_pages(touched, LARGE, LARGE, 0));
	CHECK(pattern_in_pages(private, LARGE, LARGE, 0));
	/* The write gives this process a copy of the page, which does not fail. */
	private[bad - page] ^= 1;
	injected = map_size(mnt, LARGE, PROT_READ, MAP_SHARED);
	error = page_inject(source, injected + bad, false);
	if (!error) {
		/* Old mappings do not show the page any longer once its failure is handled. */
		CHECK(load_fails(touched + bad));
		CHECK(load_fails(populated + bad));
		CHECK(load_fails(private + bad));
		CHECK(!load_fails(private + bad - page));
		page_is_bad(bad);
	}
	munmap(touched, LARGE);
	munmap(populated, LARGE);
	munmap(private, LARGE);
	munmap(injected, LARGE);
	/* Devices and aligned ranges, which the kernel marks by folios. */
	if (!error && source_maps_huge(source) && !source->key)
		first_page_is_good(bad);
	CHECK_EQ(bounded_umount(mnt), 0);
	if (!error) {
		/* The next mount knows that the page has failed. */
		REQUIRE(context_mount(source_context(source, memory), mnt));
		page_is_bad(bad);
		CHECK_EQ(bounded_umount(mnt), 0);
		context = source_context(source, memory);
		REQUIRE(!context_options(context, "digest=%s,verify=lazy", image_digest(&image)));
		REQUIRE(context_mount(context, mnt));
		piece_is_bad(bad);
		CHECK_EQ(bounded_umount(mnt), 0);
	}
	if (memory)
		close(memory);
	signal(SIGBUS, SIG_DFL);
	return error;
}

POINT(memory_fails, "a page fails")
{
	struct device device = {};
	int error;

	skip_if_stuck();
	error = page_fails();
	if (error == EINVAL)
		SKIP("needs CONFIG_MEMORY_FAILURE");
	if (error) {
		/* The page lacks a struct page. */
		CHECK_EQ(error, ENXIO);
		SKIP("the kernel cannot make this memory fail (%s)", strerror(error));
	}
	if (source_is_device(source))
		device_find(source, &device);
	bring_back(source, &device, true);
	REQUIRE(source_mount(source, &image, mnt));
	good_files(mnt);
	CHECK_EQ(bounded_umount(mnt), 0);
}

POINT(others_fail, "a page of other memory fails")
{
	char *shared, *other;
	int status;
	pid_t child;

	skip_if_stuck();
	REQUIRE(source_mount(source, &image, mnt));
	shared = map_size(mnt, LARGE, PROT_READ, MAP_SHARED);
	CHECK(pattern_in_pages(shared, LARGE, LARGE, 0));
	child = fork();
	if (!child) {
		other = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		*other = 1;
		_exit(madvise(other, page_size(), MADV_HWPOISON) ? 77 : 0);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("needs CONFIG_MEMORY_FAILURE");
	/* The mapping of memory that is intact stays as it is. */
	CHECK(touch_pages(shared, LARGE, page_size()) == 0);
	munmap(shared, LARGE);
	CHECK_EQ(bounded_umount(mnt), 0);
}

int main(void)
{
	mnt = private_mount_point();
	image = sources_image();
	return run_on_sources(source_is_distinct, &image, &source);
}
