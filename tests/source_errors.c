// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that cannot be a source is refused, with an errno and a line with the reason.
 *
 * Group: sources
 * Machine: cxl,reserve=sources.daxfs
 */
#include <linux/capability.h>
#include <sys/sysmacros.h>

#include "source.h"

#define ALL_SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

static const char *mnt;

static int new_context(void)
{
	return context_new(NULL, NULL);
}

static void refuse_parameter(unsigned int command, const char *key, const void *value, int aux,
			     int error, const char *text)
{
	int context = new_context();

	check_refused(context_set(context, command, key, value, aux), error, text);
	close(context);
}

static void refuse_mount(int context, int error, const char *text)
{
	bool mounted = context_mount(context, mnt);

	check_refused(mounted ? 0 : errno, error, text);
	if (mounted)
		umount(mnt);
}

static int with_fd(const char *key, int fd)
{
	int context = new_context();

	CHECK_EQ(context_set(context, FSCONFIG_SET_FD, key, NULL, fd), 0);
	return context;
}

static int memfd(int seals)
{
	int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	REQUIRE(fd >= 0 && !ftruncate(fd, 65536) && !fcntl(fd, F_ADD_SEALS, seals));
	return fd;
}

POINT(unsealed, "memfds without all seals")
{
	static const int seals[] = {
		0,
		F_SEAL_SHRINK | F_SEAL_GROW,
		F_SEAL_WRITE | F_SEAL_GROW,
		F_SEAL_WRITE | F_SEAL_SHRINK,
		F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL,
	};

	for (size_t i = 0; i < ARRAY_SIZE(seals); i++)
		refuse_mount(with_fd("memfd", memfd(seals[i])), EPERM,
			     "must be sealed against writing");
	refuse_mount(with_fd("memfd", memfd_create("never", MFD_CLOEXEC)), EPERM,
		     "must be sealed against writing");
}

POINT(tmpfs_file, "a file of tmpfs")
{
	int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0)
		SKIP("needs /dev/shm");
	REQUIRE(!ftruncate(fd, 65536));
	refuse_mount(with_fd("memfd", fd), EPERM, "must be sealed");
}

POINT(no_descriptors, "no descriptors at all")
{
	int fd = memfd(ALL_SEALS), path;
	char name[64];

	/* A descriptor opened with O_PATH gives no access to the memory. */
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	path = open(name, O_PATH | O_CLOEXEC);
	REQUIRE(path >= 0);
	refuse_parameter(FSCONFIG_SET_FD, "memfd", NULL, path, EINVAL, "not a memfd that is open for");
	refuse_parameter(FSCONFIG_SET_FD, "dmabuf", NULL, path, EINVAL, "not a dma-buf");
	refuse_parameter(FSCONFIG_SET_FD, "dmabuf", NULL, fd, EINVAL, "not a dma-buf");
	refuse_parameter(FSCONFIG_SET_FD, "memfd", NULL, 1000, EBADF, "");
	refuse_parameter(FSCONFIG_SET_FD, "memfd", NULL, -1, EINVAL, "");
	refuse_parameter(FSCONFIG_SET_FD, "dmabuf", NULL, 1000, EBADF, "");
	for (int i = 0; i < 2; i++) {
		const char *key = i ? "memfd" : "dmabuf";

		refuse_parameter(FSCONFIG_SET_STRING, key, "3", 0, EINVAL,
				 "takes a file descriptor");
		refuse_parameter(FSCONFIG_SET_STRING, key, "/dev/null", 0, EINVAL,
				 "takes a file descriptor");
		refuse_parameter(FSCONFIG_SET_FLAG, key, NULL, 0, EINVAL,
				 "takes a file descriptor");
	}
	refuse_parameter(FSCONFIG_SET_FD, "phys", NULL, fd, EINVAL, "phys= takes");
	refuse_parameter(FSCONFIG_SET_FD, "size", NULL, fd, EINVAL, "size= takes");
	refuse_parameter(FSCONFIG_SET_FD, "check", NULL, fd, EINVAL, "check= takes");
}

/* Memory that is valid as a source, but holds no image. */
POINT(no_image, "memory without an image")
{
	int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	refuse_mount(with_fd("memfd", memfd(ALL_SEALS)), EINVAL, "");
	CHECK(strstr(context_log, "magic"));
	REQUIRE(!fcntl(fd, F_ADD_SEALS, ALL_SEALS));
	refuse_mount(with_fd("memfd", fd), EINVAL, "");
	fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	REQUIRE(!ftruncate(fd, 100) && !fcntl(fd, F_ADD_SEALS, ALL_SEALS));
	refuse_mount(with_fd("memfd", fd), EINVAL, "");
}

