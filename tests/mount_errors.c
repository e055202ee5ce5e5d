// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each failure of a mount is reported: by the errno, and in the log of the mount context, or else in the kernel's.
 *
 * Group: modules
 * Machine: cpus=2 virtio-pmem=scratch
 */
#include <linux/fs.h>
#include <sched.h>
#include <sys/ioctl.h>

#include "source.h"

static const char *device;
static struct image good;

static u64 device_size(void)
{
	int fd = open(device, O_RDONLY | O_CLOEXEC);
	u64 size = 0;

	REQUIRE(!ioctl(fd, BLKGETSIZE64, &size));
	close(fd);
	return size;
}

static int set_text(int context, const char *key, const char *value)
{
	return context_set(context, FSCONFIG_SET_STRING, key, value, 0);
}

static int create(int context)
{
	return context_set(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
}

/* Mount the device. Return a file descriptor of the mount. */
static int mount_device(void)
{
	int context = context_new("source", device), mount;

	CHECK_EQ(create(context), 0);
	mount = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
	REQUIRE(mount >= 0);
	close(context);
	return mount;
}

static bool refused(const char *source, int error, const char *text)
{
	int kmsg = kmsg_open(), context = context_new("source", source);
	bool right = check_refused(create(context), error, text);

	right &= CHECK(strstr(context_log, "daxfs") && strstr(context_log, source));
	right &= CHECK_EQ(kmsg_count(kmsg, text, NULL, 0), 0);
	close(context);
	close(kmsg);
	return right;
}

#define SEALED(name, ...) SPOIL(name, __VA_ARGS__, image_seal(image))

SPOIL(no_magic, image->super->magic[0] ^= 1)
SPOIL(all_zeros, memset(image->bytes, 0, image->size))
SEALED(next_version, image->super->version = 2)
/* The version is reported, even if a future version changes everything else. */
SPOIL(strange_next_version, image->super->version = 2, memset(&image->super->block_size, 0xee, sizeof(*image->super) - 12))
SEALED(incompatible, image->super->incompat = 1ULL << 63)
SPOIL(super_checksum, image->super->label[0] ^= 1)
SPOIL(metadata_checksum, image_inode(image, 2)->uid ^= 1)
SEALED(beyond_device, image->super->total_size = device_size() + image->super->block_size)
SEALED(small_blocks, image->super->block_size = 2048)
SEALED(large_blocks, image->super->block_size = 131072)
SEALED(odd_blocks, image->super->block_size = 5000)
SEALED(no_blocks, image->super->block_size = 0)
SEALED(partial_block, image->super->total_size -= 1)
SEALED(build_time, image->super->build_nsec = 1000000000)
SEALED(inodes_over_superblock, image->super->inodes.offset = 4032)
SEALED(dirents_over_inodes, image->super->dirents.offset = image->super->inodes.offset)
SEALED(names_unaligned, image->super->names.offset += 1)
SEALED(xattrs_overflow, image->super->xattrs.length = -image->super->xattrs.offset)
SEALED(data_beyond_image, image->super->data.length = image->super->total_size)
SEALED(half_an_inode, image->super->inodes.length -= 32)
SEALED(no_root, image->super->root = 0)
SEALED(root_beyond_table, image->super->root = 0xffffffff)
SEALED(root_is_file, image->super->root = image_entry(image, "file")->ino)
SEALED(root_is_subdirectory, image->super->root = image_entry(image, "dir")->ino)
SEALED(root_has_no_type, image_inode(image, image->super->root)->mode = 0755)
SEALED(root_entries_elsewhere, image_inode(image, image->super->root)->data = 1ULL << 60)

static const struct {
	const char *name;
	void (*damage)(struct image *image);
	int error;
	const char *text;
} damages[] = {
	{ "a damaged magic number", no_magic, EINVAL, "wrong magic number" },
	{ "zeros", all_zeros, EINVAL, "wrong magic number" },
	{ "version 2", next_version, EOPNOTSUPP, "unknown format version" },
	{ "version 2 with another layout", strange_next_version, EOPNOTSUPP, "unknown format version" },
	{ "an unknown incompatible feature", incompatible, EOPNOTSUPP, "unknown incompatible feature" },
	{ "superblock checksum", super_checksum, EBADMSG, "superblock checksum mismatch" },
	{ "metadata checksum", metadata_checksum, EBADMSG, "metadata checksum mismatch" },
	{ "an image longer than the device", beyond_device, EUCLEAN, "image larger than the region" },
	{ "block size 2048", small_blocks, EOPNOTSUPP, "invalid block size" },
	{ "block size 131072", large_blocks, EOPNOTSUPP, "invalid block size" },
	{ "block size 5000", odd_blocks, EOPNOTSUPP, "invalid block size" },
	{ "block size 0", no_blocks, EOPNOTSUPP, "invalid block size" },
	{ "a size of partial blocks", partial_block, EUCLEAN, "size out of range" },
	{ "build time", build_time, EUCLEAN, "nanoseconds out of range" },
	{ "inodes over the superblock", inodes_over_superblock, EUCLEAN, "table out of place" },
	{ "entries over the inodes", dirents_over_inodes, EUCLEAN, "table out of place" },
	{ "names unaligned", names_unaligned, EUCLEAN, "table out of place" },
	{ "xattrs beyond 2^64", xattrs_overflow, EUCLEAN, "table out of place" },
	{ "data beyond the image", data_beyond_image, EUCLEAN, "table out of place" },
	{ "half an inode", half_an_inode, EUCLEAN, "table out of place" },
	{ "root inode 0", no_root, EUCLEAN, "inode number out of range" },
	{ "root inode beyond the table", root_beyond_table, EUCLEAN, "inode number out of range" },
	{ "root is a file", root_is_file, EUCLEAN, "root inode is not a root directory" },
	{ "root is a subdirectory", root_is_subdirectory, EUCLEAN, "root inode is not a root directory" },
	{ "root without a type", root_has_no_type, EUCLEAN, "invalid mode" },
	{ "root with entries elsewhere", root_entries_elsewhere, EUCLEAN, "directory entries out of place" },
};

POINT(damaged_images, "damaged images")
{
	for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
		struct image image = image_copy(&good);

		damages[i].damage(&image);
		image_write(&image, device);
		if (!refused(device, damages[i].error, damages[i].text))
			printf("# in case '%s'\n", damages[i].name);
		image_free(&image);
	}
}

