// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory of files that share data fails, on every memory source. Runs last, since the pages stay bad.
 *
 * Group: packing
 * Order: 8
 * Machine: rare-debug cpus=2 nvdimm,virtio-pmem,cxl,reserve=packing.daxfs drm share
 */
#include "packing.h"

POINT(mounts, "mounts")
{
	packing_mount();
}

/* Make the page at @address fail, and load from it if @load. Return the process's wait status: the kernel may kill it. */
static int fail_page(char *address, bool load)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (madvise(address, page_size(), MADV_HWPOISON) && errno == EINVAL)
			_exit(KTAP_SKIP);
		if (load)
			asm volatile("" : : "r"(*address) : "memory");
		_exit(KTAP_PASS);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == KTAP_SKIP)
		SKIP("needs CONFIG_MEMORY_FAILURE");
	return status;
}

/*
 * A page of two files with the same content fails: through either file, loads from the page get
 * SIGBUS and reads of it EIO. Other pages and files stay readable. These points come last, since
 * the page stays poisoned.
 */
static void memory_fails(u64 size)
{
	char *a = map_twin(size, 'a'), *b = map_twin(size, 'b'), *buffer = malloc(size);
	const size_t page = page_size(), bad = (size / 2 + 2 * page) / page * page;
	char *middle = a + bad;
	int status;

	CHECK(pattern_matches(a, size, size, 0) && pattern_matches(b, size, size, 0));
	status = fail_page(middle, true);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	CHECK(gets_sigbus(middle));
	CHECK(gets_sigbus(b + bad));
	for (char which = 'a'; which <= 'b'; which++) {
		int fd = open_twin(size, which);
		long long errors = counter_of(mnt, "errors_io");

		CHECK_FAILS(pread(fd, buffer, page, bad), EIO);
		CHECK_FAILS(pread(fd, buffer, 1, bad + page - 1), EIO);
		CHECK_EQ(counter_of(mnt, "errors_io"), errors + 2);
		CHECK_EQ(pread(fd, buffer, size, 0), bad);
		CHECK(pattern_matches(buffer, bad, size, 0));
		CHECK_EQ(pread(fd, buffer, size, bad + page), size - bad - page);
		CHECK(pattern_matches(buffer, size - bad - page, size, bad + page));
		close(fd);
		/* New mappings show all pages but that one. */
		a = map_twin(size, which);
		CHECK(pattern_matches(a, bad, size, 0));
		CHECK(pattern_matches(a + bad + page, size - bad - page, size, bad + page));
		CHECK(gets_sigbus(a + bad));
	}
	CHECK(pattern_matches(map_twin(size, 'c'), size, size + 1, 0));
}

/* The copy of a file's last page is not of the image. Old and new mappings get another one. */
POINT_IF(copy_fails, "the copy of a last page fails", has_pages)
{
	const size_t page = page_size(), last = (MEDIUM - 1) / page * page;
	char *first = map_twin(MEDIUM, 'a'), *second = map_twin(MEDIUM, 'a');
	u64 frame;

	CHECK(pattern_matches(first, MEDIUM, MEDIUM, 0));
	CHECK(pattern_matches(second, MEDIUM, MEDIUM, 0));
	frame = frame_at(first + last);
	CHECK(frame && frame_at(second + last) == frame);
	/* Twice, since the second copy is made where the first one was. */
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(fail_page(first + last, false), 0);
		CHECK_EQ(frame_at(second + last), 0);
		CHECK(pattern_matches(second, MEDIUM, MEDIUM, 0));
		CHECK(all_zero(second + MEDIUM, last + page - MEDIUM));
		CHECK(pattern_matches(first, MEDIUM, MEDIUM, 0));
		CHECK(pattern_matches(map_twin(MEDIUM, 'a'), MEDIUM, MEDIUM, 0));
		CHECK(frame_at(first + last) != frame);
		frame = frame_at(first + last);
		CHECK_EQ(frame_at(second + last), frame);
	}
}

/*
 * The same in the page cache. Where the superblock has no block device, the kernel does not ask
 * whether the page was clean, and old mappings get SIGBUS.
 */
POINT(cached_page_fails, "a page of the page cache fails")
{
	const size_t size = 1 + 7 * STEP;
	char *old = map(open_packed(7), size, PROT_READ, MAP_SHARED), *later, buffer[size];
	bool has_bdev = source_is_device(source) && strcmp(source->argument, "dax");
	u64 frame;

	CHECK(pattern_matches(old, size, size, 0));
	frame = frame_at(old);
	CHECK_EQ(fail_page(old, false), 0);
	CHECK_EQ(frame_at(old), 0);
	if (has_bdev)
		CHECK(pattern_matches(old, size, size, 0));
	later = map(open_packed(7), size, PROT_READ, MAP_SHARED);
	CHECK(pattern_matches(later, size, size, 0));
	CHECK(frame_at(later) && frame_at(later) != frame);
	CHECK_EQ(pread(open_packed(7), buffer, size, 0), size);
	CHECK(pattern_matches(buffer, size, size, 0));
}

POINT_IF(small_memory_fails, "memory fails below both, in a small page", has_device)
{
	signal(SIGBUS, SIG_IGN);
	memory_fails(SMALL);
}

POINT_IF(large_memory_fails, "memory fails below both, in one of 2 MiB", has_device)
{
	signal(SIGBUS, SIG_IGN);
	memory_fails(TWO_HUGE);
}

POINT(unmounts, "unmounts")
{
	packing_unmount();
}

int main(void)
{
	return run_packing();
}
