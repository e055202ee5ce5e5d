// SPDX-License-Identifier: GPL-2.0-only
/*
 * On every memory source, files of the same content share their data: they are mapped as the same memory, at once and
 * with entries of either size, and the memory fails below all of them. Packed files share pages with others, and show
 * nothing of them. The test storm writes to private mappings of such files.
 *
 * Group: packing
 * Machine: rare-debug cpus=2 nvdimm,virtio-pmem,cxl,reserve=packing.daxfs drm share
 */
#include "lib/device.h"

/* Three files of each size: SIZE.a and SIZE.b with the same content, SIZE.c with another. */
#define SMALL (5 * 65536UL)
#define TWO_HUGE (2 * HUGE_SIZE)
/* Less than two pages before 2 MiB, and a page that other files may share. */
#define TAILED (TWO_HUGE + HUGE_SIZE - 6096)
/* The same, with whole pages before that one on every kernel. */
#define ENDED (3 * 65536UL + 2000)
#define MEDIUM 10000UL
#define SHORT 300UL

/* Small files: their number, and how many bytes each is larger than the one before. */
#define PACKED 60
#define STEP 67

static const u64 twins[] = { SHORT, MEDIUM, ENDED, SMALL, TWO_HUGE, TAILED };
static struct image image;
static const struct source *source;
static const char *mnt;

/* Map @fd and close it. */
static char *map(int fd, size_t length, int protection, int flags)
{
	char *address = mmap(NULL, length, protection, flags, fd, 0);

	REQUIRE(address != MAP_FAILED);
	close(fd);
	return address;
}

static int open_twin(u64 size, char which)
{
	char path[64];

	snprintf(path, sizeof(path), "twins/%llu.%c", (unsigned long long)size, which);
	return open_in(mnt, path, O_RDONLY);
}

static char *map_twin(u64 size, char which)
{
	return map(open_twin(size, which), size, PROT_READ, MAP_SHARED);
}

/* Return true if the last page of a file also holds bytes of other files. */
static bool is_packed(u64 size, char which)
{
	char path[64];

	snprintf(path, sizeof(path), "twins/%llu.%c", (unsigned long long)size, which);
	return image_inode(&image, image_entry(&image, path)->ino)->flags & 1;
}

static int open_packed(unsigned int number)
{
	char path[64];

	snprintf(path, sizeof(path), "packed/%u", 1 + number * STEP);
	return open_in(mnt, path, O_RDONLY);
}

/* Return the page frame at @address; 0 if it is not known. */
static u64 frame_at(const char *address)
{
	u64 frame;

	page_frames(address, 1, &frame);
	return frame;
}

static bool has_huge(void)
{
	return source_maps_huge(source);
}

static bool has_pages(void)
{
	return source->pages;
}

static bool has_device(void)
{
	return source->pages && !source->key;
}

POINT(mounts, "mounts")
{
	REQUIRE(source_mount(source, &image, mnt));
}

POINT(twins_read, "two files of the same content are read")
{
	char *buffer = malloc(TAILED + 1);

	for (size_t i = 0; i < ARRAY_SIZE(twins); i++)
		for (char which = 'a'; which <= 'c'; which++) {
			int fd = open_twin(twins[i], which);
			struct stat stat;

			CHECK_EQ(read(fd, buffer, TAILED + 1), twins[i]);
			/* The third has the same size, but another content. */
			CHECK(pattern_matches(buffer, twins[i], twins[i] + (which == 'c'), 0));
			CHECK(!fstat(fd, &stat) && stat.st_nlink == 1);
			CHECK_EQ(stat.st_mode & 0777, which == 'b' ? 0600 : 0644);
			close(fd);
		}
}

