// SPDX-License-Identifier: GPL-2.0-only
/*
 * Make a tree for an image. The same call makes the same tree.
 */
#include <sys/sysmacros.h>

#include "mktree.h"

/* Make a file of more than 4 GiB with data around every power of two that could be a limit. */
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
	set_any_time(".");
}

/* Make a small tree, for images that are damaged on purpose. */
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
	set_any_time("labelled");
	set_any_time(".");
}

/* Make a tree of one file that fills several pieces. */
static void make_signed(void)
{
	int fd = create("large");

	write_pattern(fd, 3 * HUGE_SIZE, 0, 3 * HUGE_SIZE);
	done(fd, "large");
	set_any_time(".");
}

int main(int argc, char **argv)
{
	static const char usage[] =
		"Usage: mktree all|big|signed|small DIR\n"
		"\n"
		"Makes DIR, which must not exist, and fills it:\n"
		"  all    every type, mode, owner, name, size and time (as root)\n"
		"  big    a sparse file of over 4 GiB\n"
		"  signed a file of 6 MiB\n"
		"  small  a few files, as root\n";
	static const struct {
		const char *name;
		void (*make)(void);
	} kinds[] = {
		{ "all", make_all },
		{ "big", make_big },
		{ "signed", make_signed },
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
