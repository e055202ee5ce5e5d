// SPDX-License-Identifier: GPL-2.0
/*
 * Makes a tree of everything that a file system can hold: every file type, every permission,
 * owners, times, sizes and names from one end of their ranges to the other. The same call makes the
 * same tree.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "util.h"

#define u16 __u16

static void die(const char *what)
{
	fprintf(stderr, "mktree: %s: %s\n", what, strerror(errno));
	exit(1);
}

struct moment {
	long long seconds;
	long nanoseconds;
};

/* Whatever has no time of its own has this one. */
static const struct moment any_time = { 1600000000, 987654321 };

static void set_time(const char *name, const struct moment *moment)
{
	const struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ moment->seconds, moment->nanoseconds },
	};

	if (utimensat(AT_FDCWD, name, times, AT_SYMLINK_NOFOLLOW))
		die(name);
}

/* Gives what was just made its time. */
static void made(int result, const char *name)
{
	if (result)
		die(name);
	set_time(name, &any_time);
}

/* The tree is made with short relative names, one directory after the other. */
static void enter(const char *name)
{
	if (mkdir(name, 0755) || chdir(name))
		die(name);
}

static void leave(void)
{
	set_time(".", &any_time);
	if (chdir(".."))
		die("..");
}

static int create(const char *name)
{
	int fd = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);

	if (fd < 0)
		die(name);
	return fd;
}

static void write_pattern(int fd, u64 seed, u64 offset, u64 length)
{
	static char buffer[1 << 16];

	while (length) {
		size_t part = length < sizeof(buffer) ? length : sizeof(buffer);

		pattern_fill(buffer, part, seed, offset);
		if (pwrite(fd, buffer, part, offset) != (ssize_t)part)
			die("write");
		offset += part;
		length -= part;
	}
}

/* Ends the making of a file. */
static void done(int fd, const char *name)
{
	close(fd);
	made(0, name);
}

static void empty_file(const char *name)
{
	done(create(name), name);
}

/* A file named after its size, whose content has the size as its seed. */
static void sized_file(u64 size)
{
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "%llu", (unsigned long long)size);
	fd = create(name);
	write_pattern(fd, size, 0, size);
	done(fd, name);
}

static void make_sizes(void)
{
	static const u64 sizes[] = {
		0, 1, 7, 63, 64, 65, 511, 512, 4095, 4096, 4097, 8191, 8192, 12345, 65535, 65536,
		65537, 1000000, HUGE_SIZE - 4096, HUGE_SIZE - 1, HUGE_SIZE, HUGE_SIZE + 1,
		2 * HUGE_SIZE - 1, 2 * HUGE_SIZE + 4096, 64UL << 20,
	};

	enter("sizes");
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		sized_file(sizes[i]);
	leave();
}

/* A file of holes with data here and there. */
static void make_sparse(void)
{
	static const u64 places[] = { 0, 4096 + 5, HUGE_SIZE - 3, 2 * HUGE_SIZE,
				      3 * HUGE_SIZE + 12288 };
	int fd;

	enter("sparse");
	fd = create("islands");
	if (ftruncate(fd, 4 * HUGE_SIZE + 123))
		die("islands");
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		write_pattern(fd, 1, places[i], 10);
	done(fd, "islands");
	fd = create("hole");
	if (ftruncate(fd, 3 * HUGE_SIZE + 1))
		die("hole");
	done(fd, "hole");
	leave();
}

