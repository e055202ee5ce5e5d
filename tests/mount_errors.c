// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each failure of a mount is reported: by the errno, and in the log of the mount context, or else in the kernel's.
 *
 * Group: modules
 * Machine: cpus=2 virtio-pmem=scratch
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "image.h"
#include "ktap.h"
#include "util.h"

#define BLKGETSIZE64 _IOR(0x12, 114, size_t)

static const char *device;
static struct image good;

/* A mount context, and the messages in its log. */
static char fs_log[4000];

static int fs_open(const char *source)
{
	int fs = syscall(SYS_fsopen, "daxfs", FSOPEN_CLOEXEC);

	REQUIRE(fs >= 0);
	REQUIRE(!source || !syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", source, 0));
	return fs;
}

static void read_log(int fs)
{
	size_t used = 0;
	ssize_t length;

	while ((length = read(fs, fs_log + used, sizeof(fs_log) - used - 1)) > 0)
		used += length;
	fs_log[used] = 0;
}

/* Returns 0 or the errno. */
static int fs_create(int fs)
{
	int error = syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) ? errno : 0;

	read_log(fs);
	return error;
}

/* Mount the device. Return a file descriptor of the mount. */
static int mount_device(void)
{
	int fs = fs_open(device), mount;

	CHECK_EQ(fs_create(fs), 0);
	mount = syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	REQUIRE(mount >= 0);
	close(fs);
	return mount;
}

static void refused(const char *source, int error, const char *text)
{
	int kmsg = kmsg_open(), fs = fs_open(source);

	CHECK_EQ(fs_create(fs), error);
	if (!CHECK(strstr(fs_log, text)))
		printf("# expected '%s' in the mount's log, which says: %s\n", text, fs_log);
	CHECK(strstr(fs_log, "daxfs") && strstr(fs_log, source));
	CHECK_EQ(kmsg_count(kmsg, text, NULL, 0), 0);
	close(fs);
	close(kmsg);
}

static void no_magic(struct image *image)
{
	image->super->magic[0] ^= 1;
}

static void all_zeros(struct image *image)
{
	memset(image->bytes, 0, image->size);
}

static void next_version(struct image *image)
{
	image->super->version = 2;
	image_seal(image);
}

/* The version is reported, even if a future version changes everything else. */
static void strange_next_version(struct image *image)
{
	image->super->version = 2;
	memset(&image->super->block_size, 0xee, sizeof(*image->super) - 12);
}

static void incompatible(struct image *image)
{
	image->super->incompat = 1ULL << 63;
	image_seal(image);
}

static void super_checksum(struct image *image)
{
	image->super->label[0] ^= 1;
}

static void metadata_checksum(struct image *image)
{
	image_inode(image, 2)->uid ^= 1;
}

static void beyond_device(struct image *image)
{
	u64 size = 0;
	int fd = open(device, O_RDONLY | O_CLOEXEC);

	REQUIRE(!ioctl(fd, BLKGETSIZE64, &size));
	image->super->total_size = size + image->super->block_size;
	image_seal(image);
}

static void small_blocks(struct image *image)
{
	image->super->block_size = 2048;
	image_seal(image);
}

static void large_blocks(struct image *image)
{
	image->super->block_size = 131072;
	image_seal(image);
}

static void odd_blocks(struct image *image)
{
	image->super->block_size = 5000;
	image_seal(image);
}

static void no_blocks(struct image *image)
{
	image->super->block_size = 0;
	image_seal(image);
}

static void partial_block(struct image *image)
{
	image->super->total_size -= 1;
	image_seal(image);
}

static void build_time(struct image *image)
{
	image->super->build_nsec = 1000000000;
	image_seal(image);
}

static void inodes_over_superblock(struct image *image)
{
	image->super->inodes.offset = 4032;
	image_seal(image);
}

static void dirents_over_inodes(struct image *image)
{
	image->super->dirents.offset = image->super->inodes.offset;
	image_seal(image);
}

static void names_unaligned(struct image *image)
{
	image->super->names.offset += 1;
	image_seal(image);
}

static void xattrs_overflow(struct image *image)
{
	image->super->xattrs.length = -image->super->xattrs.offset;
	image_seal(image);
}

static void data_beyond_image(struct image *image)
{
	image->super->data.length = image->super->total_size;
	image_seal(image);
}

