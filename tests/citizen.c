// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel offers on every filesystem: statx, SEEK_HOLE, FIEMAP, idmapped and bind mounts,
 * leases, watches, label and UUID.
 *
 * Group: vfs
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "ktap.h"
#include "util.h"

/* <sys/mount.h> and <linux/mount.h> do not go together. */
int mount(const char *source, const char *target, const char *type, unsigned long flags,
	  const void *data);

#ifndef STATX_DIO_READ_ALIGN
#define STATX_DIO_READ_ALIGN 0x00020000U
#endif

static const char *mnt;
static char device[PATH_MAX];

static struct statx statx_of(const char *name, unsigned int mask)
{
	struct statx buffer = {};
	int dir = open(mnt, O_PATH | O_CLOEXEC);

	REQUIRE(!statx(dir, name, AT_SYMLINK_NOFOLLOW, mask, &buffer));
	close(dir);
	return buffer;
}

static void direct_io_alignment(void)
{
	struct statx file = statx_of("sizes/12345", STATX_BASIC_STATS | STATX_DIOALIGN |
				     STATX_DIO_READ_ALIGN);
	char buffer[100];
	int fd;

	CHECK(file.stx_mask & STATX_DIOALIGN);
	CHECK_EQ(file.stx_dio_mem_align, 1);
	/* The loop driver takes this for a block size, which cannot be less. */
	CHECK_EQ(file.stx_dio_offset_align, 512);
	/* Any offset does. */
	fd = open_in(mnt, "sizes/12345", O_RDONLY | O_DIRECT);
	CHECK_EQ(pread(fd, buffer + 1, 77, 1111), 77);
	CHECK(pattern_matches(buffer + 1, 77, 12345, 1111));
	CHECK(!(statx_of("sizes", STATX_DIOALIGN).stx_mask & STATX_DIOALIGN));
	CHECK(!(statx_of("types/fifo", STATX_DIOALIGN).stx_mask & STATX_DIOALIGN));
}

static void mount_id(void)
{
	struct statx file = statx_of("sizes/1", STATX_MNT_ID);
	int dir = open(mnt, O_PATH | O_CLOEXEC);
	union {
		struct file_handle head;
		char bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} handle = { .head.handle_bytes = MAX_HANDLE_SZ };
	int id = -1;

	CHECK(file.stx_mask & STATX_MNT_ID);
	CHECK(!name_to_handle_at(dir, "sizes/1", &handle.head, &id, 0));
	CHECK_EQ(file.stx_mnt_id, id);
}

static void no_birth_time(void)
{
	struct statx file = statx_of("sizes/1", STATX_ALL);

	CHECK(!(file.stx_mask & STATX_BTIME));
	CHECK(!file.stx_btime.tv_sec && !file.stx_btime.tv_nsec);
}