static void make_types(void)
{
	const dev_t devices[] = {
		makedev(0, 0),	   makedev(1, 3),	   makedev(8, 255),	makedev(255, 0),
		makedev(256, 256), makedev(4095, 1048575), makedev(0, 1048575), makedev(4095, 0),
	};
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "socket" };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char name[32];

	enter("types");
	enter("directory");
	leave();
	empty_file("regular");
	made(bind(fd, (struct sockaddr *)&address, sizeof(address)), "socket");
	close(fd);
	made(mkfifo("fifo", 0640), "fifo");
	made(symlink("regular", "symlink"), "symlink");
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
		snprintf(name, sizeof(name), "char-%u-%u", major(devices[i]), minor(devices[i]));
		made(mknod(name, S_IFCHR | 0600, devices[i]), name);
		snprintf(name, sizeof(name), "block-%u-%u", major(devices[i]), minor(devices[i]));
		made(mknod(name, S_IFBLK | 0660, devices[i]), name);
	}
	/* Hard links of every type that has them, within a directory and between two. */
	if (link("regular", "regular-link") || link("regular", "directory/regular-link") ||
	    link("fifo", "directory/fifo-link") || link("socket", "socket-link") ||
	    link("char-1-3", "char-link") || link("symlink", "symlink-link"))
		die("link");
	set_time("directory", &any_time);
	leave();
}

static void make_modes(void)
{
	char name[32];

	enter("modes");
	for (unsigned int bit = 0; bit <= 12; bit++) {
		unsigned int modes[] = { (1U << bit) & 07777, 07777 & ~(1U << bit) };

		for (int i = 0; i < 2; i++) {
			snprintf(name, sizeof(name), "file-%04o", modes[i]);
			if (access(name, F_OK)) {
				empty_file(name);
				if (chmod(name, modes[i]))
					die(name);
			}
			snprintf(name, sizeof(name), "dir-%04o", modes[i]);
			if (access(name, F_OK))
				made(mkdir(name, 0) || chmod(name, modes[i]), name);
		}
	}
	leave();
}

static void make_owners(void)
{
	static const u32 ids[] = {
		0, 1, 1000, 65534, 65535, 65536, 0x7fffffff, 0x80000000, 0xfffffffe,
	};
	char name[32];

	enter("owners");
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		snprintf(name, sizeof(name), "%u", ids[i]);
		empty_file(name);
		if (lchown(name, ids[i], ids[ARRAY_SIZE(ids) - 1 - i]))
			die(name);
	}
	made(symlink("0", "link") || lchown("link", 7, 0xfffffffe), "link");
	leave();
}

static void make_names(void)
{
	static const char *const odd[] = {
		" ", "  ", "-rf", "--help", "...", "..x", ".x", ".hidden", "a b", "a\nb", "\n", "\t",
		"'", "\"", "\\", "*", "%s%n", "$(false)", "A", "a", "con.", "~", "\xc3\xa9",
		"e\xcc\x81", "\xff\xfe", "\xed\xa0\x80", "\xe2\x80\xae.txt", "\xf0\x9f\x92\xbe",
	};
	char name[NAME_MAX + 1];

	enter("names");
	enter("odd");
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++)
		empty_file(odd[i]);
	leave();
	enter("bytes"); /* every byte that a name may consist of */
	for (int byte = 1; byte < 256; byte++) {
		snprintf(name, sizeof(name), "%c", byte);
		if (byte != '/' && byte != '.')
			empty_file(name);
	}
	leave();
	enter("lengths"); /* all of them the start of one another */
	memset(name, 'n', NAME_MAX);
	for (int length = 1; length <= NAME_MAX; length++) {
		name[length] = 0;
		empty_file(name);
		name[length] = 'n';
	}
	leave();
	enter("long"); /* 255 bytes of any value, and a pair that differs in the last byte */
	name[NAME_MAX] = 0;
	for (int i = 0; i < 100; i++) {
		pattern_fill(name, NAME_MAX, i, 0);
		for (int j = 0; j < NAME_MAX; j++)
			if (!name[j] || name[j] == '/')
				name[j] = 'x';
		empty_file(name);
		name[NAME_MAX - 1] ^= 0x80;
		if (name[NAME_MAX - 1] && name[NAME_MAX - 1] != '/')
			empty_file(name);
	}
	memset(name, 0xff, NAME_MAX);
	empty_file(name);
	leave();
	leave();
}

