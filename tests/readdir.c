// SPDX-License-Identifier: GPL-2.0-only
/*
 * getdents64: every entry once, cursors, small buffers.
 *
 * Group: files
 */
#include <dirent.h>

#include "util.h"

static const char *mnt;

struct record {
	u64 ino;
	s64 next;
	unsigned short length;
	unsigned char type;
	char name[];
};

struct list {
	unsigned int count;
	struct {
		char *name;
		u64 ino;
		s64 next; /* the cookie after this entry */
	} entries[4000];
};

/* Read entries from the current position of @fd, with a buffer of @size bytes. */
static struct list *list(int fd, size_t size)
{
	struct list *list = calloc(1, sizeof(*list));
	char *buffer = malloc(size);
	long length;

	while ((length = syscall(SYS_getdents64, fd, buffer, size)) > 0)
		for (long at = 0; at < length;) {
			struct record *record = (struct record *)(buffer + at);

			REQUIRE(list->count < ARRAY_SIZE(list->entries));
			list->entries[list->count].name = strdup(record->name);
			list->entries[list->count].ino = record->ino;
			list->entries[list->count++].next = record->next;
			at += record->length;
		}
	if (length < 0)
		printf("# getdents64: %s\n", strerror(errno));
	CHECK(length == 0);
	free(buffer);
	return list;
}

static void free_list(struct list *list)
{
	for (unsigned int i = 0; i < list->count; i++)
		free(list->entries[i].name);
	free(list);
}

/* Return true if @part is @whole from entry @start on. */
static bool is_rest(const struct list *part, const struct list *whole, unsigned int start)
{
	if (part->count != whole->count - start) {
		printf("# from entry %u of %u: %u entries\n", start, whole->count, part->count);
		return false;
	}
	for (unsigned int i = 0; i < part->count; i++)
		if (strcmp(part->entries[i].name, whole->entries[start + i].name))
			return false;
	return true;
}

static int compare_names(const void *left, const void *right)
{
	return strcmp(*(char **)left, *(char **)right);
}

static bool no_duplicates(const struct list *list)
{
	char *names[ARRAY_SIZE(list->entries)];

	for (unsigned int i = 0; i < list->count; i++)
		names[i] = list->entries[i].name;
	qsort(names, list->count, sizeof(names[0]), compare_names);
	for (unsigned int i = 1; i < list->count; i++)
		if (!strcmp(names[i - 1], names[i]))
			return false;
	return true;
}

static const unsigned int counts[] = { 0, 1, 2, 3, 4, 5, 15, 16, 17, 31, 63, 64, 65, 300, 3000 };

static int open_counted(unsigned int count)
{
	char path[64];

	snprintf(path, sizeof(path), "directories/%u", count);
	return open_in(mnt, path, O_RDONLY | O_DIRECTORY);
}

POINT(complete, "complete and without duplicates")
{
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		int fd = open_counted(counts[i]);
		struct list *all = list(fd, 32768);

		CHECK_EQ(all->count, counts[i] + 2);
		CHECK(no_duplicates(all));
		CHECK(!strcmp(all->entries[0].name, "."));
		CHECK(!strcmp(all->entries[1].name, ".."));
		free_list(all);
		close(fd);
	}
}

/* Reading from every cookie gives the entries after it. */
POINT(cursors, "reading from every cookie")
{
	static const unsigned int some[] = { 0, 1, 5, 17, 65, 300 };

	for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
		int fd = open_counted(some[i]);
		struct list *all = list(fd, 32768);

		for (unsigned int j = 0; j < all->count; j++) {
			struct list *rest;

			CHECK_EQ(lseek(fd, all->entries[j].next, SEEK_SET), all->entries[j].next);
			rest = list(fd, 32768);
			CHECK(is_rest(rest, all, j + 1));
			free_list(rest);
		}
		free_list(all);
		close(fd);
	}
}

/* Cookies belong to the directory, not to the open file. */
POINT(cursors_survive_reopening, "cookies survive close and open")
{
	int fd = open_counted(300), other;
	struct list *all = list(fd, 32768), *rest;

	close(fd);
	for (unsigned int j = 0; j < all->count; j += 37) {
		other = open_counted(300);
		CHECK_EQ(lseek(other, all->entries[j].next, SEEK_SET), all->entries[j].next);
		rest = list(other, 280);
		CHECK(is_rest(rest, all, j + 1));
		free_list(rest);
		close(other);
	}
	free_list(all);
}

