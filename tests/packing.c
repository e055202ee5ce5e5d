// SPDX-License-Identifier: GPL-2.0
/*
 * Files that share their data, and files that share pages with others, on every source of memory:
 * two files of one content map the same memory, at once and in entries of either size, and a packed
 * file shows nothing of its neighbours.
 *
 * Group: packing
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,cxl-pmem,reserve=packing.daxfs drm share
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "image.h"
#include "ktap.h"
#include "source.h"
#include "util.h"

/* Two files each, called after their kind with .a and .b, and what they hold is called after it. */
#define SMALL (5 * 4096UL)
#define LARGE (2 * HUGE_SIZE)
/* Less than two pages in front of 2 MiB, and a page that others may have. */
#define TAILED (LARGE + HUGE_SIZE - 6096)
#define MEDIUM 10000UL
#define SHORT 300UL

/* Small files: this many, each so much larger than the one before. */
#define PACKED 60
#define STEP 67

static struct image image;
static const struct source *source;
static const char *mnt;
static char tree[PATH_MAX];

static int open_twin(u64 size, char which)
{
	char path[64];

	snprintf(path, sizeof(path), "twins/%llu.%c", (unsigned long long)size, which);
	return open_in(mnt, path, O_RDONLY);
}

/* Whether the last page of a file is one that others stand on, too. */
static bool is_packed(u64 size, char which)
{
	char path[64];

	snprintf(path, sizeof(path), "twins/%llu.%c", (unsigned long long)size, which);
	return image_inode(&image, image_entry(&image, path)->ino)->flags & 1;
}

static char *map(int fd, size_t length, int protection, int flags)
{
	char *address = mmap(NULL, length, protection, flags, fd, 0);

	REQUIRE(address != MAP_FAILED);
	close(fd);
	return address;
}

static char *map_twin(u64 size, char which)
{
	return map(open_twin(size, which), size, PROT_READ, MAP_SHARED);
}

static int open_packed(unsigned int number)
{
	char path[64];

	snprintf(path, sizeof(path), "packed/%u", 1 + number * STEP);
	return open_in(mnt, path, O_RDONLY);
}

static u64 frame_at(const char *address)
{
	u64 frame;

	page_frames(address, 1, &frame);
	return frame;
}

static const u64 twins[] = { SHORT, MEDIUM, SMALL, LARGE, TAILED };

static void twins_read(void)
{
	char *buffer = malloc(TAILED + 1);

	for (size_t i = 0; i < ARRAY_SIZE(twins); i++)
		for (char which = 'a'; which <= 'c'; which++) {
			int fd = open_twin(twins[i], which);
			struct stat stat;

			CHECK_EQ(read(fd, buffer, TAILED + 1), twins[i]);
			/* The third has the same size and another content. */
			CHECK(pattern_matches(buffer, twins[i], twins[i] + (which == 'c'), 0));
			CHECK(!fstat(fd, &stat) && stat.st_nlink == 1);
			CHECK_EQ(stat.st_mode & 0777, which == 'b' ? 0600 : 0644);
			close(fd);
		}
}

static void twins_mapped_at_once(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(twins); i++) {
		static u64 frames[3][TAILED / 4096 + 1];
		size_t length = twins[i], pages = (length + 4095) / 4096;
		char *a = map_twin(length, 'a'), *b = map_twin(length, 'b');
		char *c = map_twin(length, 'c');

		/* One before the other, then the other way round. */
		CHECK(pattern_matches(a, length, length, 0));
		CHECK(pattern_matches(b, length, length, 0));
		CHECK(pattern_matches(c, length, length + 1, 0));
		CHECK(!madvise(a, length, MADV_DONTNEED) && !madvise(b, length, MADV_DONTNEED));
		CHECK(pattern_matches(b, length, length, 0));
		CHECK(pattern_matches(a, length, length, 0));
		page_frames(a, pages, frames[0]);
		page_frames(b, pages, frames[1]);
		page_frames(c, pages, frames[2]);
		for (size_t page = 0; source->pages && page < pages; page++) {
			u64 frame = frames[0][page];

			CHECK_EQ(frame ? frames[1][page] : 0, frame);
			CHECK(!frame || frames[2][page] != frame);
		}
		munmap(a, length);
		CHECK(pattern_matches(b, length, length, 0));
		munmap(b, length);
		munmap(c, length);
	}
}

