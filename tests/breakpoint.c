// SPDX-License-Identifier: GPL-2.0-only
/* Programs that are debugged, on each architecture that the tests know. */
#include <elf.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "breakpoint.h"

#if defined(__x86_64__)

/* int3: the processor stops after it. */
#define BREAKPOINT 0xccUL
#define BREAKPOINT_MASK 0xffUL
#define program_counter rip

#elif defined(__aarch64__)

/* brk #0: the processor stops at it. */
#define BREAKPOINT 0xd4200000UL
#define BREAKPOINT_MASK 0xffffffffUL
#define program_counter pc

#endif

static void wait_for_stop(pid_t pid, int signal)
{
	int status;

	REQUIRE(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	CHECK_EQ(WSTOPSIG(status), signal);
}

pid_t traced_helper(const char *mount, const char *path)
{
	char whole[PATH_MAX];
	pid_t pid = fork();

	snprintf(whole, sizeof(whole), "%s/%s", mount, path);
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		execl(whole, whole, NULL);
		_exit(99);
	}
	wait_for_stop(pid, SIGTRAP);
	return pid;
}

bool reach_breakpoint(pid_t pid)
{
	struct user_regs_struct before;
	struct iovec vector = { &before, sizeof(before) };
	long text;

	REQUIRE(!ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &vector));
	errno = 0;
	text = ptrace(PTRACE_PEEKTEXT, pid, before.program_counter, NULL);
	if (errno)
		return false;
	CHECK(!ptrace(PTRACE_POKETEXT, pid, before.program_counter, (text & ~BREAKPOINT_MASK) | BREAKPOINT));
	CHECK(!ptrace(PTRACE_CONT, pid, NULL, NULL));
	wait_for_stop(pid, SIGTRAP);
	/* Execute the instruction that was there. */
	CHECK(!ptrace(PTRACE_POKETEXT, pid, before.program_counter, text));
	CHECK(!ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &vector));
	return true;
}

void traced_end(pid_t pid)
{
	int status;

	CHECK(!ptrace(PTRACE_CONT, pid, NULL, NULL));
	REQUIRE(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
}
