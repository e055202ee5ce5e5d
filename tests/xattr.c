// SPDX-License-Identifier: GPL-2.0-only
/*
 * Extended attributes and access control lists.
 *
 * Group: vfs
 */
#include <grp.h>
#include <sched.h>
#include <sys/xattr.h>

#include "util.h"

static const char *mnt;
static char source[PATH_MAX];
static char list[XATTR_LIST_MAX], value[XATTR_SIZE_MAX], want[XATTR_SIZE_MAX];

static void enter(void)
{
	REQUIRE(!chdir(mnt) && !chdir("xattrs"));
}

static void become(uid_t uid, gid_t gid)
{
	REQUIRE(!setgroups(0, NULL) && !setresgid(gid, gid, gid) && !setresuid(uid, uid, uid));
}

/* Return true if the last list, of @length bytes, has @key. */
static bool listed(const char *key, ssize_t length)
{
	for (const char *at = list; at < list + length; at += strlen(at) + 1)
		if (!strcmp(at, key))
			return true;
	return false;
}

static unsigned int count(ssize_t length)
{
	unsigned int keys = 0;

	for (const char *at = list; at < list + length; at += strlen(at) + 1)
		keys++;
	return keys;
}

POINT(values, "values")
{
	enter();
	CHECK_EQ(getxattr("file", "user.colour", value, sizeof(value)), 4);
	CHECK(!memcmp(value, "blue", 4));
	CHECK_EQ(getxattr("file", "user.empty", value, sizeof(value)), 0);
	CHECK_EQ(getxattr("file", "trusted.long", value, sizeof(value)), 2000);
	CHECK(value[0] == '\xa5' && value[1999] == '\xa5');
	CHECK_EQ(getxattr("file", "security.label", value, sizeof(value)), 27);
	CHECK(!strcmp(value, "system_u:object_r:etc_t:s0"));
	CHECK_EQ(getxattr("dir", "trusted.overlay.opaque", value, sizeof(value)), 1);
	CHECK_EQ(lgetxattr("link", "trusted.of-link", value, sizeof(value)), 1);
	CHECK_EQ(getxattr("link", "user.colour", value, sizeof(value)), 4);
	CHECK_EQ(fgetxattr(open("file", O_RDONLY), "user.colour", value, sizeof(value)), 4);
}

POINT(not_there, "missing names")
{
	enter();
	CHECK_FAILS(getxattr("file", "user.color", value, sizeof(value)), ENODATA);
	CHECK_FAILS(getxattr("file", "user.colou", value, sizeof(value)), ENODATA);
	CHECK_FAILS(getxattr("file", "user.colours", value, sizeof(value)), ENODATA);
	CHECK_FAILS(getxattr("file", "trusted.colour", value, sizeof(value)), ENODATA);
	CHECK_FAILS(getxattr("file", "security.colour", value, sizeof(value)), ENODATA);
	CHECK_FAILS(getxattr("file", "user.", value, sizeof(value)), EINVAL);
	CHECK_FAILS(getxattr("file", "colour", value, sizeof(value)), EOPNOTSUPP);
	CHECK_FAILS(getxattr("file", "system.nfs4_acl", value, sizeof(value)), EOPNOTSUPP);
	CHECK_FAILS(getxattr("file", "system.posix_acl_access", value, sizeof(value)), ENODATA);
	CHECK_FAILS(lgetxattr("link", "user.colour", value, sizeof(value)), ENODATA);
	CHECK_FAILS(lgetxattr("link", "system.posix_acl_access", value, sizeof(value)),
		    EOPNOTSUPP);
	CHECK_FAILS(getxattr("../sizes/1", "user.colour", value, sizeof(value)), ENODATA);
	CHECK_EQ(listxattr("../sizes/1", list, sizeof(list)), 0);
	CHECK_EQ(llistxattr("../types/fifo", list, sizeof(list)), 0);
}

POINT(lengths, "buffers of every size")
{
	ssize_t length;

	enter();
	CHECK_EQ(getxattr("file", "user.colour", NULL, 0), 4);
	CHECK_FAILS(getxattr("file", "user.colour", value, 3), ERANGE);
	CHECK_EQ(getxattr("file", "user.colour", value, 4), 4);
	CHECK_EQ(getxattr("file", "user.empty", value, 1), 0);
	CHECK_FAILS(getxattr("file", "user.colour", nowhere, 4), EFAULT);
	length = listxattr("file", NULL, 0);
	CHECK(length > 0);
	CHECK_FAILS(listxattr("file", list, length - 1), ERANGE);
	CHECK_EQ(listxattr("file", list, length), length);
	CHECK_FAILS(listxattr("file", list, 1), ERANGE);
}

POINT(large_values, "large values, long names")
{
	enter();
	CHECK_EQ(getxattr("long", "user.64k", NULL, 0), 65536);
	CHECK_EQ(getxattr("long", "user.64k", value, sizeof(value)), 65536);
	CHECK(pattern_matches(value, 65536, 7, 0));
	CHECK_FAILS(getxattr("long", "user.64k", value, 65535), ERANGE);
	CHECK_EQ(getxattr("long", "trusted.4097", value, sizeof(value)), 4097);
	CHECK(pattern_matches(value, 4097, 7, 0));
}

POINT(many_names, "hundreds of names")
{
	char key[32];

	enter();
	CHECK_EQ(count(listxattr("many", list, sizeof(list))), 300);
	for (int i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "trusted.%d", i);
		CHECK_EQ(getxattr("many", key, value, sizeof(value)), i);
	}
	CHECK_FAILS(getxattr("many", "trusted.300", value, sizeof(value)), ENODATA);
}