/* Entries of 2 MiB for both, also when smaller ones were there first. */
static void twins_huge(void)
{
	char *a = map_twin(LARGE, 'a'), *b = map_twin(LARGE, 'b'), *tailed;
	long expected = LARGE / HUGE_SIZE;

	CHECK_EQ(touch_pages(a, LARGE, 4096), expected);
	CHECK_EQ(touch_pages(b, LARGE, 4096), expected);
	CHECK_EQ(touch_pages(a, LARGE, 4096), 0);
	tailed = map_twin(TAILED, 'b');
	CHECK_EQ(touch_pages(tailed, LARGE, 4096), expected);
	munmap(tailed, TAILED);
	munmap(b, LARGE);
	/* A mapping that cannot have them takes small ones; the others keep theirs. */
	b = mmap(NULL, LARGE + HUGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	b = (char *)(((uintptr_t)b + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1)) + 4096;
	REQUIRE(mmap(b, LARGE, PROT_READ, MAP_SHARED | MAP_FIXED, open_twin(LARGE, 'b'), 0) == b);
	CHECK(pattern_matches(b, LARGE, LARGE, 0));
	CHECK_EQ(touch_pages(a, LARGE, 4096), 0);
	CHECK(pattern_matches(a, LARGE, LARGE, 0));
}

/* Who maps one does not take pages away from who has mapped the other. */
static void twins_undisturbed(void)
{
	char *a = map_twin(SMALL, 'a'), *large = map_twin(LARGE, 'a');
	int status;
	pid_t pid;

	touch_pages(a, SMALL, 4096);
	touch_pages(large, LARGE, 4096);
	pid = fork();
	if (!pid) {
		touch_pages(map_twin(SMALL, 'b'), SMALL, 4096);
		touch_pages(map_twin(SMALL, 'a'), SMALL, 4096);
		touch_pages(map_twin(LARGE, 'b'), LARGE, 4096);
		_exit(0);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid && !status);
	CHECK_EQ(touch_pages(a, SMALL, 4096), 0);
	CHECK_EQ(touch_pages(large, LARGE, 4096), 0);
}

static void twins_private(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(twins); i++) {
		size_t length = twins[i], last = length - 1;
		char *a = map(open_twin(length, 'a'), length, PROT_READ | PROT_WRITE, MAP_PRIVATE);
		char *b = map(open_twin(length, 'b'), length, PROT_READ | PROT_WRITE, MAP_PRIVATE);

		a[last] ^= 1;
		CHECK(pattern_matches(b, length, length, 0));
		b[0] ^= 1;
		CHECK_EQ(a[0] & 0xff, pattern_byte(length, 0));
		CHECK_EQ(a[last] & 0xff, pattern_byte(length, last) ^ 1);
		a[last] ^= 1;
		CHECK(pattern_matches(a, length, length, 0));
		munmap(a, length);
		munmap(b, length);
	}
}

/* Whichever inode goes first: nothing is open between two rounds, and the caches are dropped. */
static void twins_come_and_go(void)
{
	static const char *const orders[] = { "a", "b", "ab", "ba", "aba", "bab" };

	for (size_t i = 0; i < ARRAY_SIZE(orders); i++) {
		int caches = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
		char *mapped[3] = {};

		for (int j = 0; orders[i][j]; j++) {
			mapped[j] = map_twin(LARGE, orders[i][j]);
			touch_pages(mapped[j], LARGE, 4096);
			touch_pages(map_twin(TAILED, orders[i][j]), TAILED, 4096);
			CHECK_EQ(write(caches, "2", 1), 1);
		}
		for (int j = 0; orders[i][j]; j++) {
			CHECK(pattern_matches(mapped[j], LARGE, LARGE, 0));
			munmap(mapped[j], LARGE);
			CHECK_EQ(write(caches, "2", 1), 1);
		}
		close(caches);
	}
}

static void packed_read(void)
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

/* Behind the end of a file there are zeros, and nothing of what stands there in memory. */
static void packed_mapped(void)
{
	for (unsigned int i = 0; i < PACKED; i++) {
		size_t size = 1 + i * STEP;
		char *shared = map(open_packed(i), 8192, PROT_READ, MAP_SHARED);
		char *private = map(open_packed(i), 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE);

		CHECK(pattern_matches(shared, size, size, 0));
		CHECK(all_zero(shared + size, 4096 - size));
		private[0] ^= 1;
		CHECK(all_zero(private + size, 4096 - size));
		CHECK(pattern_matches(shared, size, size, 0));
		private[0] ^= 1;
		CHECK(pattern_matches(private, size, size, 0));
		if (!i)
			CHECK(gets_sigbus(shared + 4096));
		munmap(shared, 8192);
		munmap(private, 4096);
	}
}

