// SPDX-License-Identifier: GPL-2.0-only
/*
 * Idmapped mounts: owners, permissions, access control lists and set-user-ID programs.
 *
 * Group: vfs
 * Machine: no-debug nvdimm=scratch
 */
#include <grp.h>
#include <sched.h>
#include <sys/xattr.h>

#include "util.h"

static const char *mnt;

/* Create a user namespace whose ids from 0 to 99999 are @shift and up outside. */
static int shifted_namespace(unsigned int shift)
{
	char path[64];
	int ready[2], fd;
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
	if (read(ready[0], path, 1) != 1)
		SKIP("needs user namespaces");
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/proc/%d/%cid_map", pid, "ug"[i]);
		REQUIRE(write_text(path, "0 %u 100000", shift));
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

POINT(idmapped_owners, "idmapped mount: owners")
{
	int tree = idmapped_mount(200000);

	owner_is(tree, "sizes/1", 200000, 200000);
	owner_is(tree, "owners/1000", 201000, 65534); /* the group has no number here */
	owner_is(tree, "owners/65535", 265535, 265535);
	owner_is(tree, "owners/2147483647", 65534, 201000);
	/* The other mount has not changed. */
	owner_is(open(mnt, O_PATH | O_CLOEXEC), "owners/1000", 1000, 0x7fffffff);
}

static void as(unsigned int uid)
{
	REQUIRE(!setgroups(0, NULL) && !setresgid(uid, uid, uid) && !setresuid(uid, uid, uid));
}

/* Find out, in another process, if @uid may read @path. */
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

POINT(idmapped_permissions, "idmapped mount: permissions")
{
	int tree = idmapped_mount(200000);

	/* Mode 0400, owner 0. */
	CHECK(may_read(tree, 200000, "modes/file-0400"));
	CHECK(!may_read(tree, 201000, "modes/file-0400"));
	/* Access control lists are shifted, too. */
	CHECK(may_read(tree, 201000, "xattrs/acls/100"));
	CHECK(!may_read(tree, 1000, "xattrs/acls/100"));
	CHECK(may_read(tree, 202000, "xattrs/acls/100")); /* for the group */
	CHECK(!may_read(tree, 202001, "xattrs/acls/100"));
	CHECK(!may_read(tree, 201000, "xattrs/acls/closed/10"));
	CHECK(may_read(tree, 1000, "xattrs/acls/closed/10"));
}

POINT(idmapped_lists, "idmapped mount: access control lists")
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

POINT(idmapped_set_user_id, "idmapped mount: set-user-ID")
{
	int tree = idmapped_mount(200000), pipes[2];
	static char *const argv[] = { "setuid", "ids", NULL }, *const none[] = { NULL };
	char line[64] = "";

	/* The kernel ignores the bit on detached mounts. */
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

int main(void)
{
	mnt = fixture_mount("tree");
	return ktap_run();
}
