// SPDX-License-Identifier: GPL-2.0-only
/*
 * File handles: the files that they open, their lifetime, and errors for damaged ones.
 *
 * Group: vfs
 */
#include <dirent.h>
#include <sched.h>
#include <sys/fanotify.h>
#include <sys/vfs.h>

#include "image.h"

#ifndef AT_HANDLE_CONNECTABLE
#define AT_HANDLE_CONNECTABLE 0x002
#endif

/* The types of a handle with an inode number, and with the parent's as well. */
enum { PLAIN = 1, WITH_PARENT = 2, CONNECTABLE = 0x10000, OF_DIRECTORY = 0x20000 };

struct handle {
	struct file_handle head;
	u32 words[MAX_HANDLE_SZ / 4]; /* inode, generation, perhaps followed by the parent's */
};

static const char *device, *mnt;

static void mount_again(void)
{
	REQUIRE(!mount(device, mnt, "daxfs", MS_RDONLY, NULL));
}

static int open_mount(void)
{
	int fd = open(mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	REQUIRE(fd >= 0);
	return fd;
}

static struct handle handle_of(const char *path, int flags)
{
	struct handle handle = { .head.handle_bytes = MAX_HANDLE_SZ };
	int dir = open_mount(), id;

	REQUIRE(!name_to_handle_at(dir, path, &handle.head, &id, flags));
	close(dir);
	return handle;
}

static int open_handle(struct handle *handle, int flags)
{
	int dir = open_mount();
	int fd = open_by_handle_at(dir, &handle->head, flags | O_CLOEXEC);
	int error = errno;

	close(dir);
	errno = error;
	return fd;
}

static struct stat stat_at(const char *path)
{
	int dir = open_mount();
	struct stat stat;

	REQUIRE(!fstatat(dir, path, &stat, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH));
	close(dir);
	return stat;
}

static bool leads_to(struct handle *handle, int flags, const struct stat *want)
{
	int fd = open_handle(handle, flags);
	struct stat stat;
	bool same = fd >= 0 && !fstat(fd, &stat) && stat.st_ino == want->st_ino &&
		    stat.st_dev == want->st_dev && stat.st_mode == want->st_mode;

	close(fd);
	return same;
}

static const char *const paths[] = {
	"",	       "sizes",		     "sizes/4097",	   "sizes/16777216",
	"types/fifo",  "types/socket",	     "types/symlink",	   "types/char-1-3",
	"directories", "directories/3000",   "directories/deep",   "symlinks/loop",
	"types/directory/regular-link",	     "owners/1000",	   "modes/dir-0000",
};

POINT(every_type, "every type of file")
{
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		struct handle handle = handle_of(paths[i], AT_EMPTY_PATH);
		struct stat stat = stat_at(paths[i]);

		CHECK_EQ(handle.head.handle_type, PLAIN);
		CHECK_EQ(handle.words[0], stat.st_ino);
		CHECK(leads_to(&handle, O_PATH, &stat));
		REQUIRE(shrink_caches(2));
		if (!CHECK(leads_to(&handle, O_PATH, &stat)))
			printf("# %s\n", paths[i]);
	}
}

/* Handles stay valid with empty caches, and after the image was mounted again. */
POINT(last, "handles stay valid over a new mount")
{
	struct handle handles[ARRAY_SIZE(paths)];
	struct stat stats[ARRAY_SIZE(paths)];

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		handles[i] = handle_of(paths[i], AT_EMPTY_PATH);
		stats[i] = stat_at(paths[i]);
	}
	REQUIRE(!umount(mnt));
	mount_again();
	for (size_t i = ARRAY_SIZE(paths); i-- > 0;)
		CHECK(leads_to(&handles[i], O_PATH, &stats[i]));
}

POINT(content, "content")
{
	struct handle handle = handle_of("sizes/12345", 0);
	static char buffer[20000];
	int fd;

	REQUIRE(shrink_caches(2));
	fd = open_handle(&handle, O_RDONLY);
	CHECK_EQ(read(fd, buffer, sizeof(buffer)), 12345);
	CHECK(pattern_matches(buffer, 12345, 12345, 0));
	CHECK_FAILS(open_handle(&handle, O_RDWR), EROFS);
	CHECK_FAILS(open_handle(&handle, O_RDONLY | O_DIRECTORY), ENOTDIR);
}

/* The path of a directory that is opened by its handle is known up to the root. */
static void path_is(int fd, const char *want)
{
	char link[64], path[PATH_MAX] = "", expected[PATH_MAX];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	path[length < 0 ? 0 : length] = 0;
	snprintf(expected, sizeof(expected), "%s/%s", mnt, want);
	if (!CHECK(!strcmp(path, expected)))
		printf("# %s, should be %s\n", path, expected);
}