/* Files have no holes: what was one in the source is stored. */
static void holes(void)
{
	static const struct {
		const char *name;
		off_t size;
	} files[] = {
		{ "sizes/1", 1 }, { "sizes/4096", 4096 }, { "sizes/4097", 4097 },
		{ "sparse/hole", 3 * HUGE_SIZE + 1 }, { "sparse/islands", 4 * HUGE_SIZE + 123 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		off_t size = files[i].size;
		int fd = open_in(mnt, files[i].name, O_RDONLY);

		CHECK_EQ(lseek(fd, 0, SEEK_DATA), 0);
		CHECK_EQ(lseek(fd, size - 1, SEEK_DATA), size - 1);
		CHECK_EQ(lseek(fd, 0, SEEK_HOLE), size);
		CHECK_EQ(lseek(fd, size - 1, SEEK_HOLE), size);
		CHECK_FAILS(lseek(fd, size, SEEK_DATA), ENXIO);
		CHECK_FAILS(lseek(fd, size, SEEK_HOLE), ENXIO);
		CHECK_FAILS(lseek(fd, -1, SEEK_DATA), ENXIO);
		CHECK_EQ(lseek(fd, 0, SEEK_CUR), size);
		close(fd);
	}
	CHECK_FAILS(lseek(open_in(mnt, "sizes/0", O_RDONLY), 0, SEEK_DATA), ENXIO);
	CHECK_FAILS(lseek(open_in(mnt, "sizes/0", O_RDONLY), 0, SEEK_HOLE), ENXIO);
}

struct map {
	struct fiemap head;
	struct fiemap_extent extents[4];
};

static struct map map_of(const char *name, u64 start, u64 length, u32 count, u32 flags)
{
	struct map map = { .head = { start, length, flags, 0, count, 0 } };

	REQUIRE(!ioctl(open_in(mnt, name, O_RDONLY), FS_IOC_FIEMAP, &map.head));
	return map;
}

/* The place that FIEMAP tells is where the bytes stand on the device. */
static void extents(void)
{
	static const u64 sizes[] = { 1, 4095, 4096, 4097, 12345, HUGE_SIZE + 1, 64UL << 20 };
	int disk = open(device, O_RDONLY | O_CLOEXEC), fd;
	char name[32], buffer[100];
	struct map map;

	REQUIRE(disk >= 0);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct fiemap_extent *extent = map.extents;
		size_t length = sizes[i] < 100 ? sizes[i] : 100;

		snprintf(name, sizeof(name), "sizes/%llu", (unsigned long long)sizes[i]);
		map = map_of(name, 0, ~0ULL, 4, i % 2 ? FIEMAP_FLAG_SYNC : 0);
		CHECK_EQ(map.head.fm_mapped_extents, 1);
		CHECK_EQ(extent->fe_logical, 0);
		CHECK_EQ(extent->fe_length, (sizes[i] + 4095) & ~4095ULL);
		CHECK(extent->fe_flags & FIEMAP_EXTENT_LAST);
		CHECK_EQ(pread(disk, buffer, length, extent->fe_physical), length);
		CHECK(pattern_matches(buffer, length, sizes[i], 0));
	}
	CHECK_EQ(map_of("sizes/4097", 0, ~0ULL, 0, 0).head.fm_mapped_extents, 1);
	CHECK_EQ(map_of("sizes/4097", 4096, 1, 4, 0).head.fm_mapped_extents, 1);
	CHECK_EQ(map_of("sizes/4097", 8192, ~0ULL - 8192, 4, 0).head.fm_mapped_extents, 0);
	CHECK_EQ(map_of("sizes/0", 0, ~0ULL, 4, 0).head.fm_mapped_extents, 0);
	fd = open_in(mnt, "sizes", O_RDONLY);
	CHECK_FAILS(ioctl(fd, FS_IOC_FIEMAP, &map.head), EOPNOTSUPP);
	fd = open_in(mnt, "sizes/1", O_RDONLY);
	map.head = (struct fiemap){ 0, ~0ULL, FIEMAP_FLAG_XATTR, 0, 4, 0 };
	CHECK_FAILS(ioctl(fd, FS_IOC_FIEMAP, &map.head), EBADR);
	map.head = (struct fiemap){ 0, 0, 0, 0, 4, 0 };
	CHECK_FAILS(ioctl(fd, FS_IOC_FIEMAP, &map.head), EINVAL);
}

/* A user namespace whose ids from 0 to 99999 are @shift and up outside. */
static int shifted_namespace(unsigned int shift)
{
	char path[64], line[64];
	int ready[2], fd, file;
	pid_t pid;

	REQUIRE(!pipe(ready));
	pid = fork();
	if (!pid) {
		if (unshare(CLONE_NEWUSER))
			_exit(1);
		(void)!write(ready[1], "", 1);
		pause();
		_exit(0);
	}
	close(ready[1]);
	if (read(ready[0], line, 1) != 1)
		SKIP("needs user namespaces");
	snprintf(line, sizeof(line), "0 %u 100000", shift);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/proc/%d/%cid_map", pid, "ug"[i]);
		file = open(path, O_WRONLY | O_CLOEXEC);
		REQUIRE(file >= 0 && write(file, line, strlen(line)) > 0);
		close(file);
	}
	snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	REQUIRE(fd >= 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return fd;
}

