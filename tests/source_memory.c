// SPDX-License-Identifier: GPL-2.0-only
/*
 * The owners of the memory of every source use it, take it away or move it while files on it are mapped.
 *
 * Group: sources
 * Order: 2
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,reserve=sources.daxfs drm share no-debug
 */
#include "lib/device.h"
#include "lib/mapped.h"

#define COMPACT "/proc/sys/vm/compact_memory"
#define SOFT_OFFLINE "/sys/devices/system/memory/soft_offline_page"
#define PAGES_MAX (LARGE / 4096)

static const struct source *source;
static struct image image;
static const char *mnt;
static struct mapped files;
static struct counters before;

/* Mount the source and map files. Return the descriptor of its memory, or 0. */
static int begin(int *owner)
{
	int fd;

	skip_if_stuck();
	fd = source_make_owned(source, &image, owner);
	REQUIRE(fd >= 0);
	REQUIRE(context_mount(source_context(source, fd), mnt));
	mapped_open(&files, mnt);
	return fd;
}

/* Check that the files are unchanged, and unmount. */
static void end(int fd, int owner)
{
	mapped_check(&files);
	good_files(mnt);
	mapped_close(&files);
	if (fd > 0)
		close(fd);
	if (owner >= 0)
		close(owner);
	CHECK_EQ(bounded_umount(mnt), 0);
}

static void map_and_close(void)
{
	int owner, fd = begin(&owner);

	CHECK(!close(fd));
	if (owner >= 0)
		CHECK(!close(owner));
	end(-1, -1);
	given_back(&before);
}

/* Return the free memory in per-CPU lists, in KiB, which /proc/meminfo does not show. */
static long long kept_memory(void)
{
	FILE *stream = fopen("/proc/zoneinfo", "re");
	long long pages = 0, count;
	char line[128];

	while (stream && fgets(line, sizeof(line), stream))
		if (sscanf(line, " count: %lld", &count) == 1)
			pages += count;
	if (stream)
		fclose(stream);
	return pages * page_size() / 1024;
}

/* Return the kilobytes of available memory and of free huge pages. */
static long long available_memory(void)
{
	sync();
	REQUIRE(shrink_caches(3));
	return number_in("/proc/meminfo", "MemAvailable:") + kept_memory() +
	       number_in(HUGE_PAGES_FREE, "") * (long long)(HUGE_SIZE / 1024);
}

/* Check that, within some seconds, the available memory is again more than @before - @less kilobytes. */
static void check_available(long long before, long long less)
{
	long long after = 0;

	for (int tries = 0; tries < 100; tries++) {
		after = available_memory();
		if (after > before - less)
			break;
		usleep(50000);
	}
	if (!CHECK(after > before - less))
		printf("# %lld KiB available before, %lld KiB after\n", before, after);
}

POINT(maker_closes, "its maker closes the memory")
{
	long long available, size = image_room(&image) / 1024;
	int rounds = 4;

	if (!source->key) /* no process made it */
		return;
	/* In the first round, drivers allocate memory that they keep. */
	map_and_close();
	available = available_memory();
	for (int i = 0; i < rounds; i++)
		map_and_close();
	/* The available memory varies by megabytes, but by less than a round takes. */
	check_available(available, size * rounds / 2);
}

/* Check that no call on this descriptor can take pages from the memory. */
static void keeps_pages(int fd)
{
	/* Only a memfd has a size that can be changed. */
	int error = strstr(source->name, "memfd") ? EPERM : EINVAL;
	size_t size = image_room(&image);
	char *address;

	CHECK_FAILS(ftruncate(fd, 0), error);
	CHECK_FAILS(ftruncate(fd, 2 * size), error);
	CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size), -1);
	if (error == EPERM)
		CHECK_EQ(errno, EPERM);
	address = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	if (address == MAP_FAILED)
		return;
	CHECK_EQ(madvise(address, 4096, MADV_REMOVE), -1);
	munmap(address, 4096);
}

POINT(owner_punches, "its owner punches or truncates the memory")
{
	int owner, fd = begin(&owner), node;
	char buffer[4096];

	if (owner >= 0) {
		/* udmabuf takes only memory that cannot shrink. */
		CHECK_FAILS(ftruncate(owner, 0), EPERM);
		punch_memfd(owner, image_room(&image));
		CHECK_EQ(pread(owner, buffer, sizeof(buffer), 0), sizeof(buffer));
		CHECK(all_zero(buffer, sizeof(buffer)));
		end(fd, owner);
		return;
	}
	if (fd > 0)
		keeps_pages(fd);
	node = source_is_device(source) ? open(source_device(source), O_RDWR | O_CLOEXEC) : -1;
	if (node >= 0) {
		keeps_pages(node);
		close(node);
	}
	end(fd, owner);
}

/* A file is where "daxfs locate" says, for processes that map the memory. */
POINT(others_read, "others read a file in the memory")
{
	int owner, fd = begin(&owner), node = fd;
	char command[PATH_MAX + 50], *address;
	unsigned long long offset;
	FILE *said;

	snprintf(command, sizeof(command), "daxfs locate %s/sizes/%lu", mnt, MIDDLE);
	said = popen(command, "re");
	REQUIRE(said && fscanf(said, "%llu", &offset) == 1 && !pclose(said));
	if (source_is_device(source))
		node = open(source_device(source), O_RDONLY | O_CLOEXEC);
	address = node > 0 ? mmap(NULL, image_room(&image), PROT_READ, MAP_SHARED, node, 0) : MAP_FAILED;
	if (address != MAP_FAILED) {
		CHECK(pattern_matches(address + offset, MIDDLE, MIDDLE, 0));
		munmap(address, image_room(&image));
	}
	if (node != fd)
		close(node);
	end(fd, owner);
}

/* Ask the kernel to move the page with this frame; it must not. */
static void page_stays(u64 frame)
{
	int fd = open(SOFT_OFFLINE, O_WRONLY | O_CLOEXEC), length;
	char text[32];

	if (fd < 0)
		return;
	length = snprintf(text, sizeof(text), "%#llx", (unsigned long long)frame * page_size());
	CHECK_EQ(write(fd, text, length), -1);
	close(fd);
}

POINT(moves, "its pages move")
{
	static u64 frames[PAGES_MAX], frames_then[PAGES_MAX];
	const size_t pages = LARGE / page_size();
	int owner, fd = begin(&owner), compact;

	page_frames(files.large, pages, frames);
	compact = open(COMPACT, O_WRONLY | O_CLOEXEC);
	if (compact >= 0)
		CHECK_EQ(write(compact, "1", 1), 1);
	close(compact);
	for (size_t page = 0; page < pages; page += pages / 4 + 1) {
		CHECK(frames[page]);
		page_stays(frames[page]);
	}
	mapped_check(&files);
	page_frames(files.large, pages, frames_then);
	CHECK(!memcmp(frames, frames_then, sizeof(frames)));
	end(fd, owner);
}

int main(void)
{
	mnt = private_mount_point();
	if (getenv("DAXFS_SLOW"))
		ktap_skip_all("takes too long on a slow kernel");
	image = sources_image();
	before = count_now();
	return run_on_sources(NULL, &image, &source);
}