POINT(twins_mapped_at_once, "both are mapped at once, as the same memory")
{
	for (size_t i = 0; i < ARRAY_SIZE(twins); i++) {
		static u64 frames[3][TAILED / 4096 + 1];
		size_t length = twins[i], pages = page_round(length) / page_size();
		char *a = map_twin(length, 'a'), *b = map_twin(length, 'b');
		char *c = map_twin(length, 'c');

		/* Touch a first, then b first. */
		CHECK(pattern_matches(a, length, length, 0));
		CHECK(pattern_matches(b, length, length, 0));
		CHECK(pattern_matches(c, length, length + 1, 0));
		CHECK(!madvise(a, length, MADV_DONTNEED) && !madvise(b, length, MADV_DONTNEED));
		CHECK(pattern_in_pages(b, length, length, 0));
		CHECK(pattern_in_pages(a, length, length, 0));
		page_frames(a, pages, frames[0]);
		page_frames(b, pages, frames[1]);
		page_frames(c, pages, frames[2]);
		for (size_t page = 0; source->pages && page < pages; page++) {
			u64 frame = frames[0][page];

			CHECK_EQ(frame ? frames[1][page] : 0, frame);
			CHECK(!frame || frames[2][page] != frame);
		}
		munmap(a, length);
		CHECK(pattern_in_pages(b, length, length, 0));
		munmap(b, length);
		munmap(c, length);
	}
}