static int idmapped_mount(unsigned int shift)
{
	struct mount_attr attributes = { .attr_set = MOUNT_ATTR_IDMAP };
	int tree = syscall(SYS_open_tree, AT_FDCWD, mnt, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	REQUIRE(tree >= 0);
	attributes.userns_fd = shifted_namespace(shift);
	REQUIRE(!syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes,
			 sizeof(attributes)));
	return tree;
}

static void owner_is(int dir, const char *path, unsigned int uid, unsigned int gid)
{
	struct stat stat;

	REQUIRE(!fstatat(dir, path, &stat, AT_SYMLINK_NOFOLLOW));
	CHECK_EQ(stat.st_uid, uid);
	CHECK_EQ(stat.st_gid, gid);
}

static void idmapped_owners(void)
{
	int tree = idmapped_mount(200000);

	owner_is(tree, "sizes/1", 200000, 200000);
	owner_is(tree, "owners/1000", 201000, 65534); /* the group has no number here */
	owner_is(tree, "owners/65535", 265535, 265535);
	owner_is(tree, "owners/2147483647", 65534, 201000);
	/* The other mount is as it was. */
	owner_is(open(mnt, O_PATH | O_CLOEXEC), "owners/1000", 1000, 0x7fffffff);
}

static void as(unsigned int uid)
{
	REQUIRE(!setgroups(0, NULL) && !setresgid(uid, uid, uid) && !setresuid(uid, uid, uid));
}

/* In a process of its own: whether @uid may read @path. */
static bool may_read(int tree, unsigned int uid, const char *path)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		as(uid);
		_exit(openat(tree, path, O_RDONLY | O_CLOEXEC) < 0);
	}
	waitpid(pid, &status, 0);
	return status == 0;
}

static void idmapped_permissions(void)
{
	int tree = idmapped_mount(200000);

	/* Mode 0400, owner 0. */
	CHECK(may_read(tree, 200000, "modes/file-0400"));
	CHECK(!may_read(tree, 201000, "modes/file-0400"));
	/* Lists of access control are shifted, too. */
	CHECK(may_read(tree, 201000, "xattrs/acls/100"));
	CHECK(!may_read(tree, 1000, "xattrs/acls/100"));
	CHECK(may_read(tree, 202000, "xattrs/acls/100")); /* for the group */
	CHECK(!may_read(tree, 202001, "xattrs/acls/100"));
	CHECK(!may_read(tree, 201000, "xattrs/acls/closed/10"));
	CHECK(may_read(tree, 1000, "xattrs/acls/closed/10"));
}

static void idmapped_lists(void)
{
	int tree = idmapped_mount(200000);
	struct {
		u32 version;
		struct {
			__u16 tag, permissions;
			u32 id;
		} entries[20];
	} acl;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d/xattrs/acls/100", tree);
	REQUIRE(getxattr(path, "system.posix_acl_access", &acl, sizeof(acl)) > 0);
	CHECK_EQ(acl.entries[1].id, 201000);
	CHECK_EQ(acl.entries[2].id, 201001);
	CHECK_EQ(acl.entries[4].id, 202000);
}

static void idmapped_set_user_id(void)
{
	int tree = idmapped_mount(200000), pipes[2];
	static char *const argv[] = { "setuid", "ids", NULL }, *const none[] = { NULL };
	char line[64] = "";

	/* The kernel ignores the bit on mounts that are nowhere. */
	REQUIRE(!unshare(CLONE_NEWNS));
	REQUIRE(!syscall(SYS_move_mount, tree, "", AT_FDCWD, mnt, MOVE_MOUNT_F_EMPTY_PATH));
	REQUIRE(!pipe(pipes));
	if (!fork()) {
		dup2(pipes[1], 1);
		as(1000);
		execveat(tree, "exec/setuid", argv, none, 0);
		_exit(1);
	}
	close(pipes[1]);
	CHECK(read(pipes[0], line, sizeof(line) - 1) > 0);
	if (!CHECK(!strcmp(line, "1000 212345\n")))
		printf("# %s", line);
}