POINT(directories_connect, "directories are connected to the root")
{
	struct handle handle = handle_of("types/directory", 0);
	struct handle large = handle_of("directories/3000", 0);
	struct stat stat = stat_at("types"), root = stat_at("");
	struct stat parent;
	int fd;

	REQUIRE(!umount(mnt));
	mount_again();
	fd = open_handle(&handle, O_RDONLY);
	REQUIRE(fd >= 0);
	path_is(fd, "types/directory");
	CHECK(!fstatat(fd, "..", &parent, 0) && parent.st_ino == stat.st_ino);
	CHECK(!fstatat(fd, "../..", &parent, 0) && parent.st_ino == root.st_ino);
	CHECK(!faccessat(fd, "regular-link", F_OK, 0));
	fd = open_handle(&large, O_RDONLY);
	path_is(fd, "directories/3000");
}

POINT(deep_directory, "a deeply nested directory")
{
	int dir = open_mount(), next = openat(dir, "directories/deep", O_PATH | O_CLOEXEC), id;
	struct handle handle = { .head.handle_bytes = MAX_HANDLE_SZ };
	struct stat stat, got;
	char name[NAME_MAX + 1];

	memset(name, 'd', NAME_MAX);
	name[NAME_MAX] = 0;
	for (int i = 0; i < 100; i++) {
		int deeper = openat(next, i % 4 ? "d" : name, O_PATH | O_CLOEXEC);

		REQUIRE(deeper >= 0);
		close(next);
		next = deeper;
	}
	REQUIRE(!fstat(next, &stat));
	REQUIRE(!name_to_handle_at(next, "", &handle.head, &id, AT_EMPTY_PATH));
	close(next);
	close(dir);
	REQUIRE(!umount(mnt));
	mount_again();
	next = open_handle(&handle, O_RDONLY);
	CHECK(next >= 0 && !fstat(next, &got) && got.st_ino == stat.st_ino);
	CHECK(!fstatat(next, "5000", &got, 0));
	for (int i = 0; i < 102; i++) {
		int up = openat(next, "..", O_RDONLY | O_CLOEXEC);

		REQUIRE(up >= 0);
		close(next);
		next = up;
	}
	stat = stat_at("");
	CHECK(!fstat(next, &got) && got.st_ino == stat.st_ino);
}

/* A handle with a parent gives a dentry in that parent. */
POINT(files_connect, "files are connected to their directories")
{
	static const char *const names[] = {
		"sizes/4097", "types/regular-link", "types/directory/regular-link", "names/odd/a b",
		"directories/3000/first",
	};
	int dir = open_mount(), id;
	struct handle probe = { .head.handle_bytes = MAX_HANDLE_SZ };

	if (name_to_handle_at(dir, names[0], &probe.head, &id, AT_HANDLE_CONNECTABLE) &&
	    errno == EINVAL)
		SKIP("needs AT_HANDLE_CONNECTABLE");
	close(dir);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct handle handle = handle_of(names[i], AT_HANDLE_CONNECTABLE);
		struct stat stat = stat_at(names[i]);
		char name[PATH_MAX];
		int fd;

		CHECK_EQ(handle.head.handle_type, WITH_PARENT | CONNECTABLE);
		REQUIRE(!umount(mnt));
		mount_again();
		CHECK(leads_to(&handle, O_RDONLY, &stat));
		fd = open_handle(&handle, O_RDONLY);
		snprintf(name, sizeof(name), "%s", names[i]);
		/* Of several names in one directory, any will do. */
		if (!strstr(name, "3000") && !strstr(name, "types/regular"))
			path_is(fd, name);
		close(fd);
	}
}

POINT(sizes, "buffers")
{
	struct handle handle = {};
	int dir = open_mount(), id;

	CHECK_FAILS(name_to_handle_at(dir, "sizes", &handle.head, &id, 0), EOVERFLOW);
	CHECK_EQ(handle.head.handle_bytes, 8);
	handle.head.handle_bytes = 7;
	CHECK_FAILS(name_to_handle_at(dir, "sizes", &handle.head, &id, 0), EOVERFLOW);
	handle.head.handle_bytes = 8;
	CHECK(!name_to_handle_at(dir, "sizes", &handle.head, &id, 0));
	CHECK_EQ(handle.head.handle_bytes, 8);
	CHECK_FAILS(name_to_handle_at(dir, "nothing", &handle.head, &id, 0), ENOENT);
}

static void stale(struct handle *handle)
{
	CHECK_FAILS(open_handle(handle, O_PATH), ESTALE);
}

POINT(wrong_numbers, "inode numbers that do not exist")
{
	struct handle good = handle_of("sizes/4097", 0), bad;
	struct statfs fs;

	REQUIRE(!statfs(mnt, &fs));
	bad = good;
	bad.words[1]++;
	stale(&bad);
	bad = good;
	bad.words[0] = 0;
	stale(&bad);
	bad.words[0] = fs.f_files + 1;
	stale(&bad);
	bad.words[0] = 0xffffffff;
	stale(&bad);
	bad = good;
	bad.head.handle_bytes = 4;
	stale(&bad);
	for (int type = 0; type < 256; type++) {
		bad = good;
		bad.head.handle_type = type;
		if (type != PLAIN && type != WITH_PARENT)
			CHECK(open_handle(&bad, O_PATH) < 0 && (errno == ESTALE || errno == EINVAL));
	}
	CHECK(open_handle(&good, O_PATH) >= 0);
}