/* After each refusal the device is free, and an image without errors can be mounted. */
POINT(good_again, "a good image afterwards")
{
	struct stat stat;
	int mount;

	image_write(&good, device);
	mount = mount_device();
	CHECK(!fstatat(mount, "dir/sub/leaf", &stat, 0));
	CHECK_EQ(context_log[0], 0);
}

POINT(compatible_feature, "an unknown compatible feature is accepted")
{
	struct image image = image_copy(&good);

	image.super->compat = 1ULL << 63;
	image_seal(&image);
	image_write(&image, device);
	CHECK(mount_device() >= 0);
}

POINT(unchecked_metadata, "check=none does not compare the metadata checksum")
{
	struct image image = image_copy(&good);
	int context = context_new("source", device);

	metadata_checksum(&image);
	image_write(&image, device);
	REQUIRE(!set_text(context, "check", "none"));
	CHECK_EQ(create(context), 0);
	REQUIRE(!set_text(context_new("source", device), "check", "metadata"));
}

static void mount_with_digest(const char *digest, int error, const char *text)
{
	int context = context_new("source", device);

	REQUIRE(!set_text(context, "digest", digest));
	check_refused(create(context), error, text);
	close(context);
}

POINT(digests, "digest=")
{
	image_write(&good, device);
	mount_with_digest(WRONG_DIGEST, EBADMSG, "SHA-256");
	mount_with_digest(image_digest(&good), 0, "");
}

/* Also bytes of the files and of the padding. */
POINT(digest_covers_all, "digest= covers every byte")
{
	struct image image = image_copy(&good);
	u64 data = image_inode(&image, image_entry(&image, "file")->ino)->data;
	const u64 places[] = { data, data + 5999, data + 7000, image.size - 1, 300 };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		image.bytes[places[i]] ^= 1;
		image_seal(&image);
		image_write(&image, device);
		mount_with_digest(image_digest(&good), EBADMSG, "SHA-256");
		image.bytes[places[i]] ^= 1;
	}
}