/* A directory and a file of the image in other places, also after the whole is gone. */
static void bind_mounts(void)
{
	char dir[PATH_MAX], file[PATH_MAX], path[PATH_MAX];
	struct stat stat;

	snprintf(dir, sizeof(dir), "%s/bound", work_dir());
	snprintf(file, sizeof(file), "%s/bound-file", work_dir());
	mkdir(dir, 0755);
	close(open(file, O_CREAT | O_WRONLY, 0644));
	REQUIRE(!unshare(CLONE_NEWNS));
	snprintf(path, sizeof(path), "%s/sizes", mnt);
	REQUIRE(!mount(path, dir, NULL, MS_BIND, NULL));
	snprintf(path, sizeof(path), "%s/sizes/4097", mnt);
	REQUIRE(!mount(path, file, NULL, MS_BIND, NULL));
	REQUIRE(!syscall(SYS_umount2, mnt, 0));
	snprintf(path, sizeof(path), "%s/12345", dir);
	CHECK(!lstat(path, &stat) && stat.st_size == 12345);
	CHECK(!lstat(file, &stat) && stat.st_size == 4097);
	CHECK_FAILS(open(file, O_RDWR), EROFS);
	snprintf(path, sizeof(path), "%s/../types", dir);
	CHECK_FAILS(lstat(path, &stat), ENOENT); /* not the parent in the image */
	CHECK(!syscall(SYS_umount2, dir, 0) && !syscall(SYS_umount2, file, 0));
}

/* A mount that no name leads to. */
static void private_mount(void)
{
	int context = syscall(SYS_fsopen, "daxfs", FSOPEN_CLOEXEC), fd;
	struct stat stat;

	REQUIRE(context >= 0);
	REQUIRE(!syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", device, 0));
	REQUIRE(!syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, "ro", NULL, 0));
	REQUIRE(!syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	fd = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	REQUIRE(fd >= 0);
	CHECK(!fstatat(fd, "sizes/4097", &stat, 0) && stat.st_size == 4097);
	CHECK_FAILS(faccessat(fd, "exec/helper", X_OK, 0), EACCES);
}

static void user_namespace(void)
{
	struct stat stat;
	int context;

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		SKIP("needs user namespaces");
	context = syscall(SYS_fsopen, "daxfs", FSOPEN_CLOEXEC);
	if (context >= 0) {
		syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", device, 0);
		CHECK(syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == -1 &&
		      errno == EPERM);
	} else {
		CHECK_EQ(errno, EPERM);
	}
	/* What is mounted is there for everybody. */
	CHECK(!lstat(mnt, &stat));
}

static void leases(void)
{
	int fd = open_in(mnt, "sizes/4096", O_RDONLY);

	CHECK_EQ(fcntl(fd, F_GETLEASE), F_UNLCK);
	CHECK(!fcntl(fd, F_SETLEASE, F_RDLCK));
	CHECK_EQ(fcntl(fd, F_GETLEASE), F_RDLCK);
	/* Another reader does not break it, and there are no writers. */
	CHECK(open_in(mnt, "sizes/4096", O_RDONLY) >= 0);
	CHECK_EQ(fcntl(fd, F_GETLEASE), F_RDLCK);
	CHECK_FAILS(fcntl(fd, F_SETLEASE, F_WRLCK), EAGAIN);
	CHECK(!fcntl(fd, F_SETLEASE, F_UNLCK));
}

static void watches(void)
{
	char path[PATH_MAX], buffer[4096] __attribute__((aligned(8)));
	int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), fd;
	unsigned int seen = 0;
	ssize_t length;

	if (watch < 0)
		SKIP("needs CONFIG_INOTIFY_USER");
	snprintf(path, sizeof(path), "%s/sizes", mnt);
	REQUIRE(inotify_add_watch(watch, path, IN_ALL_EVENTS) >= 0);
	fd = open_in(mnt, "sizes/4097", O_RDONLY);
	CHECK_EQ(read(fd, path, 100), 100);
	close(fd);
	length = read(watch, buffer, sizeof(buffer));
	for (char *at = buffer; at < buffer + length;) {
		struct inotify_event *event = (void *)at;

		if (event->len && !strcmp(event->name, "4097"))
			seen |= event->mask;
		at += sizeof(*event) + event->len;
	}
	CHECK_EQ(seen & IN_ALL_EVENTS, IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE);
}

