// SPDX-License-Identifier: GPL-2.0-only
/*
 * Loop devices over files of an image, with and without direct I/O, and a filesystem on one of
 * them.
 *
 * Group: vfs
 */
#include <linux/loop.h>
#include <sys/ioctl.h>

#include "source.h"

#define SIZE (1UL << 20)

static struct image image;
static const char *mnt;

/* Make an image of two files: a pattern, and a filesystem that holds a file with a pattern. */
static void make_image(void)
{
	char tree[PATH_MAX], path[PATH_MAX], *content = malloc(SIZE);
	bool made;
	int fd;

	snprintf(tree, sizeof(tree), "%s/loopback", work_dir());
	made = !run_command("rm -rf '%s' && mkdir -p '%s/inner'", tree, tree);
	snprintf(path, sizeof(path), "%s/inner/pattern", tree);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	pattern_fill(content, SIZE, 1, 0);
	REQUIRE(fd >= 0 && write(fd, content, SIZE) == (ssize_t)SIZE);
	close(fd);
	made = made && !run_command("cd '%s' && mkfs.ext4 -q -O ^has_journal -d inner ext4 4M && mv inner/pattern . && rmdir inner",
				    tree);
	made = made && !run_command("mkdaxfs --quiet '%s' '%s.daxfs'", tree, tree);
	if (!made)
		ktap_skip_all("needs mkdaxfs and mkfs.ext4");
	snprintf(path, sizeof(path), "%s.daxfs", tree);
	image = image_load(path);
	REQUIRE(!run_command("rm -rf '%s' '%s.daxfs'", tree, tree));
	free(content);
}

/* Mount the image from a memfd for this point. */
static void mount_image(void)
{
	const struct source *source = sources;
	int fd;

	while (strcmp(source->name, "memfd"))
		source++;
	fd = source->make(source, &image);
	REQUIRE(fd >= 0);
	REQUIRE(context_mount(source_context(source, fd), mnt));
	close(fd);
}

/*
 * Close @fd after setting up a loop device over it, which goes away when @device is closed. Return 0
 * or an errno.
 */
static int attach_file(int fd, unsigned int flags, int *device, char node[32])
{
	struct loop_config config = {
		.fd = fd, .info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_READ_ONLY | flags };
	int control, error;

	if (access("/dev/loop-control", F_OK) && system("modprobe -q loop"))
		SKIP("needs loop devices");
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	snprintf(node, 32, "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
	close(control);
	*device = open(node, O_RDONLY | O_CLOEXEC);
	REQUIRE(*device >= 0);
	error = ioctl(*device, LOOP_CONFIGURE, &config) ? errno : 0;
	close(fd);
	return error;
}

/* The same over the file @name. */
static int attach(const char *name, unsigned int flags, int *device, char node[32])
{
	return attach_file(open_in(mnt, name, O_RDONLY), flags, device, node);
}

static bool is_direct(int device)
{
	struct loop_info64 info;

	REQUIRE(!ioctl(device, LOOP_GET_STATUS64, &info));
	return info.lo_flags & LO_FLAGS_DIRECT_IO;
}

static void good(int device)
{
	char *buffer = malloc(SIZE);

	CHECK_EQ(pread(device, buffer, SIZE, 0), SIZE);
	CHECK(pattern_matches(buffer, SIZE, 1, 0));
	free(buffer);
}

POINT(plain, "loop device")
{
	char node[32];
	int device;

	mount_image();
	REQUIRE(attach("pattern", 0, &device, node) == 0);
	good(device);
}

POINT(direct, "loop device with direct I/O")
{
	char node[32], *buffer = aligned_alloc(4096, 4096);
	int device, sectors;

	mount_image();
	REQUIRE(attach("pattern", LO_FLAGS_DIRECT_IO, &device, node) == 0);
	CHECK(is_direct(device));
	good(device);
	/* Read with and without direct I/O of the loop device. */
	sectors = open(node, O_RDONLY | O_DIRECT | O_CLOEXEC);
	REQUIRE(sectors >= 0);
	CHECK_EQ(pread(sectors, buffer, 1024, 512 * 7), 1024);
	CHECK(pattern_matches(buffer, 1024, 1, 512 * 7));
}

POINT(switched, "loop device that is switched to direct I/O")
{
	char node[32];
	int device;

	mount_image();
	REQUIRE(attach("pattern", 0, &device, node) == 0);
	CHECK(!ioctl(device, LOOP_SET_DIRECT_IO, 1UL));
	CHECK(is_direct(device));
	good(device);
	CHECK(!ioctl(device, LOOP_SET_DIRECT_IO, 0UL));
	CHECK(!is_direct(device));
}

/* A file that is mapped, and mapped through the descriptor that the device gets. */
POINT(mapped, "loop device over a mapped file")
{
	int fd, device;
	char node[32];
	char *address;

	mount_image();
	fd = open_in(mnt, "pattern", O_RDONLY);
	address = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	REQUIRE(address != MAP_FAILED);
	CHECK(pattern_matches(address, SIZE, 1, 0));
	REQUIRE(attach_file(fd, 0, &device, node) == 0);
	good(device);
}

/* The same with losetup(8). */
POINT(by_losetup, "losetup --direct-io=on")
{
	char command[PATH_MAX];

	mount_image();
	snprintf(command, sizeof(command),
		 "set -e; d=$(losetup -f -r --show --direct-io=on '%s/pattern'); trap \"losetup -d $d\" EXIT; cmp $d '%s/pattern'",
		 mnt, mnt);
	CHECK_EQ(system(command), 0);
}

POINT(file_system, "a file system on one with direct I/O")
{
	char node[32], dir[PATH_MAX], path[PATH_MAX + 16];
	int device, fd;

	mount_image();
	REQUIRE(attach("ext4", LO_FLAGS_DIRECT_IO, &device, node) == 0);
	snprintf(dir, sizeof(dir), "%s/inner", work_dir());
	mkdir(dir, 0755);
	if (mount(node, dir, "ext4", MS_RDONLY, NULL)) {
		if (errno == ENODEV)
			SKIP("needs ext4");
		REQUIRE(!"mounted");
	}
	snprintf(path, sizeof(path), "%s/pattern", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	good(fd);
	close(fd);
	CHECK(!umount(dir));
}

int main(void)
{
	mnt = private_mount_point();
	make_image();
	return ktap_run();
}