/* Each part that cannot be mounted is refused with its numbers and the reason. */
POINT(parts, "parts of the device")
{
	static const struct {
		const char *offset, *length;
		int error;
		const char *text, *values;
	} wrong[] = {
		{ "0x1001", "2M", EINVAL, "must be multiples of the page size", "fsoffset=0x1001,fslength=0x200000" },
		{ "2M", "100", EINVAL, "must be multiples of the page size", "fslength=0x64" },
		{ "0", "0", EINVAL, "the length not 0", "fsoffset=0x0,fslength=0x0" },
		{ "0xfffffffffffff000", "8K", EINVAL, "ends after the memory", "fsoffset=0xfffffffffffff000" },
		{ "0xfffffffffffff000", "4K", EINVAL, "ends after the memory", "fslength=0x1000" },
		{ "2M", "1T", EINVAL, "ends after the device, which has 0x", "fslength=0x10000000000" },
		{ "1T", "2M", EINVAL, "ends after the device, which has 0x", "fsoffset=0x10000000000" },
		{ "2M", NULL, EINVAL, "need each other", "" },
		{ NULL, "2M", EINVAL, "need each other", "" },
		{ "2M", "2M", EINVAL, "wrong magic number", "" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		int context = context_new("source", device);

		if (wrong[i].offset)
			REQUIRE(!set_text(context, "fsoffset", wrong[i].offset));
		if (wrong[i].length)
			REQUIRE(!set_text(context, "fslength", wrong[i].length));
		check_refused(create(context), wrong[i].error, wrong[i].text);
		CHECK(strstr(context_log, wrong[i].values));
		close(context);
	}
}

/* A catalogue is refused as an image. The message names the programs that read it. */
POINT(catalogue, "a catalogue")
{
	struct image image = image_copy(&good);

	memcpy(image.super->magic, "\211daxcat\n", 8);
	image_write(&image, device);
	refused(device, EMEDIUMTYPE, "mount.daxfs and 'daxfs mount' find the image");
	image_free(&image);
}

POINT(device_without_dax, "a device without DAX")
{
	char path[32];
	int backing = open(work_dir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int loop;

	REQUIRE(backing >= 0 && write(backing, good.bytes, good.size) == (ssize_t)good.size);
	loop = loop_device(backing, 0, O_RDONLY, path);
	if (loop < 0)
		SKIP("needs loop devices");
	refused(path, EOPNOTSUPP, "does not support DAX");
}

static void wrong_option(const char *key, const char *value, const char *text)
{
	int context = context_new("source", device), command = value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;

	check_refused(context_set(context, command, key, value, 0), EINVAL, text);
	close(context);
}

POINT(options, "unknown options and wrong values")
{
	int context = context_new("source", device);

	image_write(&good, device);
	wrong_option("nonsense", "1", "nonsense");
	wrong_option("nonsense", NULL, "nonsense");
	wrong_option("check", "everything", "check=");
	wrong_option("check", "", "check=");
	wrong_option("check", NULL, "check=");
	wrong_option("digest", "123", "digest=");
	wrong_option("digest", "g000000000000000000000000000000000000000000000000000000000000000", "digest=");
	wrong_option("digest", NULL, "digest=");
	wrong_option("fsoffset", "2X", "fsoffset= takes");
	wrong_option("fslength", NULL, "fslength= takes");
	wrong_option("image", "base", "an option of mount.daxfs");
	CHECK(context_set(context, FSCONFIG_SET_FD, "check", NULL, context));
	CHECK(set_text(context, "source", "/dev/null"));
	/* The context survives wrong options. */
	CHECK_EQ(create(context), 0);
}

POINT(device_in_use, "a device in use")
{
	int holder = open(device, O_RDONLY | O_EXCL | O_CLOEXEC);

	image_write(&good, device);
	REQUIRE(holder >= 0);
	CHECK_EQ(create(context_new("source", device)), EBUSY);
	close(holder);
	holder = mount_device();
	CHECK_FAILS(open(device, O_RDONLY | O_EXCL), EBUSY);
	close(holder);
}

POINT(twice, "one device, two mounts, one file system")
{
	struct stat first, second;
	int one, two;

	image_write(&good, device);
	one = mount_device();
	two = mount_device();
	REQUIRE(!fstatat(one, "good", &first, 0) && !fstatat(two, "good", &second, 0));
	CHECK(first.st_dev == second.st_dev && first.st_ino == second.st_ino);
	close(one);
	CHECK(!fstatat(two, "file", &second, 0));
}

int main(void)
{
	device = fixture_device("scratch");
	good = image_load_small();
	return ktap_run();
}
