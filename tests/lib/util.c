// SPDX-License-Identifier: GPL-2.0-only
/* Functions that the programs of tests share. */
#include "util.h"

bool write_text(const char *path, const char *format, ...)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), length;
	char text[512];
	va_list values;
	bool written;

	va_start(values, format);
	length = vsnprintf(text, sizeof(text), format, values);
	va_end(values);
	written = fd >= 0 && write(fd, text, length) == length;
	close(fd);
	return written;
}

const char *program_dir(void)
{
	static char path[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (length < 0)
		return ".";
	path[length] = 0;
	*strrchr(path, '/') = 0;
	return path;
}

int open_in(const char *mount, const char *path, int flags)
{
	int dir = open(mount, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = openat(dir, path, flags | O_CLOEXEC);

	if (fd < 0)
		printf("# %s/%s: %s\n", mount, path, strerror(errno));
	REQUIRE(fd >= 0);
	close(dir);
	return fd;
}

size_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

size_t page_round(size_t size)
{
	return (size + page_size() - 1) / page_size() * page_size();
}

/* SplitMix64: each 8 bytes of a pattern depend on nothing but their position. */
static u64 pattern_word(u64 seed, u64 index)
{
	u64 z = (seed ^ 0x6461786673746573ull) + (index + 1) * 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

void pattern_fill(void *buffer, size_t length, u64 seed)
{
	for (size_t at = 0; at < length; at += 8) {
		u64 word = pattern_word(seed, at / 8);

		memcpy((char *)buffer + at, &word, length - at < 8 ? length - at : 8);
	}
}
