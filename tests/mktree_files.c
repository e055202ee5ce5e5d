// SPDX-License-Identifier: GPL-2.0-only
/* How mktree makes files. */
#include <sys/xattr.h>

#include "mktree.h"

/* The time of all entries for which no other is set. */
static const struct moment any_time = { 1600000000, 987654321 };

void die(const char *what)
{
	fprintf(stderr, "mktree: %s: %s\n", what, strerror(errno));
	exit(1);
}

void set_time(const char *name, const struct moment *moment)
{
	const struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ moment->seconds, moment->nanoseconds },
	};

	if (utimensat(AT_FDCWD, name, times, AT_SYMLINK_NOFOLLOW))
		die(name);
}

void made(int result, const char *name)
{
	if (result)
		die(name);
	set_time(name, &any_time);
}

void set_any_time(const char *name)
{
	set_time(name, &any_time);
}

void enter(const char *name)
{
	if (mkdir(name, 0755) || chdir(name))
		die(name);
}

void leave(void)
{
	set_time(".", &any_time);
	if (chdir(".."))
		die("..");
}

int create(const char *name)
{
	int fd = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);

	if (fd < 0)
		die(name);
	return fd;
}

void write_pattern(int fd, u64 seed, u64 offset, u64 length)
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

void done(int fd, const char *name)
{
	close(fd);
	made(0, name);
}

void empty_file(const char *name)
{
	done(create(name), name);
}

void sized_file(u64 size)
{
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "%llu", (unsigned long long)size);
	fd = create(name);
	write_pattern(fd, size, 0, size);
	done(fd, name);
}

void set_xattr(const char *name, const char *key, const void *value, size_t size)
{
	if (lsetxattr(name, key, value, size, 0) && errno != EOPNOTSUPP)
		die(key);
}

void set_acl(const char *name, const char *key, const struct acl_entry *entries,
	     size_t count)
{
	char value[200] = { 2 }; /* the version */

	memcpy(value + 4, entries, count * sizeof(*entries));
	set_xattr(name, key, value, 4 + count * sizeof(*entries));
}