POINT(lists, "listing, and who sees trusted names")
{
	ssize_t length;

	enter();
	length = listxattr("file", list, sizeof(list));
	CHECK_EQ(count(length), 4);
	CHECK(listed("user.colour", length) && listed("user.empty", length) &&
	      listed("trusted.long", length) && listed("security.label", length));
	length = listxattr("acls/closed", list, sizeof(list));
	CHECK_EQ(count(length), 2);
	CHECK(listed("system.posix_acl_access", length) &&
	      listed("system.posix_acl_default", length));
	become(1001, 1001);
	length = listxattr("file", list, sizeof(list));
	CHECK_EQ(count(length), 3);
	CHECK(!listed("trusted.long", length));
	CHECK_FAILS(getxattr("file", "trusted.long", value, sizeof(value)), ENODATA);
	CHECK_EQ(getxattr("file", "user.colour", value, sizeof(value)), 4);
	CHECK_EQ(getxattr("file", "security.label", value, sizeof(value)), 27);
}

/* user.* takes the right to read the file. */
POINT(permissions, "permissions")
{
	enter();
	become(1001, 1001);
	CHECK_FAILS(getxattr("../modes/file-0001", "user.x", value, sizeof(value)), EACCES);
	CHECK_FAILS(setxattr("file", "user.x", "1", 1, 0), EROFS);
	CHECK_FAILS(removexattr("file", "user.colour"), EROFS);
}

/* Everything in the source is in the image, byte by byte. */
static void same(const char *path)
{
	static char key_copy[XATTR_LIST_MAX];
	char other[2 * PATH_MAX];
	ssize_t length, size;

	snprintf(other, sizeof(other), "%s/xattrs/%s", source, path);
	length = llistxattr(other, key_copy, sizeof(key_copy));
	REQUIRE(length >= 0);
	CHECK_EQ(llistxattr(path, list, sizeof(list)), length);
	for (char *key = key_copy; key < key_copy + length; key += strlen(key) + 1) {
		CHECK(listed(key, length));
		size = lgetxattr(other, key, want, sizeof(want));
		CHECK(size >= 0 && lgetxattr(path, key, value, sizeof(value)) == size &&
		      !memcmp(value, want, size));
	}
}

POINT(all_the_same, "all names and values match the source")
{
	static const char *const paths[] = {
		".", "file", "twin", "dir", "link", "many", "long", "acls", "acls/100", "acls/closed",
	};

	enter();
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		same(paths[i]);
}

/* The access control list of acls/100, not its mode, decides who may read it. */
POINT(acl_is_enforced, "an access control list decides who may read")
{
	static const struct {
		uid_t uid;
		gid_t gid;
		int read;
	} who[] = {
		{ 0, 0, 0 },	      /* the owner */
		{ 1000, 1, 0 },	      /* named */
		{ 1001, 1, 0 },	      /* named, masked to reading */
		{ 1002, 1, EACCES },  /* other */
		{ 1002, 2000, 0 },    /* in a named group */
		{ 1002, 0, EACCES },  /* in the owning group */
	};

	enter();
	for (size_t i = 0; i < ARRAY_SIZE(who); i++) {
		pid_t pid = fork();
		int status;

		if (!pid) {
			become(who[i].uid, who[i].gid);
			if (who[i].read) {
				CHECK_FAILS(open("acls/100", O_RDONLY), who[i].read);
				CHECK_FAILS(access("acls/100", R_OK), who[i].read);
			} else {
				CHECK(open("acls/100", O_RDONLY) >= 0);
				CHECK(!access("acls/100", R_OK));
			}
			if (who[i].uid)
				CHECK_FAILS(access("acls/100", X_OK), EACCES);
			fflush(stdout);
			_exit(ktap_point->failed);
		}
		waitpid(pid, &status, 0);
		if (!CHECK_EQ(status, 0))
			printf("# uid %u, gid %u\n", who[i].uid, who[i].gid);
	}
}

/* A directory that all users but one may search. */
POINT(acl_on_the_way, "an access control list of a directory in the path")
{
	struct stat stat;
	pid_t pid;
	int status;

	enter();
	pid = fork();
	if (!pid) {
		become(1000, 1000);
		for (int i = 0; i < 3; i++) { /* at first with no list in the cache */
			CHECK_FAILS(lstat("acls/closed/10", &stat), EACCES);
			CHECK_FAILS(open("acls/closed", O_RDONLY), EACCES);
		}
		fflush(stdout);
		_exit(ktap_point->failed);
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	become(1001, 1001);
	CHECK(!lstat("acls/closed/10", &stat));
	CHECK(open("acls/closed/10", O_RDONLY) >= 0);
}

POINT(acl_cannot_change, "access control lists cannot be changed")
{
	enter();
	REQUIRE(getxattr("acls/100", "system.posix_acl_access", value, sizeof(value)) > 0);
	CHECK_FAILS(setxattr("acls/100", "system.posix_acl_access", value,
			     getxattr("acls/100", "system.posix_acl_access", NULL, 0), 0),
		    EROFS);
	CHECK_FAILS(removexattr("acls/100", "system.posix_acl_access"), EROFS);
	CHECK_FAILS(removexattr("acls/closed", "system.posix_acl_default"), EROFS);
}

int main(void)
{
	mnt = fixture_mount("tree");
	snprintf(source, sizeof(source), "%s/tree", work_dir());
	return ktap_run();
}
