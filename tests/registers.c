// SPDX-License-Identifier: GPL-2.0-only
/*
 * phys= takes memory only. Ranges where devices have their registers are refused, since a load
 * from there may have any effect. Reserved memory and a device's own memory can be mounted.
 *
 * Group: memory
 * Machine: reserve,pci=sources.daxfs
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "ktap.h"
#include "source.h"
#include "util.h"

/* The flags of a range in a PCI device's file resource: it is of memory, may be prefetched, is a ROM. */
#define BAR_MEMORY 0x200
#define BAR_PREFETCH 0x2000
#define BAR_ROM 0x4000

static const char *mnt;

static bool mount_range(u64 start, u64 size)
{
	int context = syscall(SYS_fsopen, "daxfs", FSOPEN_CLOEXEC);
	char text[32];

	REQUIRE(context >= 0);
	snprintf(text, sizeof(text), "%#llx", (unsigned long long)start);
	CHECK_EQ(context_set(context, FSCONFIG_SET_STRING, "phys", text, 0), 0);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)size);
	CHECK_EQ(context_set(context, FSCONFIG_SET_STRING, "size", text, 0), 0);
	return context_mount(context, mnt);
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

/* All processors of this architecture have these registers at the same address. */
static void interrupt_controller(void)
{
#ifdef __x86_64__
	refused("the local APIC", 0xfee00000);
	refused("after the local APIC", 0xfee01000);
#else
	SKIP("knows the address on x86-64 only");
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
		if (!(flags & BAR_MEMORY) || flags & (BAR_PREFETCH | BAR_ROM))
			continue;
		(*found)++;
		refused(name, start);
	}
	if (ranges)
		fclose(ranges);
}

static void pci_devices(void)
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

static void reserved_memory(void)
{
	good_range("DAXFS_RESERVED_ADDR", "DAXFS_RESERVED_SIZE");
}

static void device_memory(void)
{
	good_range("DAXFS_PCI_ADDR", "DAXFS_PCI_SIZE");
}

int main(void)
{
	static const struct ktap_test tests[] = {
		{ "the interrupt controller is refused", interrupt_controller },
		{ "registers of PCI devices are refused", pci_devices },
		{ "reserved memory is mounted", reserved_memory },
		{ "the memory of a PCI device is mounted", device_memory },
	};

	mnt = private_mount_point();
	return ktap_run(tests, ARRAY_SIZE(tests));
}
