// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every memory source of this machine, with all operations on its files. Then the owners of the memory use it, take it away
 * or move it while files on it are mapped.
 *
 * Group: sources
 * Order: 1
 * Machine: with=memory cpus=2 nvdimm,virtio-pmem,cxl,reserve=sources.daxfs drm share
 */
#include <linux/if_xdp.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "lib/device.h"
#include "lib/longterm.h"
#include "lib/mapped.h"
#include "lib/rdma.h"
#include "lib/uring.h"

static struct image image;
static const struct source *source;
static const char *mnt;
/* The tree that the image is made from. */
static char tree[PATH_MAX];
static struct counters before;
static struct mapped files;

/* On a slow kernel, files are used on one source for each way to map. */
static bool is_used(void)
{
	return !getenv("DAXFS_SLOW") || source_stands_for_way(source);
}

POINT(mounts, "mounts")
{
	REQUIRE(source_mount(source, &image, mnt));
}

POINT_IF(all_ways, "read, shared mappings, copy on write", is_used)
{
	good_files(mnt);
}

/* A memfd hands over its own pages, also from the middle of one. */
POINT_IF(spliced, "splice(2), at odd offsets and to the end of the file", is_used)
{
	static const off_t offsets[] = { 0, 5000, HUGE_SIZE - 100, LARGE - 3000 };
	static char buffer[65536];
	int ends[2], fd = open_size(mnt, LARGE, O_RDONLY);

	REQUIRE(!pipe(ends));
	for (size_t at = 0; at < ARRAY_SIZE(offsets); at++) {
		off_t offset = offsets[at];
		ssize_t moved = splice(fd, &offset, ends[1], NULL, sizeof(buffer), 0);

		REQUIRE(moved > 0 && moved <= LARGE - offsets[at]);
		CHECK_EQ(offset, offsets[at] + moved);
		CHECK_EQ(read(ends[0], buffer, sizeof(buffer)), moved);
		CHECK(pattern_matches(buffer, moved, LARGE, offsets[at]));
	}
	CHECK_EQ(splice(fd, &(loff_t){ LARGE }, ends[1], NULL, 4096, 0), 0);
}

/* Loads from after the last page get SIGBUS. */
POINT_IF(beyond_end, "SIGBUS after the end of file", is_used)
{
	char *address = map_length(mnt, MIDDLE, MIDDLE + 2 * page_size(), PROT_READ, MAP_SHARED);
	char *after = address + page_round(MIDDLE);

	CHECK(gets_sigbus(after));
	CHECK_FAILS(write(scratch_file(), after, 100), EFAULT);
}