static void half_an_inode(struct image *image)
{
	image->super->inodes.length -= 32;
	image_seal(image);
}

static void no_root(struct image *image)
{
	image->super->root = 0;
	image_seal(image);
}

static void root_beyond_table(struct image *image)
{
	image->super->root = 0xffffffff;
	image_seal(image);
}

static void root_is_file(struct image *image)
{
	image->super->root = image_entry(image, "file")->ino;
	image_seal(image);
}

static void root_is_subdirectory(struct image *image)
{
	image->super->root = image_entry(image, "dir")->ino;
	image_seal(image);
}

static void root_has_no_type(struct image *image)
{
	image_inode(image, image->super->root)->mode = 0755;
	image_seal(image);
}

static void root_entries_elsewhere(struct image *image)
{
	image_inode(image, image->super->root)->data = 1ULL << 60;
	image_seal(image);
}

static const struct {
	const char *name;
	void (*damage)(struct image *image);
	int error;
	const char *text;
} damages[] = {
	{ "a damaged magic number", no_magic, EINVAL, "wrong magic number" },
	{ "zeros", all_zeros, EINVAL, "wrong magic number" },
	{ "version 2", next_version, EOPNOTSUPP, "unknown format version" },
	{ "version 2 with another layout", strange_next_version, EOPNOTSUPP,
	  "unknown format version" },
	{ "an unknown incompatible feature", incompatible, EOPNOTSUPP,
	  "unknown incompatible feature" },
	{ "superblock checksum", super_checksum, EBADMSG, "superblock checksum mismatch" },
	{ "metadata checksum", metadata_checksum, EBADMSG, "metadata checksum mismatch" },
	{ "an image longer than the device", beyond_device, EUCLEAN,
	  "image larger than the region" },
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
	{ "root is a subdirectory", root_is_subdirectory, EUCLEAN,
	  "root inode is not a root directory" },
	{ "root without a type", root_has_no_type, EUCLEAN, "invalid mode" },
	{ "root with entries elsewhere", root_entries_elsewhere, EUCLEAN,
	  "directory entries out of place" },
};

static void damaged_images(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
		struct image image = image_copy(&good);
		bool failed = ktap_point->failed;

		damages[i].damage(&image);
		image_write(&image, device);
		ktap_point->failed = false;
		refused(device, damages[i].error, damages[i].text);
		if (ktap_point->failed)
			printf("# in case '%s'\n", damages[i].name);
		ktap_point->failed |= failed;
		image_free(&image);
	}
}

/* After each refusal the device is free, and an image without errors can be mounted. */
static void good_again(void)
{
	struct stat stat;
	int mount;

	image_write(&good, device);
	mount = mount_device();
	CHECK(!fstatat(mount, "dir/sub/leaf", &stat, 0));
	CHECK_EQ(fs_log[0], 0);
}

static void compatible_feature(void)
{
	struct image image = image_copy(&good);

	image.super->compat = 1ULL << 63;
	image_seal(&image);
	image_write(&image, device);
	CHECK(mount_device() >= 0);
}

static void unchecked_metadata(void)
{
	struct image image = image_copy(&good);
	int fs;

	metadata_checksum(&image);
	image_write(&image, device);
	fs = fs_open(device);
	REQUIRE(!syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "check", "none", 0));
	CHECK_EQ(fs_create(fs), 0);
	fs = fs_open(device);
	REQUIRE(!syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "check", "metadata", 0));
}

static void mount_with_digest(const char *digest, int error, const char *text)
{
	int fs = fs_open(device);

	REQUIRE(!syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "digest", digest, 0));
	CHECK_EQ(fs_create(fs), error);
	if (!CHECK(strstr(fs_log, text)))
		printf("# expected '%s' in the mount's log, which says: %s\n", text, fs_log);
	close(fs);
}

static void digests(void)
{
	image_write(&good, device);
	mount_with_digest(WRONG_DIGEST, EBADMSG, "SHA-256");
	mount_with_digest(image_digest(&good), 0, "");
}