POINT(two_at_once, "two sources at once")
{
	int fd = memfd(ALL_SEALS), context = with_fd("memfd", fd);

	check_refused(context_set(context, FSCONFIG_SET_FD, "memfd", NULL, fd), EINVAL, "exclude one another");
	check_refused(context_set(context, FSCONFIG_SET_STRING, "phys", "4G", 0), EINVAL, "exclude one another");
	close(context);
	context = context_new("phys", "0x100000000");
	check_refused(context_set(context, FSCONFIG_SET_FD, "memfd", NULL, fd), EINVAL, "exclude one another");
	close(context);
	context = with_fd("memfd", fd);
	CHECK_EQ(context_set(context, FSCONFIG_SET_STRING, "size", "1M", 0), 0);
	refuse_mount(context, EINVAL, "size= requires phys=");
	context = with_fd("memfd", fd);
	CHECK_EQ(context_set(context, FSCONFIG_SET_STRING, "fsoffset", "0", 0), 0);
	CHECK_EQ(context_set(context, FSCONFIG_SET_STRING, "fslength", "4K", 0), 0);
	refuse_mount(context, EINVAL, "a descriptor is mounted whole");
}

POINT(numbers, "phys= and size= with wrong numbers, or one without the other")
{
	static const char *const wrong[] = {
		"", "0x", "x", "-1", "+1", " 1", "1 ", "12Q", "0x12G1", "K", "0xfffffffffffffffff",
		"18446744073709551616", "16777216T", "1.5G", "4GiB", "0b1",
	};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		refuse_parameter(FSCONFIG_SET_STRING, "phys", wrong[i], 0, EINVAL, "phys= takes");
		refuse_parameter(FSCONFIG_SET_STRING, "size", wrong[i], 0, EINVAL, "size= takes");
	}
	refuse_parameter(FSCONFIG_SET_FLAG, "phys", NULL, 0, EINVAL, "phys= takes");
	refuse_mount(context_new("phys", "0x100000000"), EINVAL, "phys= needs size=");
	refuse_mount(context_new("size", "1M"), EINVAL, "size= requires phys=");
}

/* Find the first range of /proc/iomem whose name contains @name and that ends after @after. */
static bool find_range_after(const char *name, u64 after, u64 *start, u64 *size)
{
	FILE *ranges = fopen("/proc/iomem", "re");
	unsigned long long first, last;
	char line[200];
	bool found = false;

	while (ranges && !found && fgets(line, sizeof(line), ranges))
		found = strstr(line, name) &&
			sscanf(line, " %llx-%llx", &first, &last) == 2 && last > after;
	if (ranges)
		fclose(ranges);
	*start = first;
	*size = last - first + 1;
	return found;
}

static bool find_range(const char *name, u64 *start, u64 *size)
{
	return find_range_after(name, 0, start, size);
}

static bool is_system_ram(u64 address)
{
	u64 start, size;

	return find_range_after("System RAM", address - 1, &start, &size) && start <= address;
}

POINT(wrong_ranges, "invalid ranges")
{
	const u64 last_page = -(u64)page_size();
	int context;

	refuse_mount(context_of_range(0x100000001, 0x200000), EINVAL, "multiples of the page size");
	refuse_mount(context_of_range(0x100000000, 0x200001), EINVAL, "multiples of the page size");
	refuse_mount(context_of_range(0x100000000, page_size() / 2), EINVAL,
		     "multiples of the page size");
	refuse_mount(context_of_range(0x100000000, 0), EINVAL, "multiples of the page size");
	refuse_mount(context_of_range(last_page, 2 * page_size()), EINVAL, "after the last address");
	refuse_mount(context_of_range(last_page, page_size()), EINVAL, "after the last address");
	refuse_mount(context_of_range(1ULL << 60, 0x200000), EINVAL,
		     "after the last address");
	refuse_mount(context_of_range(0x100000000, last_page), EINVAL, "after the last address");
	context = context_of_range(0x100000000, 0x200000);
	CHECK_EQ(context_set(context, FSCONFIG_SET_STRING, "fsoffset", "4K", 0), 0);
	CHECK_EQ(context_set(context, FSCONFIG_SET_STRING, "fslength", "2M", 0), 0);
	refuse_mount(context, EINVAL, "ends after the memory, which has 0x200000 bytes");
}

/* Return the start of the page that has @address. */
static u64 page_of(u64 address)
{
	return address & -(u64)page_size();
}

