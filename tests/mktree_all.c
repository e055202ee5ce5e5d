// SPDX-License-Identifier: GPL-2.0-only
/*
 * The generated tree: every file type, every permission, and owners, times and sizes from one end
 * of their ranges to the other.
 */
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "mktree.h"

static void make_sizes(void)
{
	static const u64 sizes[] = {
		0, 1, 7, 63, 64, 65, 511, 512, 4095, 4096, 4097, 8191, 8192, 12345, 65535, 65536,
		65537, 1000000, HUGE_SIZE - 4096, HUGE_SIZE - 1, HUGE_SIZE, HUGE_SIZE + 1,
		2 * HUGE_SIZE - 1, 2 * HUGE_SIZE + 4096, LARGE,
	};

	enter("sizes");
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		sized_file(sizes[i]);
	leave();
}

/* Make sparse files: one with some data, one with none. */
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
	set_any_time("directory");
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

/* Set the directories' times last: making entries in them has changed those. */
static void set_group_times(void)
{
	static const char *const groups[] = {
		"sizes",    "sparse",	   "types",  "modes", "owners", "names",
		"symlinks", "directories", "xattrs", "times", ".",
	};

	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		set_time(groups[i], &moments[i]);
}

void make_all(void)
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