/* Parents that do not exist, do not hold the file, or are not directories. */
POINT(wrong_parents, "invalid parents")
{
	struct handle good = handle_of("sizes/4097", 0);
	u32 generation = good.words[1];
	u32 others[] = { stat_at("types").st_ino, stat_at("sizes/1").st_ino, 0, 0xffffffff,
			 stat_at("types/symlink").st_ino, good.words[0] };

	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		struct handle bad = good;
		int fd;

		bad.head.handle_type = WITH_PARENT | CONNECTABLE;
		bad.head.handle_bytes = 16;
		bad.words[2] = others[i];
		bad.words[3] = generation;
		/* A handle without a parent gives a file without a path. */
		REQUIRE(!umount(mnt));
		mount_again();
		stale(&bad);
		bad.words[2] = stat_at("sizes").st_ino;
		bad.words[3] = generation + 1;
		stale(&bad);
		bad.words[3] = generation;
		fd = open_handle(&bad, O_PATH);
		CHECK(fd >= 0);
		close(fd);
	}
}

/* Random handles are stale, or open a file of the image. */
POINT(random_handles, "random handles")
{
	struct handle good = handle_of("sizes/4097", 0);
	int kmsg = kmsg_open(), dir = open_mount();
	unsigned int opened = 0, count = repeats(20000);
	struct stat stat;

	kmsg_count(kmsg, "daxfs", NULL, 0);
	for (u64 i = 0; i < count; i++) {
		struct handle handle = {};

		pattern_fill(handle.words, sizeof(handle.words), 100 + i, 0);
		if (i % 2) {
			handle.words[0] %= 5000;
			handle.words[1] = good.words[1];
		}
		handle.head.handle_bytes = handle.words[5] % (MAX_HANDLE_SZ + 1);
		handle.head.handle_type = i % 4 == 1 ? PLAIN : handle.words[6] & 0x300ff;
		int fd = open_by_handle_at(dir, &handle.head, O_PATH | O_CLOEXEC);

		if (fd >= 0) {
			opened++;
			CHECK(!fstat(fd, &stat) && stat.st_ino == handle.words[0]);
			close(fd);
		} else if (!CHECK(errno == ESTALE || errno == EINVAL)) {
			break;
		}
	}
	printf("# %u of %u opened a file\n", opened, count);
	CHECK(opened > count / 200);
	/* The image is not at fault, so the log says nothing. */
	CHECK_EQ(kmsg_count(kmsg, "daxfs", NULL, 0), 0);
}

POINT(privilege, "opening by a handle needs a privilege")
{
	struct handle handle = handle_of("sizes/4097", 0);

	REQUIRE(!setresgid(1000, 1000, 1000) && !setresuid(1000, 1000, 1000));
	CHECK_FAILS(open_handle(&handle, O_RDONLY), EPERM);
}

/* fanotify events that name files by their handles. */
POINT(fanotify, "fanotify names files by handles")
{
	int group = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME | FAN_CLOEXEC |
				  FAN_NONBLOCK, O_RDONLY);
	struct handle want = handle_of("sizes", 0);
	struct fanotify_event_metadata *event;
	struct fanotify_event_info_fid *info;
	struct file_handle *handle = NULL;
	char buffer[4096];
	ssize_t length;
	int fd;

	if (group < 0)
		SKIP("needs CONFIG_FANOTIFY");
	REQUIRE(!fanotify_mark(group, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN, AT_FDCWD, mnt));
	fd = open_in(mnt, "sizes/4096", O_RDONLY);
	close(fd);
	length = read(group, buffer, sizeof(buffer));
	REQUIRE(length > 0);
	event = (void *)buffer;
	/* The event of the directory that open_in() opens has no name. */
	while (FAN_EVENT_OK(event, length)) {
		info = (void *)(event + 1);
		handle = (void *)info->handle;
		if (event->mask & FAN_OPEN && info->hdr.info_type == FAN_EVENT_INFO_TYPE_DFID_NAME &&
		    !strcmp((char *)handle->f_handle + handle->handle_bytes, "4096"))
			break;
		event = FAN_EVENT_NEXT(event, length);
	}
	REQUIRE(FAN_EVENT_OK(event, length));
	CHECK(handle->handle_bytes == want.head.handle_bytes &&
	      !memcmp(handle->f_handle, want.words, handle->handle_bytes));
}

/* A handle of one image does not open a file of the image that replaced it. */
POINT(other_image, "another image on the same device")
{
	struct handle handle = handle_of("sizes", 0);
	struct image small = image_load_small();

	REQUIRE(!umount(mnt));
	image_write(&small, device);
	mount_again();
	handle.words[0] = small.super->root + 1;
	stale(&handle);
	handle = handle_of("dir", 0);
	CHECK(open_handle(&handle, O_RDONLY) >= 0);
}

int main(void)
{
	fixture_device("scratch");
	device = fixture_device("tree");
	mnt = private_mount_point();
	if (mount(device, mnt, "daxfs", MS_RDONLY, NULL)) {
		printf("Bail out! %s: %s\n", device, strerror(errno));
		return KTAP_FAIL;
	}
	return ktap_run();
}