/* Both are mapped with entries of 2 MiB, also after smaller ones. */
POINT_IF(twins_huge, "both are mapped with entries of 2 MiB", has_huge)
{
	char *a = map_twin(TWO_HUGE, 'a'), *b = map_twin(TWO_HUGE, 'b'), *tailed;
	long expected = TWO_HUGE / HUGE_SIZE;

	CHECK_EQ(touch_pages(a, TWO_HUGE, 4096), expected);
	CHECK_EQ(touch_pages(b, TWO_HUGE, 4096), expected);
	CHECK_EQ(touch_pages(a, TWO_HUGE, 4096), 0);
	tailed = map_twin(TAILED, 'b');
	CHECK_EQ(touch_pages(tailed, TWO_HUGE, 4096), expected);
	munmap(tailed, TAILED);
	munmap(b, TWO_HUGE);
	/* A mapping that is not aligned takes small entries; the others keep theirs. */
	b = mmap(NULL, TWO_HUGE + HUGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	b = (char *)(((uintptr_t)b + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1)) + 4096;
	REQUIRE(mmap(b, TWO_HUGE, PROT_READ, MAP_SHARED | MAP_FIXED, open_twin(TWO_HUGE, 'b'), 0) == b);
	CHECK(pattern_matches(b, TWO_HUGE, TWO_HUGE, 0));
	CHECK_EQ(touch_pages(a, TWO_HUGE, 4096), 0);
	CHECK(pattern_matches(a, TWO_HUGE, TWO_HUGE, 0));
}

/* Mapping one file does not unmap pages of the other. */
POINT(twins_undisturbed, "mapping one does not disturb the other")
{
	char *a = map_twin(SMALL, 'a'), *large = map_twin(TWO_HUGE, 'a');
	int status;
	pid_t pid;

	touch_pages(a, SMALL, 4096);
	touch_pages(large, TWO_HUGE, 4096);
	pid = fork();
	if (!pid) {
		touch_pages(map_twin(SMALL, 'b'), SMALL, 4096);
		touch_pages(map_twin(SMALL, 'a'), SMALL, 4096);
		touch_pages(map_twin(TWO_HUGE, 'b'), TWO_HUGE, 4096);
		_exit(0);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid && !status);
	CHECK_EQ(touch_pages(a, SMALL, 4096), 0);
	CHECK_EQ(touch_pages(large, TWO_HUGE, 4096), 0);
}

/* Evict the inodes in every order: drop the caches while no file is open. */
POINT(twins_come_and_go, "both are evicted in any order")
{
	static const char *const orders[] = { "a", "b", "ab", "ba", "aba", "bab" };

	for (size_t i = 0; i < ARRAY_SIZE(orders); i++) {
		char *mapped[3] = {};

		for (int j = 0; orders[i][j]; j++) {
			mapped[j] = map_twin(TWO_HUGE, orders[i][j]);
			touch_pages(mapped[j], TWO_HUGE, 4096);
			touch_pages(map_twin(TAILED, orders[i][j]), TAILED, 4096);
			CHECK(shrink_caches(2));
		}
		for (int j = 0; orders[i][j]; j++) {
			CHECK(pattern_in_pages(mapped[j], TWO_HUGE, TWO_HUGE, 0));
			munmap(mapped[j], TWO_HUGE);
			CHECK(shrink_caches(2));
		}
	}
}

POINT(packed_read, "packed files are read")
{
	char buffer[8192];

	for (unsigned int i = 0; i < PACKED; i++) {
		size_t size = 1 + i * STEP;
		int fd = open_packed(i);

		CHECK_EQ(read(fd, buffer, sizeof(buffer)), size);
		CHECK(pattern_matches(buffer, size, size, 0));
		CHECK_EQ(pread(fd, buffer, 10, size - 1), 1);
		CHECK_EQ(pread(fd, buffer, 10, size), 0);
		close(fd);
	}
}

/* After the end of a file a mapping has zeros, not the bytes of the next file in memory. */
POINT(packed_mapped, "packed files are mapped by copies")
{
	const size_t page = page_size();

	for (unsigned int i = 0; i < PACKED; i++) {
		size_t size = 1 + i * STEP;
		char *shared = map(open_packed(i), 2 * page, PROT_READ, MAP_SHARED);
		char *private = map(open_packed(i), page, PROT_READ | PROT_WRITE, MAP_PRIVATE);

		CHECK(pattern_matches(shared, size, size, 0));
		CHECK(all_zero(shared + size, page - size));
		private[0] ^= 1;
		CHECK(all_zero(private + size, page - size));
		CHECK(pattern_matches(shared, size, size, 0));
		private[0] ^= 1;
		CHECK(pattern_matches(private, size, size, 0));
		if (!i)
			CHECK(gets_sigbus(shared + page));
		munmap(shared, 2 * page);
		munmap(private, page);
	}
}

/* The same for files with only the last page packed. */
POINT(tails_mapped, "the last page of packed files is mapped by a copy")
{
	static const u64 sizes[] = { MEDIUM, ENDED, TAILED };
	const size_t page = page_size();

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t size = sizes[i], end = page_round(size);
		char which = is_packed(size, 'a') ? 'a' : 'c';
		u64 seed = size + (which == 'c');
		int fd = open_twin(size, which);
		char *shared = map(dup(fd), end + page, PROT_READ, MAP_SHARED);
		char *private = map(dup(fd), end, PROT_READ | PROT_WRITE, MAP_PRIVATE);
		char *last = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, end - page);
		u64 frame;

		/* Files do not share the last page of 2 MiB. */
		CHECK_EQ(is_packed(size, which), end % HUGE_SIZE != 0);
		/* The last page first, in one of the mappings. */
		private[size - 1] ^= 1;
		CHECK(all_zero(private + size, end - size));
		CHECK(pattern_matches(shared, size, seed, 0));
		CHECK(all_zero(shared + size, end - size));
		private[size - 1] ^= 1;
		CHECK(pattern_matches(private, size, seed, 0));
		REQUIRE(last != MAP_FAILED);
		CHECK(pattern_matches(last, size % page, seed, end - page));
		CHECK(gets_sigbus(shared + end));
		/* It is a copy: in the image the page would follow the one before it. */
		frame = end > page ? frame_at(shared + end - 2 * page) : 0;
		if (source->pages && frame && end % HUGE_SIZE)
			CHECK(frame_at(shared + end - page) != frame + 1);
		CHECK_EQ(frame_at(last), frame_at(shared + end - page));
		munmap(shared, end + page);
		munmap(private, end);
		munmap(last, page);
		close(fd);
	}
}

/* Map files in several processes at once, while caches are dropped. */
POINT(storm, "many mappings at once")
{
	int status, left = 4, rounds = repeats(40);

	for (int i = 0; i < left; i++) {
		if (fork())
			continue;
		for (int round = 0; round < rounds; round++) {
			u64 size = twins[(round + i) % ARRAY_SIZE(twins)];
			char *address = map_twin(size, 'a' + (round + i) % 2);
			unsigned int number = (round * 7 + i) % PACKED;
			char *packed = map(open_packed(number), 4096, PROT_READ, MAP_SHARED);

			if (round % 8 == i)
				shrink_caches(3);
			if (!pattern_in_pages(address, size, size, 0) ||
			    !pattern_matches(packed, 1 + number * STEP, 1 + number * STEP, 0))
				_exit(1);
			munmap(address, size);
			munmap(packed, 4096);
		}
		_exit(0);
	}
	while (left--) {
		REQUIRE(wait(&status) > 0);
		CHECK_EQ(status, 0);
	}
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
	CHECK_EQ(bounded_umount_when_free(mnt), 0);
}

int main(void)
{
	mnt = private_mount_point();
	image = image_named("packing", "--tails=all");
	return run_on_sources(source_is_distinct, &image, &source);
}
