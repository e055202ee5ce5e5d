// SPDX-License-Identifier: GPL-2.0-only
/*
 * Debuggers: ptrace, /proc/PID/mem and process_vm_readv on mapped files.
 *
 * Group: files
 */
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "util.h"

static const char *mnt;

static char *map(int protection, int flags)
{
	char *address =
		mmap(NULL, LARGE, protection, flags, open_in(mnt, "sizes/16777216", O_RDONLY), 0);

	REQUIRE(address != MAP_FAILED);
	return address;
}

static void attach(pid_t pid)
{
	int status;

	REQUIRE(!ptrace(PTRACE_ATTACH, pid, NULL, NULL));
	REQUIRE(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
}

static bool peeks_pattern(pid_t pid, const char *address, u64 offset)
{
	long word;

	errno = 0;
	word = ptrace(PTRACE_PEEKDATA, pid, address + offset, NULL);
	return !errno && pattern_matches(&word, sizeof(word), LARGE, offset);
}

POINT(poking, "PTRACE_POKEDATA copies private pages, cannot touch shared ones")
{
	char *shared = map(PROT_READ, MAP_SHARED), *private = map(PROT_READ, MAP_PRIVATE);
	pid_t pid = waiting_child();

	attach(pid);
	CHECK(peeks_pattern(pid, private, HUGE_SIZE));
	/* A debugger may write to a private mapping, whatever its protection; it gets a copy. */
	CHECK(!ptrace(PTRACE_POKEDATA, pid, private + HUGE_SIZE, 0x1122334455667788));
	CHECK_EQ(ptrace(PTRACE_PEEKDATA, pid, private + HUGE_SIZE, NULL), 0x1122334455667788);
	CHECK(peeks_pattern(pid, private, HUGE_SIZE + 8));
	CHECK(peeks_pattern(pid, private, HUGE_SIZE + 4096));
	CHECK(pattern_matches(shared, 2 * HUGE_SIZE, LARGE, 0));
	/* A shared mapping of the file has nothing to copy to. */
	errno = 0;
	CHECK(ptrace(PTRACE_POKEDATA, pid, shared + HUGE_SIZE, 1) == -1);
	CHECK(pattern_matches(shared, 2 * HUGE_SIZE, LARGE, 0));
	CHECK(pattern_matches(private, 2 * HUGE_SIZE, LARGE, 0));
	end_child(pid);
}

POINT(proc_mem, "/proc/PID/mem")
{
	char *shared = map(PROT_READ, MAP_SHARED), path[64], buffer[20000];
	pid_t pid = waiting_child();
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	REQUIRE(fd >= 0);
	CHECK_EQ(pread(fd, buffer, sizeof(buffer), (uintptr_t)shared + HUGE_SIZE - 10000),
		 sizeof(buffer));
	CHECK(pattern_matches(buffer, sizeof(buffer), LARGE, HUGE_SIZE - 10000));
	CHECK(pwrite(fd, buffer, 8, (uintptr_t)shared + 8192) == -1);
	CHECK(pattern_matches(shared, 65536, LARGE, 0));
	end_child(pid);
}

POINT(vm_readv, "process_vm_readv and process_vm_writev")
{
	char *shared = map(PROT_READ, MAP_SHARED), *buffer = malloc(3 << 20);
	struct iovec local = { buffer, 3 << 20 }, remote = { shared + HUGE_SIZE - 4000, 3 << 20 };
	pid_t pid = waiting_child();

	CHECK_EQ(process_vm_readv(pid, &local, 1, &remote, 1, 0), 3 << 20);
	CHECK(pattern_matches(buffer, 3 << 20, LARGE, HUGE_SIZE - 4000));
	remote.iov_len = 4096;
	CHECK_FAILS(process_vm_writev(pid, &local, 1, &remote, 1, 0), EFAULT);
	/* The part before the end of the mapping. */
	remote = (struct iovec){ shared + LARGE - 100, 100 };
	CHECK_EQ(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), 100);
	CHECK(pattern_matches(buffer, 100, LARGE, LARGE - 100));
	end_child(pid);
}

int main(void)
{
	mnt = fixture_mount("tree");
	return ktap_run();
}
