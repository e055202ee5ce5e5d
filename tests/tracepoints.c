// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tracepoints report faults and errors while they are enabled, and nothing otherwise.
 *
 * Group: vfs
 */
#include <sys/sysmacros.h>

#include "image.h"

#define TRACEFS "/sys/kernel/tracing"
/* A separate trace instance, so that no other user of tracing is disturbed. */
#define INSTANCE TRACEFS "/instances/daxfs-test"

static const char *device, *mnt;

static void switch_to(const char *value)
{
	int fd = open(INSTANCE "/events/daxfs/enable", O_WRONLY | O_CLOEXEC);

	REQUIRE(fd >= 0 && write(fd, value, 1) == 1);
	close(fd);
	fd = open(INSTANCE "/trace", O_WRONLY | O_TRUNC | O_CLOEXEC);
	REQUIRE(fd >= 0);
	close(fd);
}

/* Check that @want lines of the trace contain @needle. If not, print the last of them. */
static void said(unsigned int want, const char *needle)
{
	char line[500], last[500] = "none\n";
	unsigned int count = 0;
	FILE *trace = fopen(INSTANCE "/trace", "re");

	REQUIRE(trace);
	while (fgets(line, sizeof(line), trace)) {
		if (line[0] == '#')
			continue;
		memcpy(last, line, sizeof(line));
		count += !!strstr(line, needle);
	}
	fclose(trace);
	if (!CHECK_EQ(count, want))
		printf("# wanted: %s\n# last: %s", needle, last);
}

/* The text of a line about a fault on the file @fd, after its device. */
static void fault_said(int fd, unsigned int want, u64 offset, unsigned int order, char *address,
		       const char *result)
{
	char needle[300];
	struct stat stat;

	REQUIRE(!fstat(fd, &stat));
	snprintf(needle, sizeof(needle),
		 "daxfs_fault: dev %u:%u ino %llu offset %#llx order %u address %#lx result %s",
		 major(stat.st_dev), minor(stat.st_dev), (unsigned long long)stat.st_ino,
		 (unsigned long long)offset, order, (unsigned long)address, result);
	said(want, needle);
}

/*
 * At an address far from other mappings, so that these do not change the page sizes that the kernel
 * asks for.
 */
static char *map(int fd, size_t length)
{
	static unsigned long address = 1UL << 40;
	char *map = mmap((void *)address, length, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);

	REQUIRE(map != MAP_FAILED);
	address += 1UL << 30;
	return map;
}

POINT(nothing, "no events unless they are enabled")
{
	int fd = open_in(mnt, "sizes/4097", O_RDONLY);

	switch_to("0");
	touch_pages(map(fd, page_size()), 1, 1);
	said(0, "daxfs");
}

POINT(small, "a fault of a page")
{
	int fd = open_size(mnt, page_size() == 4096 ? 4097 : 65537, O_RDONLY);
	char *two = map(fd, 2 * page_size());

	switch_to("1");
	touch_pages(two + page_size(), 1, 1);
	fault_said(fd, 1, page_size(), 0, two + page_size(), "NOPAGE");
	touch_pages(two + page_size(), 1, 1);
	said(1, "NOPAGE");
}

POINT(large, "a fault of 2 MiB")
{
	int fd = open_in(mnt, "sizes/16777216", O_RDONLY);
	char *all = map(fd, LARGE);

	if (!has_huge_mappings())
		SKIP("huge pages of this kernel have another size than 2 MiB");
	switch_to("1");
	touch_pages(all + 5 * HUGE_SIZE + 12345, 1, 1);
	fault_said(fd, 1, (5 * HUGE_SIZE + 12345) / page_size() * page_size(),
		   __builtin_ctzl(HUGE_SIZE / page_size()),
		   all + 5 * HUGE_SIZE + 12345 / page_size() * page_size(), "NOPAGE");
	said(1, "NOPAGE");
}

POINT(beyond, "a fault beyond the end")
{
	int fd = open_in(mnt, "sizes/4097", O_RDONLY);
	char *three = map(fd, 3 * page_size());
	int status;
	pid_t pid;

	switch_to("1");
	pid = fork();
	if (!pid) {
		/* Without a page table, the kernel would ask for a larger entry first. */
		touch_pages(three, 1, 1);
		touch_pages(three + 2 * page_size(), 1, 1);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	fault_said(fd, 1, 2 * page_size(), 0, three + 2 * page_size(), "SIGBUS");
}

POINT(unmount, "unmounting")
{
	REQUIRE(!umount2(mnt, 0));
}

/* The log has ten lines at most about so many errors, the trace has all. */
POINT(errors, "errors")
{
	char path[PATH_MAX], needle[200];
	struct image image;
	struct stat stat;
	u32 ino;

	image = image_load_small();
	ino = image_entry(&image, "good")->ino;
	image_inode(&image, ino)->mtime_nsec = 1000000007;
	image_seal(&image);
	image_write(&image, device);
	REQUIRE(!mount(device, mnt, "daxfs", 0, NULL));
	REQUIRE(!lstat(mnt, &stat));
	switch_to("1");
	snprintf(path, sizeof(path), "%s/good", mnt);
	for (int i = 0; i < 100; i++)
		CHECK_FAILS(lstat(path, &stat), EUCLEAN);
	REQUIRE(!lstat(mnt, &stat));
	snprintf(needle, sizeof(needle), "daxfs_error: dev %u:%u ino %u offset ",
		 major(stat.st_dev), minor(stat.st_dev), ino);
	said(100, needle);
	said(100, "value 0x3b9aca07: nanoseconds out of range");
	REQUIRE(!umount2(mnt, 0));
}

int main(void)
{
	int result;

	/* Make the image to damage. */
	fixture_device("scratch");
	device = strdup(fixture_device("tree"));
	mnt = fixture_mount("tree");
	if (mount("tracefs", TRACEFS, "tracefs", 0, NULL) && errno != EBUSY)
		ktap_skip_all("needs CONFIG_EVENT_TRACING");
	if (mkdir(INSTANCE, 0700) && errno != EEXIST)
		ktap_skip_all("needs instances in tracefs");
	result = ktap_run();
	rmdir(INSTANCE);
	return result;
}