/* Also bytes of the files and of the padding. */
static void digest_covers_all(void)
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
static void parts(void)
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
		int fs = fs_open(device);

		if (wrong[i].offset)
			REQUIRE(!syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "fsoffset", wrong[i].offset, 0));
		if (wrong[i].length)
			REQUIRE(!syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "fslength", wrong[i].length, 0));
		CHECK_EQ(fs_create(fs), wrong[i].error);
		if (!CHECK(strstr(fs_log, wrong[i].text) && strstr(fs_log, wrong[i].values)))
			printf("# expected '%s', the mount's log says: %s\n", wrong[i].text, fs_log);
		close(fs);
	}
}

/* A catalogue is refused as an image. The message names the programs that read it. */
static void catalogue(void)
{
	struct image image = image_copy(&good);

	memcpy(image.super->magic, "\211daxcat\n", 8);
	image_write(&image, device);
	refused(device, EMEDIUMTYPE, "mount.daxfs and 'daxfs mount' find the image");
	image_free(&image);
}

static void device_without_dax(void)
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
	int fs = fs_open(device);
	int command = value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;

	CHECK_FAILS(syscall(SYS_fsconfig, fs, command, key, value, 0), EINVAL);
	read_log(fs);
	if (!CHECK(strstr(fs_log, text)))
		printf("# expected '%s', the mount's log says: %s\n", text, fs_log);
	close(fs);
}

static void options(void)
{
	int fs = fs_open(device);

	image_write(&good, device);
	wrong_option("nonsense", "1", "nonsense");
	wrong_option("nonsense", NULL, "nonsense");
	wrong_option("check", "everything", "check=");
	wrong_option("check", "", "check=");
	wrong_option("check", NULL, "check=");
	wrong_option("digest", "123", "digest=");
	wrong_option("digest", "g000000000000000000000000000000000000000000000000000000000000000",
		     "digest=");
	wrong_option("digest", NULL, "digest=");
	wrong_option("fsoffset", "2X", "fsoffset= takes");
	wrong_option("fslength", NULL, "fslength= takes");
	wrong_option("image", "base", "an option of mount.daxfs");
	CHECK(syscall(SYS_fsconfig, fs, FSCONFIG_SET_FD, "check", NULL, fs) == -1);
	CHECK(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", "/dev/null", 0) == -1);
	/* The context survives wrong options. */
	CHECK_EQ(fs_create(fs), 0);
}

static void sources(void)
{
	int fs = fs_open(NULL);

	CHECK_EQ(fs_create(fs), EINVAL);
	CHECK_EQ(fs_create(fs_open("/dev/no-such-device")), ENOENT);
	CHECK_EQ(fs_create(fs_open("/dev/null")), EOPNOTSUPP);
	CHECK_EQ(fs_create(fs_open("/proc/self/exe")), ENOTBLK);
	CHECK_EQ(fs_create(fs_open("/")), ENOTBLK);
}

static void device_in_use(void)
{
	int holder = open(device, O_RDONLY | O_EXCL | O_CLOEXEC);

	image_write(&good, device);
	REQUIRE(holder >= 0);
	CHECK_EQ(fs_create(fs_open(device)), EBUSY);
	close(holder);
	holder = mount_device();
	CHECK_FAILS(open(device, O_RDONLY | O_EXCL), EBUSY);
	close(holder);
}

static void twice(void)
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

static void without_privilege(void)
{
	REQUIRE(!setresgid(1000, 1000, 1000) && !setresuid(1000, 1000, 1000));
	CHECK_FAILS(syscall(SYS_fsopen, "daxfs", 0), EPERM);
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return;
	CHECK_FAILS(syscall(SYS_fsopen, "daxfs", 0), EPERM);
}

int main(void)
{
	static const struct ktap_test tests[] = {
		{ "damaged images", damaged_images },
		{ "a good image afterwards", good_again },
		{ "an unknown compatible feature is accepted", compatible_feature },
		{ "check=none does not compare the metadata checksum", unchecked_metadata },
		{ "digest=", digests },
		{ "digest= covers every byte", digest_covers_all },
		{ "parts of the device", parts },
		{ "a catalogue", catalogue },
		{ "a device without DAX", device_without_dax },
		{ "unknown options and wrong values", options },
		{ "no source, and sources that are not memory", sources },
		{ "a device in use", device_in_use },
		{ "one device, two mounts, one file system", twice },
		{ "without privilege", without_privilege },
	};

	device = fixture_device("scratch");
	good = image_load_small();
	return ktap_run(tests, ARRAY_SIZE(tests));
}