POINT(system_ram, "System RAM")
{
	u64 start, size;

	if (!find_range("System RAM", &start, &size))
		SKIP("needs /proc/iomem");
	start = page_of(start + page_size() - 1);
	size = page_of(size - page_size());
	refuse_mount(context_of_range(start, page_size()), EBUSY, "System RAM");
	refuse_mount(context_of_range(start, size), EBUSY, "System RAM");
	/* In part, too. */
	refuse_mount(context_of_range(start + size - page_size(), 1ULL << 30), EBUSY, "System RAM");
	/* The kernel itself lies there. */
	if (find_range("Kernel code", &start, &size))
		refuse_mount(context_of_range(page_of(start), page_size()), EBUSY, "System RAM");
}

POINT(owned_ranges, "ranges of drivers")
{
	static const char *const names[] = { "namespace", "IOAPIC", "HPET", "Local APIC" };
	unsigned int found = 0;
	u64 start, size;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (find_range(names[i], &start, &size)) {
			found++;
			refuse_mount(context_of_range(page_of(start), page_size()), EBUSY,
				     "belongs to a driver");
		}
	if (!found)
		SKIP("no range in /proc/iomem belongs to a driver");
}

/* Keep the capability for later if @later. */
static void set_rawio(bool now, bool later)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	REQUIRE(!syscall(SYS_capget, &header, data));
	data[0].effective &= ~(1U << CAP_SYS_RAWIO);
	data[0].effective |= (unsigned int)now << CAP_SYS_RAWIO;
	if (!later) {
		data[0].permitted &= ~(1U << CAP_SYS_RAWIO);
		data[0].inheritable &= ~(1U << CAP_SYS_RAWIO);
	}
	REQUIRE(!syscall(SYS_capset, &header, data));
}

/* Return true if @mounts shows the address of a mount. */
static bool shows_address(int mounts)
{
	static char text[65536];
	size_t used = 0;
	ssize_t length;

	while ((length = read(mounts, text + used, sizeof(text) - used - 1)) > 0)
		used += length;
	text[used] = 0;
	close(mounts);
	CHECK(strstr(text, ",phys"));
	return strstr(text, ",phys=");
}

/* statmount(2) shows options without a file. */
static bool statmount_shows_address(void)
{
	struct mnt_id_req request = { .size = MNT_ID_REQ_SIZE_VER0, .param = STATMOUNT_MNT_OPTS };
	static struct {
		struct statmount head;
		char text[4096];
	} found;
	struct statx stat;

	REQUIRE(!statx(AT_FDCWD, mnt, 0, STATX_MNT_ID_UNIQUE, &stat));
	request.mnt_id = stat.stx_mnt_id;
	if (!CHECK(!syscall(SYS_statmount, &request, &found, sizeof(found), 0)))
		return false;
	CHECK(strstr(found.head.str + found.head.mnt_opts, "phys"));
	return strstr(found.head.str + found.head.mnt_opts, "phys=");
}

/* Whether the file shows the numbers depends on the process that opened it, not on the reader. */
POINT(who_sees_addresses, "who sees addresses of a mount")
{
	int with, without;

	if (!getenv("DAXFS_RESERVED_ADDR"))
		SKIP("needs DAXFS_RESERVED_ADDR");
	REQUIRE(context_mount(context_of_range(strtoull(getenv("DAXFS_RESERVED_ADDR"), NULL, 0),
					       strtoull(getenv("DAXFS_RESERVED_SIZE"), NULL, 0)), mnt));
	CHECK(shows_address(open("/proc/self/mounts", O_RDONLY)));
	with = open("/proc/self/mounts", O_RDONLY);
	set_rawio(false, true);
	without = open("/proc/self/mounts", O_RDONLY);
	CHECK(shows_address(with));
	CHECK(!statmount_shows_address());
	set_rawio(true, true);
	CHECK(statmount_shows_address());
	CHECK(!shows_address(without));
	CHECK(!umount(mnt));
}

POINT(without_rawio, "without CAP_SYS_RAWIO")
{
	set_rawio(false, false);
	/* The error is the same for every range, and tells nothing about the machine's memory. */
	refuse_mount(context_of_range(0x100000000, 0x200000), EPERM, "CAP_SYS_RAWIO");
	refuse_mount(context_of_range(0, 1), EPERM, "CAP_SYS_RAWIO");
	refuse_mount(context_of_range(0x100000, page_size()), EPERM, "CAP_SYS_RAWIO");
}

POINT(no_devices, "sources that are not memory devices")
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/image-file", work_dir());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	REQUIRE(fd >= 0 && !ftruncate(fd, 65536));
	refuse_mount(context_new("source", path), ENOTBLK,
		     "mount.daxfs and 'daxfs load' put an image file into memory");
	unlink(path);
	refuse_mount(context_new("source", "/"), ENOTBLK,
		     "neither a block device nor a DAX device");
	refuse_mount(context_new("source", path), ENOENT, "cannot be looked up");
	refuse_mount(context_new("source", "/dev/null"), EOPNOTSUPP, "no DAX device in fsdev mode");
	refuse_mount(context_new("source", "/dev/ptmx"), EOPNOTSUPP, "no DAX device in fsdev mode");
	refuse_mount(new_context(), EINVAL, "no source given");
}

