// SPDX-License-Identifier: GPL-2.0
/*
 * Images that mount and lie: every wrong record is an error of the object that it belongs to, and
 * of nothing else. The checksums are made right again, so that nothing but the driver's own checks
 * stands in the way.
 *
 * Group: modules
 * Machine: cpus=2 virtio-pmem=scratch
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "image.h"
#include "ktap.h"
#include "util.h"

static const char *device, *mnt;
static struct image good;

/* Mounts @image, for this process only. */
static void mount_image(const struct image *image)
{
	image_write(image, device);
	REQUIRE(!unshare(CLONE_NEWNS));
	REQUIRE(!mount(device, mnt, "daxfs", MS_RDONLY, NULL));
	REQUIRE(!chdir(mnt));
}

static void seal_and_mount(struct image *image)
{
	image_seal(image);
	mount_image(image);
}

/* Everything that was not touched is still there. */
static void rest_is_good(void)
{
	char buffer[5000];
	struct stat stat;
	int fd = open("good", O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0 && read(fd, buffer, sizeof(buffer)) == 5000 &&
	      pattern_matches(buffer, 5000, 5, 0));
	CHECK(readlink("link", buffer, sizeof(buffer)) == 4 && !memcmp(buffer, "good", 4));
	CHECK(!lstat("null", &stat) && S_ISCHR(stat.st_mode));
	CHECK_FAILS(lstat("not there", &stat), ENOENT);
	close(fd);
}

/* Lists a directory; returns the number of names, and the errno in *error. */
static int list(const char *path, int *error)
{
	DIR *dir = opendir(path);
	int count = 0;

	REQUIRE(dir);
	errno = 0;
	while (readdir(dir) && count < 100000)
		count++;
	*error = errno;
	closedir(dir);
	return count;
}

static void listing_is(const char *path, int want)
{
	int error;

	list(path, &error);
	CHECK_EQ(error, want);
}

/* One damaged inode, which cannot be reached; its directory can. */
static void refused_inode(const char *path, void (*damage)(struct inode *inode))
{
	struct image image = image_copy(&good);
	struct stat stat;
	pid_t pid;
	int status;

	damage(image_inode(&image, image_entry(&image, path)->ino));
	pid = fork();
	if (!pid) {
		seal_and_mount(&image);
		CHECK_FAILS(lstat(path, &stat), EUCLEAN);
		CHECK_FAILS(open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK), EUCLEAN);
		CHECK_FAILS(lstat(path, &stat), EUCLEAN);
		listing_is(".", 0);
		rest_is_good();
		fflush(stdout);
		_exit(ktap_point->failed);
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	image_free(&image);
}

#define DAMAGE(name, statement) \
	static void name(struct inode *inode) \
	{ \
		statement; \
	}

DAMAGE(no_type, inode->mode = 0644)
DAMAGE(unknown_type, inode->mode = 0xf1a4)
DAMAGE(other_type, inode->mode = (inode->mode & 07777) | 0x1000)
DAMAGE(no_links, inode->nlink = 0)
DAMAGE(too_many_nanoseconds, inode->mtime_nsec = 1000000000)
DAMAGE(xattrs_nowhere, inode->xattrs = 0xffffffff)

static void any_inode(void)
{
	static const char *const paths[] = { "file", "dir", "link2", "fifo", "other" };

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		refused_inode(paths[i], no_type);
		refused_inode(paths[i], unknown_type);
		refused_inode(paths[i], no_links);
		refused_inode(paths[i], too_many_nanoseconds);
		refused_inode(paths[i], xattrs_nowhere);
	}
	refused_inode("file", other_type);
	refused_inode("dir", other_type);
	refused_inode("link2", other_type);
}

DAMAGE(data_unaligned, inode->data += 1)
DAMAGE(data_in_metadata, inode->data = 4096)
DAMAGE(data_in_superblock, inode->data = 0)
DAMAGE(data_beyond, inode->data = 1ULL << 40)
DAMAGE(data_overflows, inode->data = 0xfffffffffffff000)
DAMAGE(size_beyond, inode->size = 1ULL << 40)
DAMAGE(size_negative, inode->size = 1ULL << 63)
DAMAGE(size_maximal, inode->size = ~0ULL)
DAMAGE(size_over_limit, inode->size = INT64_MAX)

