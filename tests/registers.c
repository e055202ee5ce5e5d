// SPDX-License-Identifier: GPL-2.0-only
/*
 * phys= takes memory only. Ranges where devices have their registers are refused, since a load
 * from there may have any effect. Reserved memory and a device's own memory can be mounted; the
 * device may be removed then.
 *
 * Group: memory
 * Order: 6
 * Machine: cpus=2 reserve,pci=sources.daxfs
 */
#include <dirent.h>

#include "device.h"

/* The flags of a range in a PCI device's file resource: it is of memory, and is a ROM. */
#define BAR_MEMORY 0x200
#define BAR_ROM 0x4000

static const char *mnt;

static bool mount_range(u64 start, u64 size)
{
	return context_mount(context_of_range(start, size), mnt);
}

/* Either no process may mount the range, or it belongs to a driver. */
static void refused(const char *what, u64 start)
{
	bool mounted = mount_range(start & -(u64)page_size(), page_size());
	int error = mounted ? 0 : errno;

	if (!CHECK((error == EINVAL && strstr(context_log, "not memory")) || error == EBUSY))
		printf("# %s at %#llx: %s, %s\n", what, (unsigned long long)start,
		       mounted ? "mounted" : strerror(error), context_log);
	if (mounted)
		umount(mnt);
}

/* All machines of this architecture have these at the same addresses, some in ranges that firmware reserves. */
POINT(chipset, "registers of the chipset are refused")
{
#ifdef __x86_64__
	refused("the local APIC", 0xfee00000);
	refused("after the local APIC", 0xfee01000);
	refused("the root complex", 0xfed1c000);
	refused("the flash memory", 0xffc00000);
	refused("the end of the flash memory", 0xfffff000);
	refused("option ROMs", 0xc0000);
#else
	SKIP("knows the addresses on x86-64 only");
#endif
}

static void registers_of(const char *name, unsigned int *found)
{
	unsigned long long start, end, flags;
	char path[PATH_MAX], line[100];
	FILE *ranges;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", name);
	ranges = fopen(path, "re");
	while (ranges && fgets(line, sizeof(line), ranges)) {
		if (sscanf(line, "%llx %llx %llx", &start, &end, &flags) != 3 || !start)
			continue;
		if (!(flags & BAR_MEMORY) || flags & BAR_ROM)
			continue;
		if (getenv("DAXFS_PCI_ADDR") && start == strtoull(getenv("DAXFS_PCI_ADDR"), NULL, 0))
			continue;
		(*found)++;
		refused(name, start);
	}
	if (ranges)
		fclose(ranges);
}

POINT(pci_devices, "registers of PCI devices are refused")
{
	DIR *devices = opendir("/sys/bus/pci/devices");
	unsigned int found = 0;
	struct dirent *entry;

	while (devices && (entry = readdir(devices)))
		if (entry->d_name[0] != '.')
			registers_of(entry->d_name, &found);
	if (!found)
		SKIP("no PCI device has registers in memory");
	closedir(devices);
}

static void good_range(const char *start, const char *size)
{
	char buffer[4097];
	int fd;

	if (!getenv(start) || !getenv(size))
		SKIP("needs %s and %s", start, size);
	if (!CHECK(mount_range(strtoull(getenv(start), NULL, 0), strtoull(getenv(size), NULL, 0)))) {
		printf("# %s\n", context_log);
		return;
	}
	fd = open_in(mnt, "sizes/4097", O_RDONLY);
	CHECK_EQ(read(fd, buffer, sizeof(buffer)), sizeof(buffer));
	CHECK(pattern_matches(buffer, sizeof(buffer), sizeof(buffer), 0));
	close(fd);
	CHECK(!umount(mnt));
}

POINT(reserved_memory, "reserved memory is mounted")
{
	good_range("DAXFS_RESERVED_ADDR", "DAXFS_RESERVED_SIZE");
}

static void mount_device_memory(void)
{
	good_range("DAXFS_PCI_ADDR", "DAXFS_PCI_SIZE");
}

POINT(device_memory, "the memory of a PCI device is mounted")
{
	mount_device_memory();
}

