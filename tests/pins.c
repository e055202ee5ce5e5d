// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mapped pages as the source of direct I/O, zero-copy sends and other pins. The test sources has more, on each
 * source.
 *
 * Group: files
 */
#include <arpa/inet.h>
#include <linux/futex.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "util.h"

static const char *mnt;

/* Open a block device that takes direct I/O. */
static int direct_device(void)
{
	int device = loop_device(-1, 16 << 20, O_RDWR | O_DIRECT, NULL);

	if (device < 0)
		SKIP("needs loop devices");
	return device;
}

static void direct_write_from(char *address, u64 size, u64 offset, size_t length)
{
	int device = direct_device();
	char *buffer = aligned_alloc(4096, length);

	CHECK_EQ(pwrite(device, address + offset, length, 8192), length);
	CHECK_EQ(pread(device, buffer, length, 8192), length);
	CHECK(pattern_matches(buffer, length, size, offset));
	close(device);
}

POINT(direct_from_small_pages, "direct write from small pages")
{
	direct_write_from(map_size(mnt, MIDDLE, PROT_READ, MAP_SHARED), MIDDLE, 4096, 32768);
}

POINT(direct_from_private, "direct write from a private mapping")
{
	char *address = map_size(mnt, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);

	address[HUGE_SIZE] ^= 1;
	address[HUGE_SIZE] ^= 1;
	direct_write_from(address, LARGE, HUGE_SIZE - 8192, 1 << 20);
}

POINT(direct_from_untouched, "direct write from pages not yet mapped")
{
	char *address = map_size(mnt, LARGE, PROT_READ, MAP_SHARED);

	CHECK(!madvise(address, LARGE, MADV_DONTNEED));
	direct_write_from(address, LARGE, 5 * HUGE_SIZE + 512, 8192);
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

POINT(zero_copy_send, "zero-copy send")
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	static char buffer[65536];
	char *mapped = map_size(mnt, LARGE, PROT_READ, MAP_SHARED) + HUGE_SIZE - 32768;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int sender = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), receiver, one = 1;
	size_t sent = 0, received = 0;

	if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&address, &length) ||
	    connect(sender, (struct sockaddr *)&address, length))
		SKIP("needs the loopback interface");
	receiver = accept(listener, NULL, NULL);
	REQUIRE(!setsockopt(sender, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)));
	while (received < sizeof(buffer)) {
		ssize_t part;

		if (sent < sizeof(buffer)) {
			part = send(sender, mapped + sent, sizeof(buffer) - sent,
				    MSG_ZEROCOPY | MSG_DONTWAIT);
			REQUIRE(part > 0 || errno == EAGAIN);
			sent += part > 0 ? part : 0;
		}
		part = recv(receiver, buffer + received, sizeof(buffer) - received, 0);
		REQUIRE(part > 0);
		received += part;
	}
	CHECK(pattern_matches(buffer, sizeof(buffer), LARGE, HUGE_SIZE - 32768));
	close(sender);
	close(receiver);
}

POINT(futexes, "futexes")
{
	char *small = map_size(mnt, MIDDLE, PROT_READ, MAP_SHARED), *large = map_size(mnt, LARGE, PROT_READ, MAP_SHARED);
	u32 word;

	memcpy(&word, small, 4);
	CHECK_FAILS(syscall(SYS_futex, small, FUTEX_WAIT, word + 1, NULL, NULL, 0), EAGAIN);
	CHECK_EQ(syscall(SYS_futex, small, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
	memcpy(&word, large + 8192, 4);
	CHECK_FAILS(syscall(SYS_futex, large + 8192, FUTEX_WAIT, word + 1, NULL, NULL, 0), EAGAIN);
	CHECK_EQ(syscall(SYS_futex, large + 8192, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
}

/* Read the kernel's records about every page, which must do no harm. */
POINT(introspection, "pagemap and smaps")
{
	static const char *const files[] = { "smaps", "smaps_rollup", "numa_maps", "maps" };
	char *address = map_size(mnt, LARGE, PROT_READ, MAP_SHARED | MAP_POPULATE), path[64];
	static u64 frames[1024];
	int flags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	u64 word;

	page_frames(address, ARRAY_SIZE(frames), frames);
	for (size_t i = 0; i < ARRAY_SIZE(frames); i++) {
		CHECK(frames[i]);
		if (i)
			CHECK_EQ(frames[i], frames[i - 1] + 1);
	}
	if (flags >= 0)
		pread(flags, &word, 8, frames[0] * 8);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "/proc/self/%s", files[i]);
		number_in(path, "no such key");
	}
	CHECK(number_in("/proc/self/smaps_rollup", "Rss:") >= (long long)(LARGE / 1024));
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