POINT(small_buffers, "buffers of every size")
{
	static const size_t sizes[] = { 280, 281, 300, 512, 1000, 4096, 65536 };
	int fd = open_counted(300);
	struct list *all = list(fd, 32768);

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct list *again;

		CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
		again = list(fd, sizes[i]);
		CHECK(is_rest(again, all, 0));
		free_list(again);
	}
	free_list(all);
	close(fd);
}

/* A buffer that is too small for the next name gives EINVAL and skips nothing. */
POINT(too_small_buffer, "a buffer too small for a name")
{
	int fd = open_in(mnt, "names/long", O_RDONLY | O_DIRECTORY);
	struct list *all = list(fd, 32768), *again;
	char buffer[64];
	long length;

	lseek(fd, 0, SEEK_SET);
	length = syscall(SYS_getdents64, fd, buffer, sizeof(buffer)); /* `.` and `..` */
	CHECK_EQ(length, 48);
	CHECK_FAILS(syscall(SYS_getdents64, fd, buffer, sizeof(buffer)), EINVAL);
	again = list(fd, 4096);
	CHECK(is_rest(again, all, 2));
	CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
	CHECK_FAILS(syscall(SYS_getdents64, fd, nowhere, 4096), EFAULT);
}

POINT(rewinding, "rewinding")
{
	int fd = open_counted(65);
	struct list *first = list(fd, 400), *second;

	CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
	second = list(fd, 400);
	CHECK(is_rest(second, first, 0));
}

POINT(strange_offsets, "strange offsets")
{
	int fd = open_counted(17);
	struct list *rest;

	CHECK_FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
	CHECK(lseek(fd, 1000, SEEK_SET) == 1000);
	rest = list(fd, 4096);
	CHECK_EQ(rest->count, 0);
	if (lseek(fd, INT64_MAX, SEEK_SET) == INT64_MAX) {
		rest = list(fd, 4096);
		CHECK_EQ(rest->count, 0);
	}
	if (lseek(fd, 1LL << 32, SEEK_SET) == 1LL << 32) {
		rest = list(fd, 4096);
		CHECK_EQ(rest->count, 0);
	}
}

/* Two open files of one directory do not disturb one another. */
POINT(two_readers, "two readers of one directory")
{
	int one = open_counted(64), two = open_counted(64);
	char buffer[600];
	struct list *rest, *all;

	CHECK(syscall(SYS_getdents64, one, buffer, sizeof(buffer)) > 0);
	all = list(two, 4096);
	CHECK_EQ(all->count, 66);
	rest = list(one, 4096);
	CHECK(rest->count < 66 && is_rest(rest, all, 66 - rest->count));
}

POINT(dot_entries, "inode numbers of . and ..")
{
	int fd = open_in(mnt, "types/directory", O_RDONLY | O_DIRECTORY);
	struct list *all = list(fd, 4096);
	struct stat self, parent;

	REQUIRE(!fstat(fd, &self) && !fstatat(fd, "..", &parent, 0));
	CHECK_EQ(all->entries[0].ino, self.st_ino);
	CHECK_EQ(all->entries[1].ino, parent.st_ino);
	fd = open_in(mnt, ".", O_RDONLY | O_DIRECTORY);
	all = list(fd, 4096);
	REQUIRE(!fstat(fd, &self));
	CHECK_EQ(all->entries[0].ino, self.st_ino);
}

POINT(not_a_file, "a directory is not a file")
{
	int fd = open_counted(1);
	char byte;

	CHECK_FAILS(read(fd, &byte, 1), EISDIR);
	CHECK_FAILS(pread(fd, &byte, 1, 0), EISDIR);
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED);
	CHECK_FAILS(openat(fd, "first", O_RDONLY | O_DIRECTORY), ENOTDIR);
	CHECK(!fsync(fd) || errno == EINVAL); /* as on EROFS and squashfs */
}

int main(void)
{
	mnt = fixture_mount("tree");
	return ktap_run();
}