/* Find the device that has its memory at @start, in sysfs. Return the number of the range, or -1. */
static int find_device(u64 start, char path[PATH_MAX])
{
	DIR *devices = opendir("/sys/bus/pci/devices");
	struct dirent *entry;
	int number = -1;

	while (devices && number < 0 && (entry = readdir(devices))) {
		unsigned long long first;
		FILE *ranges;

		snprintf(path, PATH_MAX, "/sys/bus/pci/devices/%s/resource", entry->d_name);
		ranges = fopen(path, "re");
		for (int i = 0; number < 0 && ranges && fscanf(ranges, "%llx %*x %*x", &first) == 1; i++)
			if (first == start)
				number = i;
		if (ranges)
			fclose(ranges);
	}
	closedir(devices);
	*strrchr(path, '/') = 0;
	return number;
}

/* The device may have another address when it is back. */
static u64 address_of(const char *device, int number)
{
	unsigned long long first = 0;
	char path[PATH_MAX + 16];
	FILE *ranges;

	snprintf(path, sizeof(path), "%s/resource", device);
	ranges = fopen(path, "re");
	for (int i = 0; i <= number; i++)
		REQUIRE(ranges && fscanf(ranges, "%llx %*x %*x", &first) == 1);
	fclose(ranges);
	return first;
}

static void tell(const char *directory, const char *file)
{
	char path[2 * PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	CHECK_EQ(write(fd, "1", 1), 1);
	close(fd);
}

/* Read the large file, and through a mapping, until both fail. */
static int read_and_load(void *argument)
{
	char *mapped = map_size(mnt, LARGE, PROT_READ, MAP_SHARED), *buffer = malloc(LARGE);
	int fd = open_size(mnt, LARGE, O_RDONLY), *ready = argument;

	for (;;) {
		ssize_t length = pread(fd, buffer, LARGE, 0);

		if (length <= 0)
			return length < 0 && errno == EIO && gets_sigbus(mapped) ? 0 : 1;
		if (!pattern_in_pages(buffer, length, LARGE, 0))
			return 2;
		madvise(mapped, LARGE, MADV_DONTNEED);
		if (!gets_sigbus(mapped + HUGE_SIZE) && !__atomic_load_n(ready, __ATOMIC_SEQ_CST))
			__atomic_store_n(ready, 1, __ATOMIC_SEQ_CST);
	}
}

static int remove_it(void *argument)
{
	tell(argument, "remove");
	return ktap_point->failed;
}

/* The range goes with its device, and can be mounted again when that is back. */
POINT(device_removed, "a PCI device is removed while it is mounted")
{
	u64 start = strtoull(getenv("DAXFS_PCI_ADDR") ?: "", NULL, 0);
	u64 size = strtoull(getenv("DAXFS_PCI_SIZE") ?: "", NULL, 0);
	int *ready = shared_memory(sizeof(*ready)), number;
	char device[PATH_MAX], text[32];
	pid_t users[2];

	if (!start || !size)
		SKIP("needs DAXFS_PCI_ADDR and DAXFS_PCI_SIZE");
	number = find_device(start, device);
	REQUIRE(number >= 0 && mount_range(start, size));
	for (size_t i = 0; i < ARRAY_SIZE(users); i++)
		users[i] = background_user(read_and_load, ready);
	for (double end = now() + limit(); !__atomic_load_n(ready, __ATOMIC_SEQ_CST) && now() < end;)
		usleep(1000);
	CHECK(*ready);
	CHECK_EQ(bounded("the removal of a PCI device", remove_it, device), 0);
	for (size_t i = 0; i < ARRAY_SIZE(users); i++)
		CHECK_EQ(reaped("a user of a removed device", users[i]), 0);
	CHECK(!mount_range(start, size));
	tell("/sys/bus/pci", "rescan");
	tell(device, "enable");
	CHECK_EQ(bounded_umount(mnt), 0);
	snprintf(text, sizeof(text), "%#llx", (unsigned long long)address_of(device, number));
	setenv("DAXFS_PCI_ADDR", text, 1);
	mount_device_memory();
}

int main(void)
{
	mnt = private_mount_point();
	device_init();
	return ktap_run();
}