/* Return the first DAX character device. */
static const char *dax_device(void)
{
	static char devices[500];
	char *device, *next = devices;
	struct stat stat;

	snprintf(devices, sizeof(devices), "%s", getenv("DAXFS_DEVS") ?: "");
	while ((device = strsep(&next, " ")))
		if (*device && !lstat(device, &stat) && S_ISCHR(stat.st_mode))
			return device;
	SKIP("needs a DAX character device in DAXFS_DEVS");
}

/* A device node for a device that does not exist. */
POINT(handmade_node, "a device node without a device")
{
	char path[PATH_MAX];
	struct stat stat;

	REQUIRE(!lstat(dax_device(), &stat));
	snprintf(path, sizeof(path), "%s/dax-node", work_dir());
	unlink(path);
	REQUIRE(!mknod(path, S_IFCHR | 0600, makedev(major(stat.st_rdev), 77)));
	refuse_mount(context_new("source", path), EOPNOTSUPP, "no DAX device in fsdev mode");
	unlink(path);
}

/* Write the device's name to a file of a DAX driver. */
static bool tell_driver(const char *driver, const char *file, const char *device)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/dax/drivers/%s/%s", driver, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	device = strrchr(device, '/') + 1;
	return fd >= 0 && write(fd, device, strlen(device)) > 0 && !close(fd);
}

POINT(devdax_mode, "a device in devdax mode")
{
	const char *device = dax_device();

	if (system("modprobe -q device_dax") && access("/sys/bus/dax/drivers/device_dax", F_OK))
		SKIP("needs the driver device_dax");
	REQUIRE(tell_driver("fsdev_dax", "unbind", device));
	/* The node of a device without a driver stays. */
	refuse_mount(context_new("source", device), EOPNOTSUPP, "no DAX device in fsdev mode");
	if (CHECK(tell_driver("device_dax", "bind", device) ||
		  tell_driver("device_dax", "new_id", device))) {
		refuse_mount(context_new("source", device), EOPNOTSUPP,
			     "no DAX device in fsdev mode");
		CHECK(tell_driver("device_dax", "unbind", device));
	}
	REQUIRE(tell_driver("fsdev_dax", "bind", device));
	CHECK(context_mount(context_new("source", device), mnt));
	CHECK(!umount(mnt));
}

POINT(device_in_use, "a DAX device that is mounted")
{
	const char *device = dax_device();

	REQUIRE(context_mount(context_new("source", device), mnt));
	refuse_mount(context_new("source", device), EBUSY, "another mount has the device");
	CHECK(!umount(mnt));
	CHECK(context_mount(context_new("source", device), mnt) && !umount(mnt));
}

POINT(range_in_use, "a range that is mounted")
{
	const u64 page = page_size();
	u64 start, size;

	if (!getenv("DAXFS_RESERVED_ADDR") || !getenv("DAXFS_RESERVED_SIZE"))
		SKIP("needs DAXFS_RESERVED_ADDR and DAXFS_RESERVED_SIZE");
	start = strtoull(getenv("DAXFS_RESERVED_ADDR"), NULL, 0);
	size = strtoull(getenv("DAXFS_RESERVED_SIZE"), NULL, 0);
	/* Ranges without an image, with struct pages and without. */
	refuse_mount(context_of_range(start + size - HUGE_SIZE, HUGE_SIZE), EINVAL, "magic");
	refuse_mount(context_of_range(start + page, 2 * page), EINVAL, "magic");
	REQUIRE(context_mount(context_of_range(start, size), mnt));
	refuse_mount(context_of_range(start, size), EBUSY, "belongs to a driver");
	refuse_mount(context_of_range(start + size - page, page), EBUSY, "belongs to a driver");
	/* It may lie next to ordinary memory. */
	refuse_mount(context_of_range(start - page, 2 * page), EBUSY,
		     is_system_ram(start - page) ? "System RAM" : "belongs to a driver");
	refuse_mount(context_of_range(start + size - page, 2 * page), EBUSY,
		     is_system_ram(start + size) ? "System RAM" : "belongs to a driver");
	CHECK(!umount(mnt));
	CHECK(context_mount(context_of_range(start, size), mnt) && !umount(mnt));
}

int main(void)
{
	mnt = private_mount_point();
	return ktap_run();
}
