// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prints one line for each entry below a directory with all that a file system can say about it, so
 * that two trees are equal exactly if their manifests are. Columns, separated by tabs:
 *
 *   path  type+mode  uid  gid  size  mtime  nlink  device or symlink target  checksum  first name
 *   extended attributes
 *
 * The first name is the path at which the inode of a hard link was seen first. Of the extended attributes
 * there is the number and a checksum of all names and values, in the order of the names.
 */
#include <ctype.h>
#include <dirent.h>
#include <search.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "util.h"

static bool count_links;
static int status;

struct node {
	struct stat stat;
	char *path; /* escaped */
	char *target;
	u64 checksum;
	unsigned int xattr_count;
	u64 xattrs;
	unsigned int links; /* names seen of this inode, or directories in this one */
	struct node *first; /* first entry of the same inode */
};

static struct node **entries;
static size_t entry_count;
static void *inodes;

static void complain(const char *path, const char *what)
{
	fprintf(stderr, "manifest: %s: %s: %s\n", path, what, strerror(errno));
	status = 1;
}

/* Escape @text: printable, without tabs and line ends, and different for different bytes. */
static char *escape(const char *bytes, size_t length)
{
	char *text = malloc(length * 4 + 1), *end = text;

	for (size_t i = 0; i < length; i++) {
		unsigned char byte = bytes[i];

		if (isgraph(byte) && byte != '\\')
			*end++ = byte;
		else
			end += sprintf(end, "\\%03o", byte);
	}
	*end = 0;
	return text;
}

/* Changing one word always changes the sum; changing several almost certainly does. */
static u64 checksum(int dir, const char *name, const char *path)
{
	static u64 buffer[1 << 15];
	u64 sum = 0;
	ssize_t length;
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		complain(path, "open");
		return 0;
	}
	while ((length = read(fd, buffer, sizeof(buffer))) > 0) {
		memset((char *)buffer + length, 0, -length & 7);
		for (ssize_t i = 0; i < (length + 7) / 8; i++) {
			sum = (sum ^ buffer[i]) * 0x9e3779b97f4a7c15ull;
			sum ^= sum >> 29;
		}
	}
	if (length < 0)
		complain(path, "read");
	close(fd);
	return sum;
}

static u64 mix(u64 sum, const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		sum = (sum ^ (unsigned char)bytes[i]) * 0x9e3779b97f4a7c15ull;
		sum ^= sum >> 29;
	}
	return sum;
}

static int compare_names(const void *left, const void *right)
{
	return strcmp(*(char **)left, *(char **)right);
}

/* No call takes a directory and a name; a path in /proc does the same. */
static void read_xattrs(int dir, const char *name, struct node *entry)
{
	static char list[XATTR_LIST_MAX], value[XATTR_SIZE_MAX], *keys[XATTR_LIST_MAX / 2];
	ssize_t length, size;
	char from[40] = "", *path;

	if (dir != AT_FDCWD)
		snprintf(from, sizeof(from), "/proc/self/fd/%d/", dir);
	if (asprintf(&path, "%s%s", from, name) < 0)
		abort();
	length = llistxattr(path, list, sizeof(list));
	if (length < 0 && errno != EOPNOTSUPP)
		complain(entry->path, "listxattr");
	for (char *key = list; key < list + length; key += strlen(key) + 1)
		keys[entry->xattr_count++] = key;
	qsort(keys, entry->xattr_count, sizeof(*keys), compare_names);
	for (unsigned int i = 0; i < entry->xattr_count; i++) {
		size = lgetxattr(path, keys[i], value, sizeof(value));
		if (size < 0)
			complain(entry->path, keys[i]);
		entry->xattrs = mix(entry->xattrs, keys[i], strlen(keys[i]) + 1);
		entry->xattrs = mix(entry->xattrs, (char *)&size, sizeof(size));
		entry->xattrs = mix(entry->xattrs, value, size > 0 ? size : 0);
	}
	free(path);
}

static int compare_inodes(const void *left, const void *right)
{
	const struct node *a = left, *b = right;

	if (a->stat.st_dev != b->stat.st_dev)
		return a->stat.st_dev < b->stat.st_dev ? -1 : 1;
	if (a->stat.st_ino != b->stat.st_ino)
		return a->stat.st_ino < b->stat.st_ino ? -1 : 1;
	return 0;
}

static int compare_paths(const void *left, const void *right)
{
	return strcmp((*(struct node **)left)->path, (*(struct node **)right)->path);
}

static struct node *add(int dir, const char *name, char *path)
{
	struct node *entry = calloc(1, sizeof(*entry)), **first;
	char target[4097];
	ssize_t length;