static void make_symlinks(void)
{
	static const int lengths[] = { 1, 2, 15, 16, 59, 60, 61, 255, 256, 1023, 4094, 4095 };
	char target[4096], name[32];

	enter("symlinks");
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		for (int j = 0; j < lengths[i]; j++)
			target[j] = pattern_byte(i, j) ? pattern_byte(i, j) : 1;
		target[lengths[i]] = 0;
		snprintf(name, sizeof(name), "length-%d", lengths[i]);
		made(symlink(target, name), name);
	}
	made(symlink("loop", "loop"), "loop");
	made(symlink("/no/such/place", "absolute"), "absolute");
	made(symlink("../names/odd", "up"), "up");
	made(symlink(" ", "blank"), "blank");
	made(symlink("a\nb", "newline"), "newline");
	made(symlink("../sizes/4097", "file"), "file");
	leave();
}

static void make_directories(void)
{
	static const unsigned int counts[] = {
		0, 1, 2, 3, 4, 5, 15, 16, 17, 31, 63, 64, 65, 300, 3000,
	};
	char name[NAME_MAX + 1];

	enter("directories");
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		snprintf(name, sizeof(name), "%u", counts[i]);
		enter(name);
		for (unsigned int j = 0; j < counts[i]; j++) {
			many_name(name, j);
			if (j == 0)
				empty_file("first");
			else if (link("first", name))
				die(name);
		}
		leave();
	}
	enter("deep"); /* far deeper than a path can say */
	memset(name, 'd', NAME_MAX);
	name[NAME_MAX] = 0;
	for (int i = 0; i < 100; i++)
		enter(i % 4 ? "d" : name);
	sized_file(5000);
	for (int i = 0; i < 100; i++)
		leave();
	leave();
	leave();
}

/* Not every file system that this tree is made on takes every kind. */
static void set_xattr(const char *name, const char *key, const void *value, size_t size)
{
	if (lsetxattr(name, key, value, size, 0) && errno != EOPNOTSUPP)
		die(key);
}

/* One entry of the form in which access control lists are set and shown. */
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

static void set_acl(const char *name, const char *key, const struct acl_entry *entries,
		    size_t count)
{
	char value[200] = { 2 }; /* the version */

	memcpy(value + 4, entries, count * sizeof(*entries));
	set_xattr(name, key, value, 4 + count * sizeof(*entries));
}

/* More names and longer ones than others have. */
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
	set_time("many", &any_time);
	set_time("long", &any_time);
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
	set_time("100", &any_time);
	enter("closed");
	sized_file(10);
	set_acl(".", "system.posix_acl_access", closed, ARRAY_SIZE(closed));
	set_acl(".", "system.posix_acl_default", shared, ARRAY_SIZE(shared));
	leave();
	leave();
}

static void make_xattrs(void)
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

static const struct moment moments[] = {
	{ -2208988800, 0 }, /* 1900 */
	{ -2147483649, 999999999 },
	{ -2147483648, 0 }, /* 1901 */
	{ -1, 999999999 },
	{ -1, 0 },
	{ 0, 0 },
	{ 0, 1 },
	{ 1, 0 },
	{ 1700000000, 123456789 },
	{ 2147483647, 999999999 },
	{ 2147483648, 0 }, /* 2038 */
	{ 4294967295, 999999999 },
	{ 4294967296, 1 }, /* 2106 */
	{ 15032385535, 999999999 },
	{ 15032385536, 0 }, /* 2446 */
	{ 253402300800, 1 }, /* 10000 */
};

static void make_times(void)
{
	char name[64];

	enter("times");
	for (size_t i = 0; i < ARRAY_SIZE(moments); i++) {
		static const char *const kinds[] = { "file", "dir", "link", "fifo" };

		for (int kind = 0; kind < 4; kind++) {
			snprintf(name, sizeof(name), "%s%+lld.%09ld", kinds[kind],
				 moments[i].seconds, moments[i].nanoseconds);
			switch (kind) {
			case 0:
				empty_file(name);
				break;
			case 1:
				enter(name);
				leave();
				break;
			case 2:
				if (symlink("x", name))
					die(name);
				break;
			default:
				if (mkfifo(name, 0600))
					die(name);
			}
			set_time(name, &moments[i]);
		}
	}
	leave();
}