/* The same where only the last page of a file is shared with others. */
static void tails_mapped(void)
{
	static const u64 sizes[] = { MEDIUM, TAILED };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t size = sizes[i], end = (size + 4095) & ~4095UL;
		char which = is_packed(size, 'a') ? 'a' : 'c';
		u64 seed = size + (which == 'c');
		int fd = open_twin(size, which);
		char *shared = map(dup(fd), end + 4096, PROT_READ, MAP_SHARED);
		char *private = map(dup(fd), end, PROT_READ | PROT_WRITE, MAP_PRIVATE);
		char *last = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, end - 4096);
		u64 frame;

		CHECK(is_packed(size, which));
		/* The last page first, in one of the mappings. */
		private[size - 1] ^= 1;
		CHECK(all_zero(private + size, end - size));
		CHECK(pattern_matches(shared, size, seed, 0));
		CHECK(all_zero(shared + size, end - size));
		private[size - 1] ^= 1;
		CHECK(pattern_matches(private, size, seed, 0));
		REQUIRE(last != MAP_FAILED);
		CHECK(pattern_matches(last, size % 4096, seed, end - 4096));
		CHECK(gets_sigbus(shared + end));
		/* It is a copy: the image has it next to the page in front. */
		frame = frame_at(shared + end - 8192);
		if (source->pages && frame)
			CHECK(frame_at(shared + end - 4096) != frame + 1);
		CHECK_EQ(frame_at(last), frame_at(shared + end - 4096));
		munmap(shared, end + 4096);
		munmap(private, end);
		munmap(last, 4096);
		close(fd);
	}
}

/* Pages of the copies can be held as those of the memory can. */
static void copies_held(void)
{
	int file = open(work_dir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), ends[2];
	char *medium = map_twin(MEDIUM, 'a'), *packed = map(open_packed(7), 4096, PROT_READ, MAP_SHARED);
	struct iovec vector = { medium + 8192, MEDIUM - 8192 };
	char buffer[4096];

	CHECK_EQ(pwrite(file, medium, MEDIUM, 0), MEDIUM);
	CHECK_EQ(pread(file, buffer, sizeof(buffer), 8192), MEDIUM - 8192);
	CHECK(pattern_matches(buffer, MEDIUM - 8192, MEDIUM, 8192));
	CHECK_EQ(pwrite(file, packed, 4096, 0), 4096);
	REQUIRE(!pipe(ends));
	CHECK_EQ(vmsplice(ends[1], &vector, 1, 0), MEDIUM - 8192);
	munmap(medium, MEDIUM);
	CHECK_EQ(read(ends[0], buffer, sizeof(buffer)), MEDIUM - 8192);
	CHECK(pattern_matches(buffer, MEDIUM - 8192, MEDIUM, 8192));
}

static void programs_run(void)
{
	char command[PATH_MAX];

	snprintf(command, sizeof(command), "test \"$('%s/packed/script' 5)\" = 'script 5'", mnt);
	CHECK_EQ(system(command), 0);
	snprintf(command, sizeof(command), "test \"$('%s/helper' print 6 7)\" = \"$('%s/helper' print 6 7)\"",
		 mnt, program_dir());
	CHECK_EQ(system(command), 0);
}