static void files(void)
{
	refused_inode("file", data_unaligned);
	refused_inode("file", data_in_metadata);
	refused_inode("file", data_in_superblock);
	refused_inode("file", data_beyond);
	refused_inode("file", data_overflows);
	refused_inode("file", size_beyond);
	refused_inode("file", size_negative);
	refused_inode("file", size_maximal);
	refused_inode("file", size_over_limit);
}

DAMAGE(target_empty, inode->size = 0)
DAMAGE(target_too_long, inode->size = 4096)
DAMAGE(target_beyond, inode->data = 1 << 30)
DAMAGE(target_overflows, inode->data = ~0ULL)

static void symlinks(void)
{
	refused_inode("link2", target_empty);
	refused_inode("link2", target_too_long);
	refused_inode("link2", target_beyond);
	refused_inode("link2", target_overflows);
}

DAMAGE(entries_beyond, inode->data = 1ULL << 40)
DAMAGE(entries_overflow, inode->data = ~0ULL)
DAMAGE(entries_in_part, inode->size -= 1)
DAMAGE(entries_too_many, inode->size = 16ULL << 32)
DAMAGE(entries_maximal, inode->size = ~15ULL)
DAMAGE(parent_wrong, inode->parent += 1)
DAMAGE(position_wrong, inode->position += 1)
DAMAGE(own_parent, inode->position = 0xffffffff)

static void directories(void)
{
	refused_inode("dir", entries_beyond);
	refused_inode("dir", entries_overflow);
	refused_inode("dir", entries_in_part);
	refused_inode("dir", entries_too_many);
	refused_inode("dir", entries_maximal);
	refused_inode("dir", parent_wrong);
	refused_inode("dir", position_wrong);
	refused_inode("dir", own_parent);
}

DAMAGE(major_too_large, inode->data = 1ULL << 44)
DAMAGE(minor_too_large, inode->data = 1ULL << 32 | 1 << 20)
DAMAGE(size_of_nothing, inode->size = 1)

static void special_files(void)
{
	refused_inode("fifo", size_of_nothing);
}

static void device_numbers(void)
{
	void (*const damages[])(struct inode *inode) = { major_too_large, minor_too_large };

	for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
		struct image image = image_copy(&good);
		struct stat stat;
		int status;
		pid_t pid;

		damages[i](image_inode(&image, image_entry(&image, "null")->ino));
		pid = fork();
		if (!pid) {
			seal_and_mount(&image);
			CHECK_FAILS(lstat("null", &stat), EUCLEAN);
			CHECK(!lstat("file", &stat));
			_exit(ktap_point->failed);
		}
		waitpid(pid, &status, 0);
		CHECK_EQ(status, 0);
	}
}

static void nul_in_target(void)
{
	struct image image = image_copy(&good);
	struct inode *inode = image_inode(&image, image_entry(&image, "link2")->ino);
	struct stat stat;

	image.bytes[image.super->names.offset + inode->data + 1] = 0;
	seal_and_mount(&image);
	CHECK_FAILS(lstat("link2", &stat), EUCLEAN);
	CHECK_FAILS(open("link2", O_RDONLY), EUCLEAN);
	rest_is_good();
}

