// SPDX-License-Identifier: GPL-2.0-only
/*
 * Large files are mapped with 2 MiB entries and take no page cache. The tests sources and storm change such mappings.
 *
 * Group: files
 * Machine: nvdimm=scratch debug-with=modules
 */
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "lib/util.h"

static const char *mnt;

/* Return the number of bytes in the range that huge entries map. */
static long long huge_bytes(const char *address, size_t length)
{
	static struct page_region regions[128];
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = (uintptr_t)address,
		.end = (uintptr_t)address + length,
		.vec = (uintptr_t)regions,
		.vec_len = ARRAY_SIZE(regions),
		.category_mask = PAGE_IS_HUGE,
		.return_mask = PAGE_IS_HUGE,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int count = ioctl(fd, PAGEMAP_SCAN, &scan);
	long long bytes = 0;

	REQUIRE(count >= 0);
	for (int i = 0; i < count; i++)
		bytes += regions[i].end - regions[i].start;
	close(fd);
	return bytes;
}

static void needs_huge_pages(void)
{
	if (!has_huge_mappings())
		SKIP("huge pages of this kernel have another size than 2 MiB");
}

POINT(is_aligned, "mappings of large files are aligned")
{
	needs_huge_pages();
	CHECK_EQ((uintptr_t)map_size(mnt, LARGE, PROT_READ, MAP_SHARED) % HUGE_SIZE, 0);
	CHECK_EQ((uintptr_t)map_size(mnt, LARGE, PROT_READ, MAP_PRIVATE) % HUGE_SIZE, 0);
}

POINT(borders, "files around 2 MiB")
{
	static const struct {
		u64 size;
		long faults;
		u64 huge;
	} files[] = {
		{ HUGE_SIZE, 1, HUGE_SIZE },
		{ HUGE_SIZE + 1, 2, HUGE_SIZE },
		{ 2 * HUGE_SIZE - 1, 2, 2 * HUGE_SIZE },
		{ 2 * HUGE_SIZE + 4096, 3, 2 * HUGE_SIZE },
		{ HUGE_SIZE - 4096, 32, 0 },
	};

	needs_huge_pages();
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char *address = map_size(mnt, files[i].size, PROT_READ, MAP_SHARED);

		CHECK_EQ(touch_pages(address, files[i].size, 4096), files[i].faults);
		CHECK_EQ(huge_bytes(address, files[i].size), files[i].huge);
	}
}

POINT(offset_mapping, "offsets within the file")
{
	char *address =
		mmap(NULL, LARGE / 2, PROT_READ, MAP_SHARED, open_size(mnt, LARGE, O_RDONLY), LARGE / 2 - 8192);

	needs_huge_pages();
	REQUIRE(address != MAP_FAILED);
	CHECK(pattern_matches(address, LARGE / 2, LARGE, LARGE / 2 - 8192));
	CHECK(huge_bytes(address, LARGE / 2) >= (long long)(LARGE / 2 - 2 * HUGE_SIZE));
}

/* Nothing that is read or mapped enters the page cache. */
POINT(no_page_cache, "the page cache does not grow")
{
	char *buffer = malloc(1 << 20), *address;
	long long before, after;
	int fd;

	memset(buffer, 1, 1 << 20);
	before = number_in("/proc/meminfo", "Cached:");
	fd = open_size(mnt, LARGE, O_RDONLY);
	for (u64 offset = 0; offset < LARGE; offset += 1 << 20)
		CHECK_EQ(pread(fd, buffer, 1 << 20, offset), 1 << 20);
	address = map_size(mnt, LARGE, PROT_READ, MAP_SHARED);
	touch_pages(address, LARGE, 4096);
	address = map_size(mnt, LARGE, PROT_READ, MAP_PRIVATE | MAP_POPULATE);
	after = number_in("/proc/meminfo", "Cached:");
	printf("# page cache before %lld kB, after %lld kB\n", before, after);
	CHECK(after - before < 1024);
}

int main(void)
{
	mnt = fixture_mount("tree");
	return ktap_run();
}