/* Many at once, in several processes, while caches are dropped. */
static void storm(void)
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

			if (round % 8 == i) {
				int caches = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

				write(caches, "3", 1);
				close(caches);
			}
			if (!pattern_matches(address, size, size, 0) ||
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

/* How many errors the counters of the mount have that @fd is on. */
static long long errors_of(int fd)
{
	struct fs_sysfs_path name = {};
	char path[PATH_MAX];

	REQUIRE(!ioctl(fd, FS_IOC_GETFSSYSFSPATH, &name));
	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/counters", name.name);
	return number_in(path, "errors");
}

/*
 * Memory fails below both of a pair: whoever maps the page, as whichever file, is told, and reads of
 * it fail; other pages and files stay. The last test, since the page remains bad.
 */
static void memory_fails(u64 size)
{
	char *a = map_twin(size, 'a'), *b = map_twin(size, 'b'), *buffer = malloc(size);
	size_t bad = (size / 2 + 8192) & ~4095UL;
	char *middle = a + bad;
	int status;
	pid_t pid;

	CHECK(pattern_matches(a, size, size, 0) && pattern_matches(b, size, size, 0));
	pid = fork();
	if (!pid) {
		int result = madvise(middle, 4096, MADV_HWPOISON);

		if (result && errno == EINVAL)
			_exit(KTAP_SKIP);
		asm volatile("" : : "r"(*middle) : "memory");
		_exit(KTAP_PASS);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == KTAP_SKIP)
		SKIP("the kernel cannot pretend that memory fails");
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	CHECK(gets_sigbus(middle));
	CHECK(gets_sigbus(b + bad));
	for (char which = 'a'; which <= 'b'; which++) {
		int fd = open_twin(size, which);
		long long errors = errors_of(fd);

		CHECK_FAILS(pread(fd, buffer, 4096, bad), EIO);
		CHECK_FAILS(pread(fd, buffer, 1, bad + 4095), EIO);
		CHECK_EQ(errors_of(fd), errors + 2);
		CHECK_EQ(pread(fd, buffer, size, 0), bad);
		CHECK(pattern_matches(buffer, bad, size, 0));
		CHECK_EQ(pread(fd, buffer, size, bad + 4096), size - bad - 4096);
		CHECK(pattern_matches(buffer, size - bad - 4096, size, bad + 4096));
		close(fd);
		/* New mappings have all but that page. */
		a = map_twin(size, which);
		CHECK(pattern_matches(a, bad, size, 0));
		CHECK(pattern_matches(a + bad + 4096, size - bad - 4096, size, bad + 4096));
		CHECK(gets_sigbus(a + bad));
	}
	CHECK(pattern_matches(map_twin(size, 'c'), size, size + 1, 0));
}

static void small_memory_fails(void)
{
	signal(SIGBUS, SIG_IGN);
	memory_fails(SMALL);
}

static void large_memory_fails(void)
{
	signal(SIGBUS, SIG_IGN);
	memory_fails(LARGE);
}

static bool anywhere(const struct source *source)
{
	return true;
}

static bool has_huge(const struct source *source)
{
	return source->huge;
}

static bool has_pages(const struct source *source)
{
	return source->pages;
}

static bool has_device(const struct source *source)
{
	return source->pages && !source->key;
}

/* The points, and on which sources each makes sense. */
static const struct {
	struct ktap_test test;
	bool (*fits)(const struct source *source);
} tests[] = {
	{ { "two files of one content are read", twins_read }, anywhere },
	{ { "both are mapped at once, as the same memory", twins_mapped_at_once }, anywhere },
	{ { "both with entries of 2 MiB", twins_huge }, has_huge },
	{ { "one does not disturb the other", twins_undisturbed }, anywhere },
	{ { "both privately", twins_private }, anywhere },
	{ { "in any order of coming and going", twins_come_and_go }, anywhere },
	{ { "packed files are read", packed_read }, anywhere },
	{ { "packed files are mapped by copies", packed_mapped }, anywhere },
	{ { "the last page of packed files is", tails_mapped }, anywhere },
	{ { "the copies can be held", copies_held }, has_pages },
	{ { "packed programs run", programs_run }, anywhere },
	{ { "many at once", storm }, anywhere },
	{ { "memory fails below both, in a small page", small_memory_fails }, has_device },
	{ { "memory fails below both, in one of 2 MiB", large_memory_fails }, has_device },
};

static void write_pattern(int dir, const char *path, u64 seed, u64 size, mode_t mode)
{
	int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	char *content = malloc(size);

	pattern_fill(content, size, seed, 0);
	REQUIRE(fd >= 0 && write(fd, content, size) == (ssize_t)size && !fchmod(fd, mode));
	close(fd);
	free(content);
}

/* For tests/images, which makes an image of this tree. */
static void make_tree(void)
{
	static const char script[] = "#!/bin/sh\necho script \"$1\"\n";
	char command[5 * PATH_MAX], path[64];
	int dir, file;

	umask(022);
	snprintf(command, sizeof(command), "mkdir -p '%s' && cp '%s/helper' '%s/helper'", tree,
		 program_dir(), tree);
	REQUIRE(!system(command));
	dir = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	REQUIRE(!mkdirat(dir, "twins", 0755) && !mkdirat(dir, "packed", 0755));
	for (size_t i = 0; i < ARRAY_SIZE(twins); i++)
		for (char which = 'a'; which <= 'c'; which++) {
			snprintf(path, sizeof(path), "twins/%llu.%c", (unsigned long long)twins[i],
				 which);
			write_pattern(dir, path, twins[i] + (which == 'c'), twins[i],
				      which == 'b' ? 0600 : 0644);
		}
	for (unsigned int i = 0; i < PACKED; i++) {
		snprintf(path, sizeof(path), "packed/%u", 1 + i * STEP);
		write_pattern(dir, path, 1 + i * STEP, 1 + i * STEP, 0644);
	}
	file = openat(dir, "packed/script", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	REQUIRE(write(file, script, strlen(script)) == (ssize_t)strlen(script));
	close(file);
	close(dir);
}

/* The image of the tree, as tests/images has made it or made now. */
static void load_image(void)
{
	const char *images = getenv("DAXFS_IMAGES");
	char path[PATH_MAX], command[3 * PATH_MAX];

	snprintf(path, sizeof(path), "%s/packing.daxfs", images ? images : "/run/images");
	if (access(path, R_OK)) {
		snprintf(tree, sizeof(tree), "%s/packing", work_dir());
		make_tree();
		snprintf(path, sizeof(path), "%s/packing.daxfs", work_dir());
		snprintf(command, sizeof(command),
			 "mkdaxfs --quiet --pack --label packing '%s' '%s' >&2", tree, path);
		if (system(command))
			ktap_skip_all("needs mkdaxfs, or packing.daxfs in DAXFS_IMAGES");
	}
	image = image_load(path);
}

static unsigned int results[KTAP_SKIP + 1], points;

static void test_point(const struct ktap_test *test)
{
	char name[200];
	struct ktap_test named = { name, test->run };

	snprintf(name, sizeof(name), "%s: %s", source->name, test->name);
	results[ktap_one(++points, &named)]++;
}

static bool fits(const struct source *source, size_t test)
{
	return tests[test].fits(source);
}

static void mounts(void)
{
	REQUIRE(source_mount(source, &image, mnt));
}

static void unmounts(void)
{
	for (int tries = 0; tries < 50 && umount(mnt); tries++)
		usleep(100000);
	CHECK(umount(mnt));
}

int main(int argc, char **argv)
{
	static const struct ktap_test mount = { "mounts", mounts }, unmount = { "unmounts", unmounts };
	bool offered[SOURCE_MAX] = {};
	unsigned int plan = 0;
	int context;

	ktap_point = mmap(NULL, sizeof(*ktap_point), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(ktap_point != MAP_FAILED);
	if (argc == 3 && !strcmp(argv[1], "--tree")) {
		snprintf(tree, sizeof(tree), "%s", argv[2]);
		make_tree();
		return 0;
	}
	mnt = private_mount_point();
	context = syscall(SYS_fsopen, "daxfs", 0); /* loads the module */
	if (context < 0)
		ktap_skip_all("needs the daxfs module");
	close(context);
	load_image();
	for (size_t i = 0; i < source_count; i++) {
		int fd = sources[i].make(&sources[i], &image);

		offered[i] = fd >= 0;
		if (fd > 0)
			close(fd);
		if (fd < 0) {
			printf("# %s: %s\n", sources[i].name, source_missing);
			continue;
		}
		plan += 2;
		for (size_t j = 0; j < ARRAY_SIZE(tests); j++)
			plan += fits(&sources[i], j);
	}
	printf("KTAP version 1\n1..%u\n", plan);
	for (source = sources; source < sources + source_count; source++) {
		if (!offered[source - sources])
			continue;
		test_point(&mount);
		for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
			if (fits(source, i))
				test_point(&tests[i].test);
		test_point(&unmount);
	}
	printf("# totals: pass:%u fail:%u skip:%u\n", results[KTAP_PASS], results[KTAP_FAIL],
	       results[KTAP_SKIP]);
	if (results[KTAP_FAIL])
		return KTAP_FAIL;
	return results[KTAP_PASS] ? KTAP_PASS : KTAP_SKIP;
}
