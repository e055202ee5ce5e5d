// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory areas have a backing file: check its path, its lifetime and its hidden parts.
 *
 * Group: vfs
 */
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "util.h"

#ifndef __NR_cachestat
#define __NR_cachestat 451
#endif

static const char *mnt;

static char *map(int fd, size_t length)
{
	char *address = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);

	REQUIRE(address != MAP_FAILED);
	return address;
}

/*
 * cachestat(2) takes entries of mapped DAX files for entries of reclaimed pages, and looks up their node.
 */
static void cachestat_below(const char *dir)
{
	static const u64 sizes[] = { 65537, HUGE_SIZE + 1 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct { u64 offset, length; } range = { 0, 0 };
		struct { u64 cache, dirty, writeback, evicted, recently; } counts = { 1, 1, 1, 1, 1 };
		int before = open_size(dir, sizes[i], O_RDONLY), after;
		char *address = map(before, sizes[i]);

		CHECK(pattern_matches(address, sizes[i], sizes[i], 0));
		after = open_size(dir, sizes[i], O_RDONLY);
		for (int j = 0; j < 2; j++) {
			REQUIRE(!syscall(__NR_cachestat, j ? after : before, &range, &counts, 0));
			CHECK_EQ(counts.cache + counts.dirty + counts.writeback, 0);
			CHECK_EQ(counts.evicted + counts.recently, 0);
		}
	}
}

POINT(cachestat, "cachestat(2) of a mapped file")
{
	cachestat_below(mnt);
}

POINT(cachestat_through_overlay, "the same through overlayfs")
{
	char options[3 * PATH_MAX], dir[PATH_MAX], empty[PATH_MAX];

	snprintf(dir, sizeof(dir), "%s/overlay", work_dir());
	REQUIRE(!mkdir(dir, 0755) || errno == EEXIST);
	snprintf(empty, sizeof(empty), "%s/empty", work_dir());
	REQUIRE(!mkdir(empty, 0755) || errno == EEXIST);
	snprintf(options, sizeof(options), "lowerdir=%s:%s", mnt, empty);
	if (mount("overlay", dir, "overlay", MS_RDONLY, options)) {
		if (errno == ENODEV)
			SKIP("needs overlayfs");
		REQUIRE(!"mounted");
	}
	cachestat_below(dir);
	cachestat_below(mnt);
}

/* Return the line of /proc/self/maps for an address. */
static void line_of(const char *address, char *line, size_t size)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long start;

	REQUIRE(maps);
	while (fgets(line, size, maps)) {
		if (sscanf(line, "%lx-", &start) == 1 && start == (unsigned long)address) {
			fclose(maps);
			return;
		}
	}
	REQUIRE(!"the area is listed");
}

POINT(names, "names in /proc")
{
	char line[PATH_MAX + 200], path[PATH_MAX], link[PATH_MAX], expected[PATH_MAX];
	int fd = open_size(mnt, 65537, O_RDONLY);
	char *address = map(fd, 65537);
	unsigned int major, minor;
	unsigned long inode, end;
	struct stat stat, through;
	ssize_t length;

	REQUIRE(!fstat(fd, &stat));
	snprintf(expected, sizeof(expected), "%s/sizes/65537", mnt);
	line_of(address, line, sizeof(line));
	REQUIRE(sscanf(line, "%*x-%lx %*s %*x %x:%x %lu %s", &end, &major, &minor, &inode, path) == 5);
	CHECK(!strcmp(path, expected));
	CHECK_EQ(inode, stat.st_ino);
	CHECK_EQ(makedev(major, minor), stat.st_dev);
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)address, end);
	length = readlink(path, link, sizeof(link) - 1);
	REQUIRE(length > 0);
	link[length] = '\0';
	CHECK(!strcmp(link, expected));
	/* A file that is opened through it is an ordinary one. */
	fd = open(path, O_RDONLY | O_CLOEXEC);
	REQUIRE(fd >= 0 && !fstat(fd, &through));
	CHECK_EQ(through.st_ino, stat.st_ino);
	CHECK_EQ(lseek(fd, 0, SEEK_END), 65537);
	CHECK(pattern_matches(map(fd, 65537), 65537, 65537, 0));
}

/* The arguments of PROCMAP_QUERY, as in include/uapi/linux/fs.h. */
struct query {
	u64 size, flags, address;
	u64 start, end, vm_flags, page_size, offset, inode;
	u32 major, minor, name_size, build_id_size;
	u64 name, build_id;
};

