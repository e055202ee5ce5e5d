// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files that have a size and no data cannot be opened. overlayfs joins them with data of another image.
 *
 * Group: modules
 * Machine: cpus=2 virtio-pmem=scratch
 */
#include <sys/xattr.h>

#include "source.h"

/* Files of these sizes, and a program. */
static const u64 sizes[] = { 1, 100, 4097, HUGE_SIZE + 5 };

static char metadata[PATH_MAX], objects[PATH_MAX], overlay[PATH_MAX], program_path[PATH_MAX];

/* Make a directory below the work directory. */
static void directory(char path[PATH_MAX], const char *name)
{
	snprintf(path, PATH_MAX, "%s/%s", work_dir(), name);
	REQUIRE(!mkdir(path, 0755) || errno == EEXIST);
}

/* Make a file of @size bytes that refers to the object @name. */
static void add_file(int dir, const char *name, u64 size)
{
	char redirect[300];
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);

	snprintf(redirect, sizeof(redirect), "/objects/%s", name);
	REQUIRE(fd >= 0 && !ftruncate(fd, size));
	REQUIRE(!fsetxattr(fd, "trusted.overlay.metacopy", "", 0, 0));
	REQUIRE(!fsetxattr(fd, "trusted.overlay.redirect", redirect, strlen(redirect), 0));
	close(fd);
}

static void add_object(int dir, const char *name, u64 size)
{
	char *content = malloc(size);
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);

	pattern_fill(content, size, size, 0);
	REQUIRE(fd >= 0 && write(fd, content, size) == (ssize_t)size);
	close(fd);
	free(content);
}

/* Take the data away from all files of an image. */
static void remove_data(struct image *image)
{
	u64 count = image->super->inodes.length / sizeof(struct inode);

	for (u64 ino = 1; ino <= count; ino++) {
		struct inode *inode = image_inode(image, ino);

		if (!S_ISREG(inode->mode) || !inode->size)
			continue;
		inode->flags = INODE_METADATA_ONLY;
		inode->data = 0;
		inode->original = 0;
	}
	image->super->incompat = INCOMPAT_METADATA_ONLY;
	image_seal(image);
}

static void mount_images(void)
{
	char source[PATH_MAX], target[PATH_MAX], name[32], image_path[PATH_MAX];
	int meta_dir, object_dir;
	struct image image;
	struct stat stat;

	directory(source, "metadata-source");
	meta_dir = open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	directory(target, "objects-source");
	directory(target, "objects-source/objects");
	object_dir = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		snprintf(name, sizeof(name), "%llu", sizes[i]);
		add_file(meta_dir, name, sizes[i]);
		add_object(object_dir, name, sizes[i]);
	}
	snprintf(program_path, sizeof(program_path), "%s/helper", program_dir());
	REQUIRE(!lstat(program_path, &stat));
	add_file(meta_dir, "program", stat.st_size);
	REQUIRE(!run_command("cp '%s' '%s/program'", program_path, target));
	add_file(meta_dir, "missing", 10);
	close(meta_dir);
	close(object_dir);

	directory(metadata, "metadata");
	snprintf(image_path, sizeof(image_path), "%s/metadata.daxfs", work_dir());
	REQUIRE(!run_command("mkdaxfs --quiet --force '%s' '%s'", source, image_path));
	image = image_load(image_path);
	remove_data(&image);
	REQUIRE(source_mount(source_named("memfd"), &image, metadata));
	image_free(&image);

	directory(objects, "objects");
	snprintf(image_path, sizeof(image_path), "%s/objects.daxfs", work_dir());
	REQUIRE(!run_command("mkdaxfs --quiet --force '%s/objects-source' '%s'", work_dir(), image_path));
	image = image_load(image_path);
	REQUIRE(source_mount(source_named("memfd"), &image, objects));
	image_free(&image);
	directory(overlay, "composed");
}

POINT(stat_shows, "stat(2) shows the size and no blocks")
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		char path[PATH_MAX + 32], value[100] = "", want[100];
		struct stat stat;

		snprintf(path, sizeof(path), "%s/%llu", metadata, sizes[i]);
		REQUIRE(!lstat(path, &stat));
		CHECK_EQ(stat.st_size, sizes[i]);
		CHECK_EQ(stat.st_blocks, 0);
		CHECK_EQ(stat.st_mode, S_IFREG | 0755);
		snprintf(want, sizeof(want), "/objects/%llu", sizes[i]);
		CHECK(getxattr(path, "trusted.overlay.redirect", value, sizeof(value)) > 0 &&
		      !strcmp(value, want));
	}
}

