// SPDX-License-Identifier: GPL-2.0-only
/*
 * Many processes use a mount at once, while others drop the caches, mount and unmount. It counts
 * rounds, not time. Debug kernels do as many rounds, with fewer look-ups. In the test storm processes run a program.
 *
 * Group: modules
 * Order: 6
 * Machine: cpus=2 virtio-pmem=scratch
 */
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>

#include "lib/util.h"

#define WORKERS 6
#define ROUNDS 400

static const char *mnt, *device;

static u64 random_number(u64 worker, u64 round)
{
	u64 number;

	pattern_fill(&number, sizeof(number), worker + 77, round * 8);
	return number;
}

static void read_somewhere(u64 number)
{
	char buffer[20000];
	int fd = open_size(mnt, LARGE, O_RDONLY);
	u64 offset = number % (LARGE - sizeof(buffer));

	CHECK_EQ(pread(fd, buffer, sizeof(buffer), offset), sizeof(buffer));
	CHECK(pattern_matches(buffer, sizeof(buffer), LARGE, offset));
	close(fd);
}

static void map_somewhere(u64 number)
{
	int fd = open_size(mnt, LARGE, O_RDONLY);
	u64 start = number % 4 * HUGE_SIZE, length = (1 + (number >> 8) % 4) * HUGE_SIZE;
	int flags = number >> 16 & 1 ? MAP_SHARED : MAP_PRIVATE;
	char *address = mmap(NULL, length, PROT_READ, flags, fd, start);

	close(fd);
	REQUIRE(address != MAP_FAILED);
	for (u64 offset = (number >> 20) % 4096; offset < length; offset += 65536)
		CHECK_EQ((u8)address[offset], pattern_byte(LARGE, start + offset));
	if (flags == MAP_PRIVATE && !mprotect(address, length, PROT_READ | PROT_WRITE)) {
		address[length / 2] ^= 1;
		CHECK_EQ((u8)address[length / 2], pattern_byte(LARGE, start + length / 2) ^ 1);
		CHECK_EQ((u8)address[length / 2 + 1], pattern_byte(LARGE, start + length / 2 + 1));
	}
	CHECK(!munmap(address, length));
}

/* Make name number @index of a directory, as mktree does. */
static void many_name(char name[NAME_MAX + 1], unsigned int index)
{
	/* Lengths vary, and names share their ends as well as their beginnings. */
	snprintf(name, NAME_MAX + 1, "entry-%0*x-of-many", 1 + index % 13 * 2, index * 2654435761u);
}

static void look_up(u64 number)
{
	int dir = open_in(mnt, "directories/3000", O_PATH | O_DIRECTORY);
	char name[NAME_MAX + 1];
	struct stat stat;

	for (int i = 0; i < repeats(50); i++) {
		many_name(name, 1 + (number >> i) % 2999);
		CHECK(!fstatat(dir, name, &stat, 0));
		name[0] ^= 1;
		CHECK_FAILS(fstatat(dir, name, &stat, 0), ENOENT);
	}
	close(dir);
}

static void list(u64 number)
{
	static const unsigned int counts[] = { 0, 5, 64, 300, 3000 };
	unsigned int count = counts[number % ARRAY_SIZE(counts)], seen = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "directories/%u", count);
	dir = fdopendir(open_in(mnt, path, O_RDONLY | O_DIRECTORY));
	REQUIRE(dir);
	while (readdir(dir))
		seen++;
	CHECK_EQ(seen, count + 2);
	closedir(dir);
}

static void forget_inodes(u64 number)
{
	CHECK(shrink_caches(2));
}

static void mount_again(u64 number)
{
	char path[PATH_MAX];
	struct stat stat;

	snprintf(path, sizeof(path), "%s/again-%d", work_dir(), getpid());
	mkdir(path, 0755);
	CHECK(!mount(device, path, "daxfs", 0, NULL));
	CHECK(!lstat(path, &stat) && stat.st_nlink > 5);
	CHECK(!umount2(path, number & 1 ? MNT_DETACH : 0));
	rmdir(path);
}

/* Run @work in children, which must pass. */
static void in_children(int count, void (*work)(int number))
{
	int status;

	for (int number = 0; number < count; number++)
		if (!fork()) {
			work(number);
			_exit(ktap_point->failed);
		}
	while (count--) {
		REQUIRE(wait(&status) > 0);
		CHECK_EQ(status, 0);
	}
}

static void all_kinds(int worker)
{
	static void (*const works[])(u64) = {
		read_somewhere, map_somewhere, look_up, list, forget_inodes, mount_again,
	};

	for (int round = 0; round < ROUNDS; round++) {
		u64 number = random_number(worker, round);

		works[number % ARRAY_SIZE(works)](number >> 8);
	}
}

POINT(all_at_once, "all kinds of access at once")
{
	in_children(WORKERS, all_kinds);
}

/* Mount and unmount one device in several processes: the last unmount races with the next mount. */
static void mount_rounds(int worker)
{
	for (int round = 0; round < 40; round++)
		mount_again(round);
}

POINT(mount_races, "racing mounts")
{
	in_children(3, mount_rounds);
}

POINT(unmounted, "racing mounts without another mount")
{
	CHECK(!umount(mnt));
	in_children(3, mount_rounds);
	CHECK(!mount(device, mnt, "daxfs", 0, NULL));
}

#define RACE_SIZE ((size_t)3 * HUGE_SIZE)

struct race {
	char *address;
	atomic_bool stop, wrong;
};

static void *read_pages(void *argument)
{
	struct race *race = argument;
	unsigned int seed = (uintptr_t)&seed;
	int ends[2];
	char byte;

	if (pipe(ends))
		race->wrong = true;
	while (!race->stop && !race->wrong) {
		size_t at = (size_t)rand_r(&seed) % RACE_SIZE;

		/* A system call reports a page that could not be mapped. */
		if (write(ends[1], race->address + at, 1) != 1 || read(ends[0], &byte, 1) != 1 ||
		    !pattern_matches(race->address + at, 1, LARGE, at))
			race->wrong = true;
	}
	return NULL;
}

/* Entries go away, and come back while other threads are about to map a page there. */
static void come_and_go(char *address)
{
	struct race race = { .address = address };
	pthread_t readers[3];
	time_t end = time(NULL) + 3;

	REQUIRE(address != MAP_FAILED);
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
		REQUIRE(!pthread_create(&readers[i], NULL, read_pages, &race));
	while (time(NULL) < end && !race.wrong)
		CHECK(!madvise(race.address, RACE_SIZE, MADV_DONTNEED));
	race.stop = true;
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
		pthread_join(readers[i], NULL);
	CHECK(!race.wrong);
}

POINT(pmds_come_and_go, "2 MiB entries that come and go under readers")
{
	come_and_go(map_size(mnt, LARGE, PROT_READ, MAP_SHARED));
}

/* The kernel also frees the page tables. */
POINT(pages_come_and_go, "pages that come and go under readers")
{
	char *place = mmap(NULL, RACE_SIZE + 2 * HUGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *misaligned = (char *)(((uintptr_t)place + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1)) + page_size();

	come_and_go(mmap(misaligned, RACE_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED,
			 open_size(mnt, LARGE, O_RDONLY), 0));
}

int main(void)
{
	device = fixture_device("tree");
	mnt = private_mount_point();
	if (mount(device, mnt, "daxfs", 0, NULL))
		ktap_skip_all("cannot mount");
	return ktap_run();
}