/* The kernel reads the build ID of a mapped program from the area's file. */
POINT(build_id, "build ID of a program")
{
	char command[4 * PATH_MAX], dir[PATH_MAX];
	u8 id[64] = { 0 };
	int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	struct query query = {
		.size = sizeof(query), .build_id_size = sizeof(id), .build_id = (unsigned long)id };

	snprintf(dir, sizeof(dir), "%s/program", work_dir());
	snprintf(command, sizeof(command),
		 "set -e; mkdir -p '%s'; cp '%s/helper' '%s'; mkdaxfs --quiet --force '%s' '%s.daxfs'; mount.daxfs '%s.daxfs' '%s'",
		 dir, program_dir(), dir, dir, dir, dir, dir);
	REQUIRE(!system(command));
	query.address = (unsigned long)map(open_in(dir, "helper", O_RDONLY), 4096);
	if (ioctl(maps, _IOWR('f', 17, struct query), &query)) {
		if (errno == ENOTTY)
			SKIP("needs Linux 6.11");
		REQUIRE(!"PROCMAP_QUERY");
	}
	CHECK_EQ(query.build_id_size, 20);
	CHECK(!all_zero(id, 20));
}

/* An area keeps its mount, and releases it when it is unmapped. */
POINT(lifetime, "an area keeps the mount")
{
	char dir[PATH_MAX];
	char *address, *second;
	int fd;

	snprintf(dir, sizeof(dir), "%s/again", work_dir());
	REQUIRE(!mkdir(dir, 0755) || errno == EEXIST);
	REQUIRE(!mount(mnt, dir, NULL, MS_BIND, NULL));
	fd = open_size(dir, 65537, O_RDONLY);
	address = map(fd, 65537);
	second = map(fd, 65537);
	close(fd);
	CHECK(pattern_matches(address, 65537, 65537, 0));
	CHECK_FAILS(umount(dir), EBUSY);
	CHECK(!munmap(address, 65537));
	CHECK(pattern_matches(second, 65537, 65537, 0));
	CHECK_FAILS(umount(dir), EBUSY);
	CHECK(!munmap(second, 65537));
	CHECK(!umount(dir));
}

POINT(neighbours_and_parts, "areas that are joined and split")
{
	const size_t page = page_size();
	int fd = open_size(mnt, HUGE_SIZE, O_RDONLY);
	char *place = mmap(NULL, HUGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	REQUIRE(place != MAP_FAILED);
	/* Two areas of a file, then the hole between them filled. */
	for (size_t at = 0; at <= 4 * page; at += 4 * page)
		CHECK(mmap(place + at, 2 * page, PROT_READ, MAP_SHARED | MAP_FIXED, fd, at) == place + at);
	CHECK(mmap(place + 2 * page, 2 * page, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 2 * page) ==
	      place + 2 * page);
	CHECK(pattern_matches(place, 6 * page, HUGE_SIZE, 0));
	CHECK(!mprotect(place + page, 2 * page, PROT_NONE));
	CHECK(!mprotect(place + page, 2 * page, PROT_READ));
	CHECK(pattern_matches(place, 6 * page, HUGE_SIZE, 0));
	CHECK(!munmap(place, 6 * page));
}

POINT(no_events, "mapping raises no event")
{
	char path[PATH_MAX], buffer[4096] __attribute__((aligned(8)));
	struct inotify_event *event = (void *)buffer;
	ssize_t length;
	int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), fd = open_size(mnt, 65537, O_RDONLY);
	char *address;

	if (watch < 0)
		SKIP("needs CONFIG_INOTIFY_USER");
	snprintf(path, sizeof(path), "%s/sizes", mnt);
	REQUIRE(inotify_add_watch(watch, path, IN_ALL_EVENTS) >= 0);
	address = map(fd, 65537);
	CHECK(pattern_matches(address, 65537, 65537, 0));
	CHECK(!munmap(address, 65537));
	CHECK_FAILS(read(watch, buffer, sizeof(buffer)), EAGAIN);
	close(fd);
	length = read(watch, buffer, sizeof(buffer));
	CHECK_EQ(length, (ssize_t)(sizeof(*event) + event->len));
	CHECK_EQ(event->mask, IN_CLOSE_NOWRITE);
}

struct mapper {
	pthread_barrier_t barrier;
	int fd;
	bool good;
};

static void *map_once(void *argument)
{
	struct mapper *mapper = argument;
	char *address;

	pthread_barrier_wait(&mapper->barrier);
	address = mmap(NULL, 65537, PROT_READ, MAP_SHARED, mapper->fd, 0);
	if (address == MAP_FAILED || !pattern_matches(address, 65537, 65537, 0))
		mapper->good = false;
	munmap(address, 65537);
	return NULL;
}

/* Processes that share an open file map it first at the same time. */
POINT(at_once, "processes map an open file at once")
{
	struct mapper *mapper = mmap(NULL, sizeof(*mapper), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_barrierattr_t shared;
	int status;

	REQUIRE(mapper != MAP_FAILED);
	pthread_barrierattr_init(&shared);
	pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
	mapper->good = true;
	for (int i = 0; i < 200; i++) {
		pid_t pid;

		pthread_barrier_init(&mapper->barrier, &shared, 2);
		mapper->fd = open_size(mnt, 65537, O_RDONLY);
		pid = fork();
		REQUIRE(pid >= 0);
		map_once(mapper);
		if (!pid)
			_exit(0);
		REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
		close(mapper->fd);
	}
	CHECK(mapper->good);
}

int main(void)
{
	mnt = fixture_mount("tree");
	return ktap_run();
}