/* What stands at @offset of the image. */
static void from_image(void *bytes, size_t length, off_t offset)
{
	int fd = open(device, O_RDONLY | O_CLOEXEC);

	REQUIRE(fd >= 0 && pread(fd, bytes, length, offset) == (ssize_t)length);
	close(fd);
}

static void label(void)
{
	static const char *const paths[] = { ".", "sizes", "sizes/4097" };
	char label[FSLABEL_MAX], zeros[FSLABEL_MAX] = {};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		int fd = open_in(mnt, paths[i], O_RDONLY);

		memset(label, 'x', sizeof(label));
		REQUIRE(!ioctl(fd, FS_IOC_GETFSLABEL, label));
		CHECK(!strcmp(label, "tree"));
		CHECK(!memcmp(label + 4, zeros, sizeof(label) - 4));
		CHECK_FAILS(ioctl(fd, FS_IOC_GETFSLABEL, nowhere), EFAULT);
		CHECK_FAILS(ioctl(fd, FS_IOC_SETFSLABEL, label), ENOTTY);
		CHECK_FAILS(ioctl(fd, FIONREAD ^ 0x5a5a, label), ENOTTY);
		close(fd);
	}
}

static void uuid(void)
{
	struct fsuuid2 uuid = {};
	u8 want[16];

	from_image(want, sizeof(want), 56);
	REQUIRE(!ioctl(open_in(mnt, "sizes", O_RDONLY), FS_IOC_GETFSUUID, &uuid));
	CHECK_EQ(uuid.len, sizeof(want));
	CHECK(!memcmp(uuid.uuid, want, sizeof(want)));
}

/* The directory with that name is in debugfs. */
static void path_in_debugfs(void)
{
	struct fs_sysfs_path path = {};
	char directory[PATH_MAX];
	struct stat stat;

	REQUIRE(!ioctl(open_in(mnt, "sizes", O_RDONLY), FS_IOC_GETFSSYSFSPATH, &path));
	CHECK_EQ(path.len, strlen((char *)path.name));
	snprintf(directory, sizeof(directory), "daxfs/%s", strrchr(device, '/') + 1);
	CHECK(!strcmp((char *)path.name, directory));
	snprintf(directory, sizeof(directory), "/sys/kernel/debug/%s/counters", path.name);
	CHECK(!lstat(directory, &stat));
}

int main(void)
{
	static const struct ktap_test tests[] = {
		{ "the label", label },
		{ "the UUID", uuid },
		{ "the name of the directory in debugfs", path_in_debugfs },
		{ "statx: direct I/O from any byte", direct_io_alignment },
		{ "statx: the mount's number", mount_id },
		{ "statx: no birth time", no_birth_time },
		{ "SEEK_DATA and SEEK_HOLE", holes },
		{ "FIEMAP", extents },
		{ "idmapped mount: owners", idmapped_owners },
		{ "idmapped mount: permissions", idmapped_permissions },
		{ "idmapped mount: access control lists", idmapped_lists },
		{ "idmapped mount: set-user-ID", idmapped_set_user_id },
		{ "bind mounts", bind_mounts },
		{ "a mount without a name", private_mount },
		{ "user namespaces", user_namespace },
		{ "leases", leases },
		{ "inotify", watches },
	};

	snprintf(device, sizeof(device), "%s", fixture_device("tree"));
	mnt = fixture_mount("tree");
	return ktap_run(tests, ARRAY_SIZE(tests));
}