	entry->path = path;
	if (fstatat(dir, name, &entry->stat, AT_SYMLINK_NOFOLLOW)) {
		complain(path, "stat");
		return NULL;
	}
	if (S_ISLNK(entry->stat.st_mode)) {
		length = readlinkat(dir, name, target, sizeof(target));
		if (length < 0)
			complain(path, "readlink");
		entry->target = escape(target, length < 0 ? 0 : length);
	}
	read_xattrs(dir, name, entry);
	first = tsearch(entry, &inodes, compare_inodes);
	entry->first = *first;
	if (S_ISDIR(entry->stat.st_mode))
		entry->links = 2;
	else
		entry->first->links++;
	if (S_ISREG(entry->stat.st_mode) && entry->first == entry)
		entry->checksum = checksum(dir, name, path);
	entries = realloc(entries, (entry_count + 1) * sizeof(*entries));
	entries[entry_count++] = entry;
	return entry;
}

static void walk(int dir, const char *name, struct node *self)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *dirent;

	if (!stream) {
		complain(self->path, "open");
		return;
	}
	while (errno = 0, dirent = readdir(stream)) {
		struct node *entry;
		char *leaf, *path;
		bool dots = !strcmp(dirent->d_name, ".") || !strcmp(dirent->d_name, "..");

		if (dots)
			continue;
		leaf = escape(dirent->d_name, strlen(dirent->d_name));
		if (asprintf(&path, "%s/%s", self->path, leaf) < 0)
			abort();
		free(leaf);
		entry = add(fd, dirent->d_name, path);
		if (!entry)
			continue;
		if (dirent->d_type != DT_UNKNOWN && dirent->d_type != entry->stat.st_mode >> 12) {
			fprintf(stderr, "manifest: %s: d_type %d, mode %o\n", path, dirent->d_type,
				entry->stat.st_mode);
			status = 1;
		}
		if (dirent->d_ino != entry->stat.st_ino) {
			fprintf(stderr, "manifest: %s: d_ino %lu, st_ino %lu\n", path,
				dirent->d_ino, entry->stat.st_ino);
			status = 1;
		}
		if (S_ISDIR(entry->stat.st_mode)) {
			self->links++;
			walk(fd, dirent->d_name, entry);
		}
	}
	if (errno)
		complain(self->path, "readdir");
	closedir(stream);
}

static void print(const struct node *entry)
{
	const struct stat *stat = &entry->stat;
	bool dir = S_ISDIR(stat->st_mode);
	bool device = S_ISCHR(stat->st_mode) || S_ISBLK(stat->st_mode);
	unsigned long links = stat->st_nlink;
	char number[32];

	if (count_links)
		links = dir ? entry->links : entry->first->links;
	snprintf(number, sizeof(number), "%u,%u", major(stat->st_rdev), minor(stat->st_rdev));
	printf("%s\t%06o\t%u\t%u\t%lld\t%lld.%09ld\t%lu\t%s\t%016llx\t%s\t%u %016llx\n",
	       entry->path,
	       stat->st_mode, stat->st_uid, stat->st_gid, dir ? 0 : (long long)stat->st_size,
	       (long long)stat->st_mtim.tv_sec, stat->st_mtim.tv_nsec, links,
	       entry->target ? entry->target :
	       device	     ? number :
			       "-",
	       (unsigned long long)entry->first->checksum, entry->first->path,
	       entry->xattr_count, (unsigned long long)entry->xattrs);
}

/* The first name of a hard link must not depend on the order in which the directories were read. */
static void settle_first_names(void)
{
	void *settled = NULL;

	for (size_t i = 0; i < entry_count; i++) {
		struct node **first = tsearch(entries[i], &settled, compare_inodes);

		if (*first == entries[i]) {
			entries[i]->checksum = entries[i]->first->checksum;
			entries[i]->links = entries[i]->first->links;
		}
		entries[i]->first = *first;
	}
}

int main(int argc, char **argv)
{
	static const char usage[] =
		"Usage: manifest [--count-links] DIR\n"
		"\n"
		"Prints a line for each entry below DIR: its metadata and a checksum of its content.\n"
		"\n"
		"  --count-links  print the names seen instead of st_nlink, as not all file systems\n"
		"                 count links alike\n";
	struct node *root;

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(usage, stdout);
		return 0;
	}
	count_links = argc == 3 && !strcmp(argv[1], "--count-links");
	if (argc != 2 + count_links) {
		fputs(usage, stderr);
		return 2;
	}
	root = add(AT_FDCWD, argv[argc - 1], strdup("."));
	if (!root)
		return 1;
	walk(AT_FDCWD, argv[argc - 1], root);
	qsort(entries, entry_count, sizeof(*entries), compare_paths);
	settle_first_names();
	for (size_t i = 0; i < entry_count; i++)
		print(entries[i]);
	return status;
}