POINT_IF(huge_mappings, "2 MiB mappings", is_used)
{
	char *address = map_length(mnt, LARGE, LARGE, PROT_READ, MAP_SHARED);
	long long tables = number_in("/proc/self/status", "VmPTE:");
	long faults = touch_pages(address, LARGE, 4096);

	if (!source_maps_huge(source)) {
		/* A fault then maps some pages around the address. */
		CHECK(faults <= (long)(LARGE / page_size() / 8));
		return;
	}
	CHECK_EQ(faults, LARGE / HUGE_SIZE);
	/* In kB, less than a page table for each entry takes. */
	tables = number_in("/proc/self/status", "VmPTE:") - tables;
	CHECK(tables < (long)(LARGE / HUGE_SIZE * 4));
	CHECK(!madvise(address, LARGE, MADV_DONTNEED));
	CHECK_EQ(touch_pages(address, LARGE, 4096), LARGE / HUGE_SIZE);
	address = map_length(mnt, LARGE, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	CHECK_EQ(touch_pages(address, LARGE, 4096), LARGE / HUGE_SIZE);
}

/* Map @length bytes of the large file from @offset on, @after bytes after an address that is aligned to 2 MiB. */
static char *map_at(size_t after, size_t length, int protection, int flags, off_t offset)
{
	size_t room = length + 2 * HUGE_SIZE;
	char *place = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *address;

	REQUIRE(place != MAP_FAILED);
	address = place + (-(uintptr_t)place & (HUGE_SIZE - 1)) + after;
	address = mmap(address, length, protection, flags | MAP_FIXED, open_size(mnt, LARGE, O_RDONLY), offset);
	REQUIRE(address != MAP_FAILED);
	return address;
}

/*
 * Where huge pages do not fit, a fault maps 16 pages, as in the page cache. These ranges of 16 pages are counted from
 * the start of the mapping or of the page table.
 */
POINT_IF(faults_around, "a fault maps the pages around it", is_used)
{
	const size_t page = page_size(), around = 16 * page;
	char *address = map_at(around, LARGE, PROT_READ, MAP_SHARED, 0), *other;

	CHECK_EQ(touch_pages(address, LARGE, page), LARGE / around);
	CHECK(pattern_matches(address, LARGE, LARGE, 0));
	CHECK(!madvise(address, LARGE, MADV_DONTNEED));
	CHECK_EQ(touch_pages(address + LARGE - page, page, page), 1);
	CHECK_EQ(touch_pages(address + LARGE - around, around, page), 0);
	CHECK_EQ(touch_pages(address + LARGE - 2 * around, around, page), 1);
	/* The borders of the mapping, and of the file. */
	address = map_at(around - 2 * page, 7 * page, PROT_READ, MAP_PRIVATE, page);
	CHECK_EQ(touch_pages(address + page, page, page), 1);
	CHECK_EQ(touch_pages(address, 7 * page, page), 0);
	CHECK(pattern_matches(address, 7 * page, LARGE, page));
	address = map_at(around - 2 * page, 2 * around + 7 * page, PROT_READ, MAP_SHARED, page);
	CHECK_EQ(touch_pages(address, around, page), 1);
	CHECK_EQ(touch_pages(address + 2 * around - page, page, page), 1);
	CHECK_EQ(touch_pages(address, 2 * around, page), 0);
	CHECK_EQ(touch_pages(address, 2 * around + 7 * page, page), 1);
	CHECK(pattern_matches(address, 2 * around + 7 * page, LARGE, page));
	/* The border of a page table. */
	address = map_at(HUGE_SIZE - 2 * page, 7 * page, PROT_READ, MAP_SHARED, page);
	CHECK_EQ(touch_pages(address, 2 * page, page), 1);
	CHECK_EQ(touch_pages(address, 7 * page, page), 1);
	CHECK(pattern_matches(address, 7 * page, LARGE, page));
	address = map_at(HUGE_SIZE - 2 * page, 2 * around, PROT_READ, MAP_SHARED, page);
	CHECK_EQ(touch_pages(address + 2 * page, around, page), 1);
	CHECK_EQ(touch_pages(address, 2 * around, page), 2);
	address = map_at(8 * page, 16 * page, PROT_READ, MAP_SHARED, LARGE - 4 * page);
	CHECK_EQ(touch_pages(address, 4 * page, page), 1);
	CHECK(gets_sigbus(address + 4 * page));
	/* A page that was copied on write stays, and the pages around it are mapped. */
	other = map_at(around, 2 * around, PROT_READ, MAP_SHARED, 0);
	address = map_at(around, 2 * around, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	address[5 * page] = (char)~other[5 * page];
	address[around + 11 * page] = (char)~other[around + 11 * page];
	CHECK_EQ(touch_pages(address, 2 * around, page), 2);
	CHECK_EQ(address[5 * page], (char)~other[5 * page]);
	CHECK_EQ(address[around + 11 * page], (char)~other[around + 11 * page]);
	address[5 * page] = other[5 * page];
	address[around + 11 * page] = other[around + 11 * page];
	CHECK(pattern_matches(address, 2 * around, LARGE, 0));
}

static void executes(void)
{
	char command[2 * PATH_MAX];

	snprintf(command, sizeof(command), "test \"$('%s/helper' print word)\" = '42 word'", mnt);
	CHECK_EQ(system(command), 0);
	snprintf(command, sizeof(command), "test \"$('%s/script' word)\" = 'script word'", mnt);
	CHECK_EQ(system(command), 0);
}

POINT_IF(programs, "programs and scripts run", is_used)
{
	executes();
}

POINT_IF(direct_from_mapping, "direct I/O from a mapping", is_used)
{
	char *address = map_length(mnt, LARGE, LARGE, PROT_READ, MAP_SHARED);
	char *small = map_length(mnt, MIDDLE, MIDDLE, PROT_READ, MAP_SHARED);
	char *buffer = aligned_alloc(4096, 1 << 20);
	int device = loop_device(-1, 4 << 20, O_RDWR | O_DIRECT, NULL);

	if (device < 0)
		SKIP("needs loop devices");
	if (!source->pages) {
		CHECK_FAILS(pwrite(device, address + HUGE_SIZE - 8192, 1 << 20, 4096), EFAULT);
		return;
	}
	CHECK_EQ(pwrite(device, address + HUGE_SIZE - 8192, 1 << 20, 4096), 1 << 20);
	CHECK_EQ(pread(device, buffer, 1 << 20, 4096), 1 << 20);
	CHECK(pattern_matches(buffer, 1 << 20, LARGE, HUGE_SIZE - 8192));
	CHECK_EQ(pwrite(device, small + 512, 8192, 4096), 8192);
	CHECK_EQ(pread(device, buffer, 8192, 4096), 8192);
	CHECK(pattern_matches(buffer, 8192, MIDDLE, 512));
}

static int pin_for_ring(void *address, size_t length)
{
	struct ring ring = ring_open();

	return ring_register(&ring, address, length);
}

static int pin_for_socket(void *address, size_t length)
{
	struct xdp_umem_reg memory = { .addr = (uintptr_t)address, .len = length, .chunk_size = page_size() };
	int socket_fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (socket_fd < 0)
		SKIP("needs AF_XDP");
	return setsockopt(socket_fd, SOL_XDP, XDP_UMEM_REG, &memory, sizeof(memory));
}

/* Pin for long, and check that the pinned pages have the content of the file. */
static int pin_for_test(void *address, size_t length, u32 flags)
{
	int file = longterm_open();
	/* Not anonymous memory, which check_pins() counts. */
	char *buffer = shared_memory(length);
	int failed = longterm_pin(file, address, length, flags), error = errno;

	CHECK(failed || (!longterm_read(file, buffer) && pattern_matches(buffer, length, LARGE, 0)));
	close(file);
	munmap(buffer, length);
	errno = error;
	return failed;
}

static int pin_to_read(void *address, size_t length)
{
	return pin_for_test(address, length, 0);
}

/* Read-only pages are left to the slow way, which then refuses private mappings. */
static int pin_to_read_fast(void *address, size_t length)
{
	return pin_for_test(address, length, LONGTERM_FAST);
}

static int pin_to_write(void *address, size_t length)
{
	return pin_for_test(address, length, LONGTERM_WRITE);
}

static int pin_for_pipe(void *address, size_t length)
{
	struct iovec vector = { address, page_size() };
	int ends[2];

	return pipe(ends) || vmsplice(ends[1], &vector, 1, 0) < 0 ? -1 : 0;
}

/*
 * Pin a mapping of each kind, and check what the table of memory-sources.rst says of @pin: its errno for each, or what
 * happens where it works. Pins are @long_term if they are held until the user ends, and may @write.
 */
static void check_pins(int (*pin)(void *address, size_t length), bool long_term, bool write)
{
	static const struct {
		int protection, flags;
	} kinds[] = {
		{ PROT_READ, MAP_SHARED },
		{ PROT_READ, MAP_PRIVATE },
		{ PROT_READ | PROT_WRITE, MAP_PRIVATE },
	};
	const long length = HUGE_SIZE;
	bool is_memfd = source->key && !strcmp(source->key, "memfd");

	for (size_t kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		char *address = map_length(mnt, LARGE, LARGE, kinds[kind].protection, kinds[kind].flags);
		long before = number_in("/proc/self/status", "RssAnon:");
		int error = pin(address, length) ? errno : 0, wanted = 0;
		long copied = (number_in("/proc/self/status", "RssAnon:") - before) * 1024;

		if (!source->pages)
			wanted = EFAULT;
		else if (long_term && !is_memfd && !(kinds[kind].flags == MAP_SHARED && longterm_dax()))
			wanted = EOPNOTSUPP;
		else if (write && !(kinds[kind].protection & PROT_WRITE))
			wanted = EFAULT;
		CHECK_EQ(error, wanted);
		/* The kernel copies all of a private mapping for a pin that lasts. */
		if (!wanted && long_term && kinds[kind].flags == MAP_PRIVATE)
			CHECK(copied >= length);
		else
			CHECK(copied < length / 8);
		CHECK(pattern_matches(address, length, LARGE, 0));
	}
}

POINT_IF(pins_of_rings, "mappings as buffers of io_uring", is_used)
{
	check_pins(pin_for_ring, true, true);
}

POINT_IF(pins_of_sockets, "mappings as buffers of AF_XDP", is_used)
{
	check_pins(pin_for_socket, true, true);
}

POINT_IF(pins_of_devices, "mappings as memory for RDMA", is_used)
{
	check_pins(rdma_register, true, false);
}

static bool is_pinned_for_long(void)
{
	return is_used() && longterm_dax();
}

POINT_IF(pins_to_read, "mappings pinned for long to read", is_pinned_for_long)
{
	check_pins(pin_to_read, true, false);
	check_pins(pin_to_read_fast, true, false);
}

POINT_IF(pins_to_write, "mappings pinned for long to write", is_pinned_for_long)
{
	check_pins(pin_to_write, true, true);
}

POINT_IF(pins_of_pipes, "mappings in pipes", is_used)
{
	check_pins(pin_for_pipe, false, false);
}

/* Compare paths, types, modes, sizes, targets, content and hard links. Times and owners depend on who made the image. */
POINT_IF(whole_tree, "whole tree, by path and content", is_used)
{
	CHECK_EQ(run_command("'%s/lib/manifest' '%s' | cut -f 1,2,5,8- >'%s.want' && test -s '%s.want'",
			     program_dir(), tree, tree, tree), 0);
	CHECK_EQ(run_command("'%s/lib/manifest' '%s' | cut -f 1,2,5,8- | cmp - '%s.want'", program_dir(), mnt, tree), 0);
}

/* Neither daxfs nor the module that exports its memory can be unloaded. */
POINT_IF(modules_held, "modules are held", is_used)
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

static bool has_option(const char *options, const char *option)
{
	const char *at = strstr(options, option);

	return at && at > options && at[-1] == ',';
}

POINT_IF(told, "/proc/mounts", is_used)
{
	const char *options = mount_options(mnt);

	CHECK(!strncmp(options, "ro,", 3));
	if (source->shown && !CHECK(has_option(options, source->shown)))
		printf("# %s\n", options);
	if (!source->shown)
		CHECK(!strstr(options, "phys") && !strstr(options, "memfd") &&
		      !strstr(options, "dmabuf"));
	/* Who sees the address is in the test source_errors. */
	CHECK(has_option(options, "size=") || !source->shown || strncmp(source->shown, "phys", 4));
}

/* Two mounts at a time. Each works after the other has ended. */
POINT_IF(two_mounts, "two mounts at once", is_used)
{
	int fd = source->make(source, &image), one, two, copy;
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
	REQUIRE(context_mount(one, second) && context_mount(two, mnt));
	good_files(second);
	CHECK(!umount(second));
	good_files(mnt);
	CHECK(!umount(mnt));
	good_files(mnt); /* the mount below */
}

POINT(unmounts, "unmounts")
{
	if (!CHECK(!umount(mnt)))
		umount2(mnt, MNT_DETACH);
}

POINT(all_given_back, "everything is given back")
{
	given_back(&before);
}

/* ---- what owners of the memory do ---------------------------------------------------------------------------- */

#define COMPACT "/proc/sys/vm/compact_memory"
#define SOFT_OFFLINE "/sys/devices/system/memory/soft_offline_page"
#define PAGES_MAX (LARGE / 4096)

static bool is_fast(void)
{
	return !getenv("DAXFS_SLOW");
}

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

POINT_IF(maker_closes, "its maker closes the memory", is_fast)
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

POINT_IF(owner_punches, "its owner punches or truncates the memory", is_fast)
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
POINT_IF(others_read, "others read a file in the memory", is_fast)
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

POINT_IF(moves, "its pages move", is_fast)
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
	ktap_start();
	mnt = private_mount_point();
	image = sources_image();
	snprintf(tree, sizeof(tree), "%s/sources", work_dir());
	REQUIRE(!run_command("rm -rf '%s' && '%s/lib/mktree' sources '%s'", tree, program_dir(), tree));
	before = count_now();
	return run_on_sources(NULL, &image, &source);
}
