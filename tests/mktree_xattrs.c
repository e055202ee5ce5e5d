// SPDX-License-Identifier: GPL-2.0-only
/* A part of the generated tree: extended attributes and access control lists. */
#include "mktree.h"

/* A file with many attributes, and one with long names and values. */
static void make_odd_xattrs(void)
{
	static char value[1 << 16];
	char key[XATTR_NAME_MAX + 1];

	empty_file("many");
	for (int i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "trusted.%d", i);
		set_xattr("many", key, key, i);
	}
	empty_file("long");
	pattern_fill(value, sizeof(value), 7, 0);
	set_xattr("long", "user.64k", value, sizeof(value));
	set_xattr("long", "trusted.4097", value, 4097);
	snprintf(key, sizeof(key), "user.");
	memset(key + 5, 'k', sizeof(key) - 6);
	key[sizeof(key) - 1] = 0;
	set_xattr("long", key, "long name", 9);
	set_xattr("long", "user. \xff\n=", "odd name", 8);
	set_any_time("many");
	set_any_time("long");
}

static void make_acls(void)
{
	static const struct acl_entry shared[] = {
		{ ACL_USER_OBJ, 6, ACL_NOBODY }, { ACL_USER, 4, 1000 },
		{ ACL_USER, 7, 1001 },		 { ACL_GROUP_OBJ, 0, ACL_NOBODY },
		{ ACL_GROUP, 4, 2000 },		 { ACL_MASK, 4, ACL_NOBODY },
		{ ACL_OTHER, 0, ACL_NOBODY },
	};
	static const struct acl_entry closed[] = {
		{ ACL_USER_OBJ, 7, ACL_NOBODY }, { ACL_USER, 0, 1000 },
		{ ACL_GROUP_OBJ, 5, ACL_NOBODY }, { ACL_MASK, 5, ACL_NOBODY },
		{ ACL_OTHER, 5, ACL_NOBODY },
	};

	enter("acls");
	sized_file(100);
	set_acl("100", "system.posix_acl_access", shared, ARRAY_SIZE(shared));
	set_any_time("100");
	enter("closed");
	sized_file(10);
	set_acl(".", "system.posix_acl_access", closed, ARRAY_SIZE(closed));
	set_acl(".", "system.posix_acl_default", shared, ARRAY_SIZE(shared));
	leave();
	leave();
}

void make_xattrs(void)
{
	char value[2000];

	enter("xattrs");
	empty_file("file");
	empty_file("twin");
	enter("dir");
	leave();
	made(symlink("file", "link"), "link");
	memset(value, 0xa5, sizeof(value));
	set_xattr("file", "user.colour", "blue", 4);
	set_xattr("file", "user.empty", "", 0);
	set_xattr("file", "trusted.long", value, sizeof(value));
	set_xattr("file", "security.label", "system_u:object_r:etc_t:s0", 27);
	set_xattr("twin", "user.colour", "blue", 4);
	set_xattr("dir", "trusted.overlay.opaque", "y", 1);
	set_xattr("link", "trusted.of-link", "1", 1);
	make_odd_xattrs();
	make_acls();
	leave();
}