POINT(open_fails, "open(2) and execve(2) fail with EOPNOTSUPP")
{
	static const int flags[] = { O_RDONLY, O_RDONLY | O_DIRECT, O_RDONLY | O_NONBLOCK | O_NOFOLLOW };
	char path[PATH_MAX + 32], *arguments[] = { "program", NULL };
	struct { struct file_handle handle; char bytes[MAX_HANDLE_SZ]; } handle;
	int fd, dir, id;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		snprintf(path, sizeof(path), "%s/%llu", metadata, sizes[i]);
		for (size_t j = 0; j < ARRAY_SIZE(flags); j++)
			CHECK_FAILS(open(path, flags[j] | O_CLOEXEC), EOPNOTSUPP);
		CHECK_FAILS(open(path, O_RDWR | O_CLOEXEC), EROFS);
		fd = open(path, O_PATH | O_CLOEXEC);
		CHECK(fd >= 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		CHECK_FAILS(open(path, O_RDONLY | O_CLOEXEC), EOPNOTSUPP);
		close(fd);
	}
	snprintf(path, sizeof(path), "%s/program", metadata);
	CHECK_FAILS(execv(path, arguments), EOPNOTSUPP);
	handle.handle.handle_bytes = MAX_HANDLE_SZ;
	REQUIRE(!name_to_handle_at(AT_FDCWD, path, &handle.handle, &id, 0));
	dir = open(metadata, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK_FAILS(open_by_handle_at(dir, &handle.handle, O_RDONLY | O_CLOEXEC), EOPNOTSUPP);
	close(dir);
}

/* Check all files of the overlay, and unmount it. */
static void check_overlay(void)
{
	char path[PATH_MAX + 32], command[PATH_MAX + 64];

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		char *content = malloc(sizes[i]), *shared, *private;
		struct stat stat;
		int fd;

		snprintf(path, sizeof(path), "%s/%llu", overlay, sizes[i]);
		REQUIRE(!lstat(path, &stat));
		CHECK_EQ(stat.st_size, sizes[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		REQUIRE(fd >= 0);
		CHECK_EQ(read(fd, content, sizes[i]), sizes[i]);
		CHECK(pattern_matches(content, sizes[i], sizes[i], 0));
		shared = mmap(NULL, sizes[i], PROT_READ, MAP_SHARED, fd, 0);
		private = mmap(NULL, sizes[i], PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
		REQUIRE(shared != MAP_FAILED && private != MAP_FAILED);
		CHECK(pattern_matches(shared, sizes[i], sizes[i], 0));
		private[0] ^= 1;
		CHECK(pattern_matches(shared, sizes[i], sizes[i], 0));
		munmap(shared, sizes[i]);
		munmap(private, sizes[i]);
		close(fd);
		free(content);
	}
	snprintf(command, sizeof(command), "'%s/program'; test $? = 42", overlay);
	CHECK(!system(command));
	snprintf(command, sizeof(command), "cmp '%s/program' '%s'", overlay, program_path);
	CHECK(!system(command));
	snprintf(path, sizeof(path), "%s/missing", overlay);
	CHECK(open(path, O_RDONLY | O_CLOEXEC) < 0);
	CHECK(!umount(overlay));
}

POINT(composed, "overlayfs with layers given by fsconfig(2)")
{
	int context = syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);

	if (context < 0)
		SKIP("needs overlayfs");
	REQUIRE(!context_set(context, FSCONFIG_SET_STRING, "lowerdir+", metadata, 0));
	REQUIRE(!context_set(context, FSCONFIG_SET_STRING, "datadir+", objects, 0));
	REQUIRE(context_mount(context, overlay));
	check_overlay();
}

POINT(composed_by_text, "overlayfs with layers given in one option")
{
	char options[3 * PATH_MAX];

	snprintf(options, sizeof(options), "lowerdir=%s::%s", metadata, objects);
	if (mount("overlay", overlay, "overlay", MS_RDONLY, options)) {
		if (errno == ENODEV)
			SKIP("needs overlayfs");
		REQUIRE(!"mounted");
	}
	check_overlay();
}

POINT(copied_up, "a file is copied to an upper layer when it is written")
{
	char options[6 * PATH_MAX], upper[PATH_MAX], path[PATH_MAX + 32];
	char content[4100];
	int fd;

	directory(upper, "upper");
	directory(path, "upper/work");
	directory(upper, "upper/files");
	snprintf(options, sizeof(options), "lowerdir=%s::%s,upperdir=%s,workdir=%s/upper/work", metadata,
		 objects, upper, work_dir());
	if (mount("overlay", overlay, "overlay", 0, options)) {
		if (errno == ENODEV)
			SKIP("needs overlayfs");
		REQUIRE(!"mounted");
	}
	snprintf(path, sizeof(path), "%s/4097", overlay);
	fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
	REQUIRE(fd >= 0);
	CHECK_EQ(write(fd, "end", 3), 3);
	CHECK_EQ(pread(fd, content, sizeof(content), 0), 4100);
	CHECK(pattern_matches(content, 4097, 4097, 0) && !memcmp(content + 4097, "end", 3));
	close(fd);
	CHECK(!umount(overlay));
}

int main(void)
{
	fixture_device("scratch");
	private_mount_point();
	if (system("command -v mkdaxfs >/dev/null"))
		ktap_skip_all("needs mkdaxfs");
	REQUIRE(!run_command("modprobe -q overlay || true"));
	mount_images();
	return ktap_run();
}
