// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mapped pages as the source and the destination of direct I/O, and in a core dump. The test sources writes shared
 * mappings to a device, from each source.
 *
 * Group: files
 */
#include <sys/resource.h>

#include "lib/util.h"

static const char *mnt;

/* Open a block device that takes direct I/O. */
static int direct_device(void)
{
	int device = loop_device(-1, 16 << 20, O_RDWR | O_DIRECT, NULL);

	if (device < 0)
		SKIP("needs loop devices");
	return device;
}

POINT(direct_from_private, "direct write from a private mapping")
{
	char *address = map_size(mnt, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE), *buffer = aligned_alloc(4096, 1 << 20);
	const u64 offset = HUGE_SIZE - 8192;
	int device = direct_device();

	address[HUGE_SIZE] ^= 1;
	address[HUGE_SIZE] ^= 1;
	CHECK_EQ(pwrite(device, address + offset, 1 << 20, 8192), 1 << 20);
	CHECK_EQ(pread(device, buffer, 1 << 20, 8192), 1 << 20);
	CHECK(pattern_matches(buffer, 1 << 20, LARGE, offset));
}

/* The device must not write to a read-only mapping. */
POINT(direct_read_into, "direct read into a mapping")
{
	char *shared = map_size(mnt, MIDDLE, PROT_READ, MAP_SHARED);
	char *private = map_size(mnt, MIDDLE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	int device = direct_device();

	CHECK_FAILS(pread(device, shared, 4096, 0), EFAULT);
	CHECK(pattern_matches(shared, MIDDLE, MIDDLE, 0));
	/* A private mapping gets copies. */
	CHECK_EQ(pread(device, private + 4096, 4096, 0), 4096);
	CHECK(all_zero(private + 4096, 4096));
	CHECK(pattern_matches(shared, MIDDLE, MIDDLE, 0));
}

/* A core dump reads every mapped page. */
POINT(dumping_core, "core dumps")
{
	char *address = map_size(mnt, LARGE, PROT_READ, MAP_SHARED | MAP_POPULATE);
	int filter = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
	char template[PATH_MAX];
	int status;
	pid_t pid;

	CHECK(filter < 0 || write(filter, "0xff", 4) == 4);
	snprintf(template, sizeof(template), "%s/core.XXXXXX", work_dir());
	REQUIRE(mkdtemp(template) && !chdir(template));
	pid = fork();
	if (!pid) {
		prlimit(0, RLIMIT_CORE, &(struct rlimit){ RLIM_INFINITY, RLIM_INFINITY }, NULL);
		abort();
	}
	waitpid(pid, &status, 0);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	CHECK(pattern_matches(address, HUGE_SIZE, LARGE, 0));
	unlink("core");
	CHECK(!chdir("/"));
	rmdir(template);
}

int main(void)
{
	mnt = fixture_mount("tree");
	return ktap_run();
}
