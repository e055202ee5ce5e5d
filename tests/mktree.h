/* SPDX-License-Identifier: GPL-2.0-only */
/* How mktree makes files: with short relative names, in one directory after the other. */
#ifndef MKTREE_H
#define MKTREE_H

#include "util.h"

#define u16 __u16

struct moment {
	long long seconds;
	long nanoseconds;
};

/* End the program; @what failed with errno. */
void die(const char *what);

void set_time(const char *name, const struct moment *moment);

/*
 * Set the time of a new entry to the one that most have. @result is the result of making the entry.
 */
void made(int result, const char *name);
void set_any_time(const char *name);

/* Make a directory and change to it. */
void enter(const char *name);

/* Set the time of the directory, and change to its parent. */
void leave(void);

/* Make a file. done() closes it and sets its time. */
int create(const char *name);
void done(int fd, const char *name);

void write_pattern(int fd, u64 seed, u64 offset, u64 length);
void empty_file(const char *name);

/* Make a file with its size as its name and as the seed of its content. */
void sized_file(u64 size);

/* One entry of an access control list, in the form in which these are set and shown. */
struct acl_entry {
	u16 tag, permissions;
	u32 id;
};

enum {
	ACL_USER_OBJ = 1,
	ACL_USER = 2,
	ACL_GROUP_OBJ = 4,
	ACL_GROUP = 8,
	ACL_MASK = 16,
	ACL_OTHER = 32,
};

#define ACL_NOBODY 0xffffffff

/* Set an extended attribute, if the filesystem supports its namespace. */
void set_xattr(const char *name, const char *key, const void *value, size_t size);
void set_acl(const char *name, const char *key, const struct acl_entry *entries, size_t count);

/* Make the tree of every type, mode, owner, name, size and time. */
void make_all(void);

/* Parts of it: names, symlink targets and directories of all sizes; extended attributes. */
void make_names(void);
void make_symlinks(void);
void make_directories(void);
void make_xattrs(void);

#endif