/* A damaged entry: what happens to its name, and to the listing of its directory. */
static void entry_case(void (*damage)(struct image *image), const char *path, int error,
		       int listing)
{
	struct image image = image_copy(&good);
	struct stat stat;
	pid_t pid;
	int status;

	damage(&image);
	pid = fork();
	if (!pid) {
		seal_and_mount(&image);
		CHECK_FAILS(lstat(path, &stat), error);
		listing_is("dir", listing);
		rest_is_good();
		fflush(stdout);
		_exit(ktap_point->failed);
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	image_free(&image);
}

static void inode_zero(struct image *image)
{
	image_entry(image, "dir/sub")->ino = 0;
}

static void inode_beyond(struct image *image)
{
	image_entry(image, "dir/sub")->ino = 0xffffffff;
}

static void entry_type_wrong(struct image *image)
{
	image_entry(image, "dir/sub")->file_type = 8;
}

static void entry_type_unknown(struct image *image)
{
	image_entry(image, "dir/sub")->file_type = 3;
}

static void name_beyond(struct image *image)
{
	image_entry(image, "dir/sub")->name_high = 0xffff;
}

static void name_empty(struct image *image)
{
	image_entry(image, "dir/sub")->name_len = 0;
}

static void directory_linked_twice(struct image *image)
{
	image_entry(image, "dir/sub")->ino = image_entry(image, "other")->ino;
}

static void directory_in_itself(struct image *image)
{
	image_entry(image, "dir/sub")->ino = image_entry(image, "dir")->ino;
}

static void root_in_directory(struct image *image)
{
	image_entry(image, "dir/sub")->ino = image->super->root;
}

static void entries(void)
{
	entry_case(inode_zero, "dir/sub", EUCLEAN, EUCLEAN);
	entry_case(inode_beyond, "dir/sub", EUCLEAN, EUCLEAN);
	entry_case(entry_type_wrong, "dir/sub", EUCLEAN, 0);
	entry_case(entry_type_unknown, "dir/sub", EUCLEAN, EUCLEAN);
	entry_case(name_beyond, "dir/sub", EUCLEAN, EUCLEAN);
	entry_case(name_empty, "dir/sub", EUCLEAN, EUCLEAN);
}

static void loops(void)
{
	entry_case(directory_linked_twice, "dir/sub", EUCLEAN, 0);
	entry_case(directory_in_itself, "dir/sub", EUCLEAN, 0);
	entry_case(root_in_directory, "dir/sub", EUCLEAN, 0);
}

static void name_slash(struct image *image)
{
	image_name(image, image_entry(image, "dir/sub"))[1] = '/';
}

static void name_nul(struct image *image)
{
	image_name(image, image_entry(image, "dir/sub"))[1] = 0;
}

static void name_dot(struct image *image)
{
	struct dirent_record *entry = image_entry(image, "dir/sub");

	entry->name_len = 1;
	image_name(image, entry)[0] = '.';
}

static void name_dot_dot(struct image *image)
{
	struct dirent_record *entry = image_entry(image, "dir/sub");

	entry->name_len = 2;
	memcpy(image_name(image, entry), "..", 2);
}

static void names(void)
{
	entry_case(name_slash, "dir/sub", ENOENT, EUCLEAN);
	entry_case(name_nul, "dir/sub", ENOENT, EUCLEAN);
	entry_case(name_dot, "dir/sub", ENOENT, EUCLEAN);
	entry_case(name_dot_dot, "dir/sub", ENOENT, EUCLEAN);
}

/* Entries out of order are not found, or found; nothing else may happen. */
static void order(void)
{
	struct image image = image_copy(&good);
	struct dirent_record *first =
		(struct dirent_record *)(image.bytes + image.super->dirents.offset) +
		image_inode(&image, image_entry(&image, "dir")->ino)->data;
	unsigned int count =
		image_inode(&image, image_entry(&image, "dir")->ino)->size / sizeof(*first);
	char name[NAME_MAX + 1];
	struct stat stat;

	for (unsigned int i = 0; i < count / 2; i++) {
		struct dirent_record swap = first[i];

		first[i] = first[count - 1 - i];
		first[count - 1 - i] = swap;
	}
	for (unsigned int i = 0; i < count; i += 3)
		first[i].hash = 0x80000000;
	seal_and_mount(&image);
	REQUIRE(!chdir("dir"));
	for (unsigned int i = 0; i < 20; i++) {
		many_name(name, i);
		CHECK(!lstat(name, &stat) || errno == ENOENT || errno == EUCLEAN);
	}
	REQUIRE(!chdir(".."));
	rest_is_good();
}

/* The set of "labelled": user.a, an access control list, trusted.b. */
static struct xattr_set *labels(struct image *image)
{
	return image_xattrs(image, image_inode(image, image_entry(image, "labelled")->ino));
}

static struct xattr_entry *label(struct image *image, unsigned int number)
{
	struct xattr_entry *entry = (struct xattr_entry *)(labels(image) + 1);

	while (number--)
		entry = (void *)((char *)entry +
				 ((sizeof(*entry) + entry->name_len + entry->value_len + 3) & ~3));
	return entry;
}

/* What reading user.a, the list of names, trusted.b, and opening as a user, come to. */
static void xattr_case(void (*damage)(struct image *image), int get, int list_error, int last,
		       int acl)
{
	struct image image = image_copy(&good);
	char value[1 << 16];
	pid_t pid;
	int status;

	damage(&image);
	pid = fork();
	if (!pid) {
		struct stat stat;

		seal_and_mount(&image);
		CHECK(!lstat("labelled", &stat));
#define GIVES(call, error) (((call) < 0 ? errno : 0) == (error))
		CHECK(GIVES(getxattr("labelled", "user.a", value, sizeof(value)), get));
		CHECK(GIVES(getxattr("labelled", "user.a", NULL, 0), get));
		CHECK(GIVES(listxattr("labelled", value, sizeof(value)), list_error));
		CHECK(GIVES(listxattr("labelled", NULL, 0), list_error));
		CHECK(GIVES(getxattr("labelled", "trusted.b", value, sizeof(value)), last));
		/* Nobody gets in on a list that cannot be read. */
		REQUIRE(!setresgid(1000, 1000, 1000) && !setresuid(1000, 1000, 1000));
		CHECK(GIVES(open("labelled", O_RDONLY), acl));
		CHECK(GIVES(access("labelled", R_OK), acl));
		rest_is_good();
		fflush(stdout);
		_exit(ktap_point->failed);
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	image_free(&image);
}

#define SPOIL(name, statement) \
	static void name(struct image *image) \
	{ \
		statement; \
	}

SPOIL(nothing, (void)image)
SPOIL(set_too_long, labels(image)->length = 0xffffffff)
SPOIL(set_empty, labels(image)->length = 0)
SPOIL(set_ends_early, labels(image)->length = 20)
SPOIL(count_maximal, labels(image)->count = 0xffffffff)
SPOIL(count_over_limit, labels(image)->count = 65536 / 7 + 1)
SPOIL(count_too_large, labels(image)->count++)
SPOIL(value_too_long, label(image, 2)->value_len = 1 << 16)
SPOIL(value_negative, label(image, 0)->value_len = 0xffffffff)
SPOIL(prefix_unknown, label(image, 0)->prefix = 5)
SPOIL(name_is_empty, label(image, 2)->name_len = 0)
SPOIL(name_has_nul, memset(label(image, 2) + 1, 0, 1))
SPOIL(acl_with_name, (label(image, 1)->name_len++, label(image, 1)->value_len--))
SPOIL(acl_version, ((u32 *)(label(image, 1) + 1))[0] = 3)
SPOIL(acl_tag, ((u32 *)(label(image, 1) + 1))[1] = 3)
SPOIL(acl_without_owner, ((u32 *)(label(image, 1) + 1))[1] = 0x40020)
SPOIL(acl_in_part, label(image, 1)->value_len -= 4)
SPOIL(acl_permissions, ((u32 *)(label(image, 1) + 1))[1] = 0x80001)

static void extended_attributes(void)
{
	const int bad = EUCLEAN;

	xattr_case(nothing, 0, 0, 0, 0);
	xattr_case(set_too_long, bad, bad, bad, bad);
	xattr_case(set_empty, bad, bad, bad, bad);
	xattr_case(set_ends_early, 0, bad, bad, bad);
	xattr_case(count_maximal, bad, bad, bad, bad);
	xattr_case(count_over_limit, bad, bad, bad, bad);
	xattr_case(count_too_large, 0, bad, 0, 0);
	xattr_case(value_too_long, 0, bad, bad, 0);
	xattr_case(value_negative, bad, bad, bad, bad);
	xattr_case(prefix_unknown, bad, bad, bad, bad);
	xattr_case(name_is_empty, 0, bad, ENODATA, 0);
	xattr_case(name_has_nul, 0, bad, bad, 0);
	xattr_case(acl_version, 0, 0, 0, bad);
	xattr_case(acl_tag, 0, 0, 0, bad);
	xattr_case(acl_without_owner, 0, 0, 0, bad);
	xattr_case(acl_permissions, 0, 0, 0, bad);
}

/* Here the entries behind the list move as well, to where there are none. */
static void access_control_lists(void)
{
	struct image image = image_copy(&good);
	char value[100];

	acl_in_part(&image);
	seal_and_mount(&image);
	REQUIRE(!setresgid(1000, 1000, 1000) && !setresuid(1000, 1000, 1000));
	CHECK_FAILS(open("labelled", O_RDONLY), EUCLEAN);
	CHECK_FAILS(getxattr("labelled", "system.posix_acl_access", value, sizeof(value)),
		    EUCLEAN);
	rest_is_good();
}

static void list_with_a_name(void)
{
	struct image image = image_copy(&good);

	acl_with_name(&image);
	seal_and_mount(&image);
	REQUIRE(!setresgid(1000, 1000, 1000) && !setresuid(1000, 1000, 1000));
	/* Not the list of the file, so only its mode counts. */
	CHECK_FAILS(open("labelled", O_RDONLY), EACCES);
	rest_is_good();
}

/* Opens inode @ino by a handle; the generation is the start of the image's SHA-256. */
static int open_inode(const struct image *image, u32 ino, u32 parent)
{
	struct {
		struct file_handle head;
		u32 ino, generation, parent, parent_generation;
	} handle = { .head = { parent ? 16 : 8, parent ? 0x10002 : 1 }, .ino = ino };
	int dir = open(mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd, error;

	memcpy(&handle.generation, image->super->sha256, 4);
	handle.parent = parent;
	handle.parent_generation = handle.generation;
	fd = open_by_handle_at(dir, &handle.head, O_RDONLY | O_CLOEXEC);
	error = errno;
	close(dir);
	errno = error;
	return fd;
}

/* A directory that is opened by its handle must be where it says that it is. */
static void handle_case(void (*damage)(struct image *image), const char *path)
{
	struct image image = image_copy(&good);
	u32 ino = image_entry(&image, path)->ino;
	pid_t pid;
	int status;

	damage(&image);
	pid = fork();
	if (!pid) {
		seal_and_mount(&image);
		for (int i = 0; i < 2; i++)
			CHECK_FAILS(open_inode(&image, ino, 0), ESTALE);
		listing_is(".", 0);
		rest_is_good();
		fflush(stdout);
		_exit(ktap_point->failed);
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	image_free(&image);
}

static struct inode *inode_at(struct image *image, const char *path)
{
	return image_inode(image, image_entry(image, path)->ino);
}

/* dir holds sub, and sub holds dir: nothing leads there from the root. */
static void circle(struct image *image)
{
	struct dirent_record *leaf = image_entry(image, "dir/sub/leaf");

	inode_at(image, "dir")->parent = image_entry(image, "dir/sub")->ino;
	inode_at(image, "dir")->position = 0;
	leaf->ino = image_entry(image, "dir")->ino;
	leaf->file_type = S_IFDIR >> 12;
}

static void parent_of_itself(struct image *image)
{
	inode_at(image, "dir")->parent = image_entry(image, "dir")->ino;
}

static void parent_is_a_file(struct image *image)
{
	inode_at(image, "dir")->parent = image_entry(image, "file")->ino;
}

static void parent_beyond(struct image *image)
{
	inode_at(image, "dir")->parent = 0xffffffff;
}

static void parent_nothing(struct image *image)
{
	inode_at(image, "dir")->parent = 0;
}

static void place_beyond(struct image *image)
{
	inode_at(image, "dir")->position = 1000;
}

static void place_of_another(struct image *image)
{
	inode_at(image, "dir")->position ^= 1;
}

static void name_with_slash(struct image *image)
{
	image_name(image, image_entry(image, "dir"))[1] = '/';
}

static void handles(void)
{
	struct image image = image_copy(&good);
	u32 file = image_entry(&image, "file")->ino, dir = image_entry(&image, "dir")->ino;

	handle_case(circle, "dir");
	handle_case(circle, "dir/sub");
	handle_case(parent_of_itself, "dir");
	handle_case(parent_of_itself, "dir/sub");
	handle_case(parent_is_a_file, "dir");
	handle_case(parent_beyond, "dir");
	handle_case(parent_nothing, "dir");
	handle_case(place_beyond, "dir");
	handle_case(place_of_another, "dir");
	seal_and_mount(&image);
	CHECK(open_inode(&image, file, 0) >= 0);
	CHECK(open_inode(&image, dir, 0) >= 0);
	CHECK(open_inode(&image, image_entry(&image, "dir/sub")->ino, 0) >= 0);
	CHECK(open_inode(&image, image.super->root, 0) >= 0);
	CHECK_FAILS(open_inode(&image, file, dir), ESTALE);
	CHECK_FAILS(open_inode(&image, file, file), ESTALE);
}

/* The name that connects a directory is one that no name may be; here the listing fails, too. */
static void handle_and_name(void)
{
	struct image image = image_copy(&good);
	u32 ino = image_entry(&image, "dir")->ino;

	name_with_slash(&image);
	seal_and_mount(&image);
	CHECK_FAILS(open_inode(&image, ino, 0), ESTALE);
	listing_is(".", EUCLEAN);
	rest_is_good();
}

/* The line in the log tells the device, the inode and the place, and there are not many of them. */
static void log_lines(void)
{
	struct image image = image_copy(&good);
	u32 ino = image_entry(&image, "file")->ino;
	char line[500] = "", want[64];
	struct stat stat;
	int kmsg = kmsg_open();
	unsigned int count;

	no_links(image_inode(&image, ino));
	seal_and_mount(&image);
	sleep(6); /* until the lines of the points before are forgotten */
	kmsg_count(kmsg, "daxfs", NULL, 0);
	CHECK_FAILS(lstat("file", &stat), EUCLEAN);
	CHECK_EQ(kmsg_count(kmsg, "link count of zero", line, sizeof(line)), 1);
	printf("# %s\n", line);
	snprintf(want, sizeof(want), "inode %u", ino);
	CHECK(!strncmp(line, "daxfs: ", 7) && strstr(line, want) &&
	      strstr(line, strrchr(device, '/') + 1));
	for (int i = 0; i < 300; i++)
		CHECK_FAILS(lstat("file", &stat), EUCLEAN);
	count = kmsg_count(kmsg, "link count of zero", NULL, 0);
	printf("# %u lines for 300 errors\n", count);
	CHECK(count < 30);
}

int main(void)
{
	static const struct ktap_test tests[] = {
		{ "inodes of any type", any_inode },
		{ "regular files", files },
		{ "symlinks", symlinks },
		{ "a NUL in a symlink", nul_in_target },
		{ "directories", directories },
		{ "special files", special_files },
		{ "device numbers", device_numbers },
		{ "directory entries", entries },
		{ "loops and hard links of directories", loops },
		{ "names", names },
		{ "entries out of order", order },
		{ "extended attributes", extended_attributes },
		{ "access control lists", access_control_lists },
		{ "an access control list with a name", list_with_a_name },
		{ "handles of directories that are elsewhere", handles },
		{ "a handle of a directory with a bad name", handle_and_name },
		{ "lines in the log", log_lines },
	};

	device = fixture_device("scratch");
	mnt = private_mount_point();
	good = image_load_small();
	return ktap_run(tests, ARRAY_SIZE(tests));
}