/* The groups' own directories come last: what was made in them touched their times. */
static void set_group_times(void)
{
	static const char *const groups[] = {
		"sizes",    "sparse",	   "types",  "modes", "owners", "names",
		"symlinks", "directories", "xattrs", "times", ".",
	};

	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		set_time(groups[i], &moments[i]);
}

static void make_all(void)
{
	make_sizes();
	make_sparse();
	make_types();
	make_modes();
	make_owners();
	make_names();
	make_symlinks();
	make_directories();
	make_xattrs();
	make_times();
	set_group_times();
}

/* A file that reaches over 4 GiB with data around every power of two that could be a limit. */
static void make_big(void)
{
	static const u64 places[] = { 0, (1UL << 31) - 8, (1UL << 32) - 8,
				      (1UL << 32) + HUGE_SIZE - 3 };
	int fd = create("big");

	if (ftruncate(fd, (1UL << 32) + 2 * HUGE_SIZE + 5))
		die("big");
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		write_pattern(fd, 4, places[i], 16);
	write_pattern(fd, 4, (1UL << 32) + 2 * HUGE_SIZE - 11, 16);
	done(fd, "big");
	set_time(".", &any_time);
}

static void make_many(void)
{
	char name[NAME_MAX + 1];

	for (unsigned int i = 0; i < 100000; i++) {
		many_name(name, i);
		empty_file(name);
	}
	set_time(".", &any_time);
}

/* A small tree, for images that are damaged on purpose. */
static void make_small(void)
{
	static const struct acl_entry private[] = {
		{ ACL_USER_OBJ, 6, ACL_NOBODY }, { ACL_USER, 4, 1000 },
		{ ACL_GROUP_OBJ, 4, ACL_NOBODY }, { ACL_MASK, 4, ACL_NOBODY },
		{ ACL_OTHER, 0, ACL_NOBODY },
	};
	int fd;

	enter("dir");
	enter("sub");
	empty_file("leaf");
	leave();
	for (unsigned int i = 0; i < 20; i++) {
		char name[NAME_MAX + 1];

		many_name(name, i);
		empty_file(name);
	}
	leave();
	enter("other");
	leave();
	fd = create("file");
	write_pattern(fd, 6, 0, 6000);
	done(fd, "file");
	fd = create("good");
	write_pattern(fd, 5, 0, 5000);
	done(fd, "good");
	made(symlink("good", "link"), "link");
	made(symlink("file", "link2"), "link2");
	made(mkfifo("fifo", 0600), "fifo");
	made(mknod("null", S_IFCHR | 0666, makedev(1, 3)), "null");
	empty_file("labelled");
	set_xattr("labelled", "user.a", "1", 1);
	set_acl("labelled", "system.posix_acl_access", private, ARRAY_SIZE(private));
	set_xattr("labelled", "trusted.b", "22", 2);
	set_time("labelled", &any_time);
	set_time(".", &any_time);
}

int main(int argc, char **argv)
{
	static const char usage[] =
		"Usage: mktree all|big|many|small DIR\n"
		"\n"
		"Makes DIR, which must not exist, and fills it:\n"
		"  all    every type, mode, owner, name, size and time (as root)\n"
		"  big    a sparse file of over 4 GiB\n"
		"  many   a directory of 100,000 files\n"
		"  small  a few files, as root\n";
	static const struct {
		const char *name;
		void (*make)(void);
	} kinds[] = {
		{ "all", make_all },
		{ "big", make_big },
		{ "many", make_many },
		{ "small", make_small },
	};

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(usage, stdout);
		return 0;
	}
	for (size_t i = 0; argc == 3 && i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(argv[1], kinds[i].name)) {
			umask(0);
			enter(argv[2]);
			kinds[i].make();
			return 0;
		}
	fputs(usage, stderr);
	return 2;
}
