/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Set breakpoints in another process, on each architecture that the tests know.
 */
#ifndef DAXFS_TESTS_BREAKPOINT_H
#define DAXFS_TESTS_BREAKPOINT_H

#include <elf.h>
#include <stdbool.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/user.h>

#if defined(__x86_64__)

/* int3: the processor stops after it. */
#define BREAKPOINT 0xccUL
#define BREAKPOINT_MASK 0xffUL
#define BREAKPOINT_SKIPPED 1
#define program_counter rip

#elif defined(__aarch64__)

/* brk #0: the processor stops at it. */
#define BREAKPOINT 0xd4200000UL
#define BREAKPOINT_MASK 0xffffffffUL
#define BREAKPOINT_SKIPPED 0
#define program_counter pc

#endif

/* Read (PTRACE_GETREGSET) or write (PTRACE_SETREGSET) the registers of the stopped process @pid. */
static inline bool exchange_registers(int request, pid_t pid, struct user_regs_struct *registers)
{
	struct iovec vector = { registers, sizeof(*registers) };

	return !ptrace(request, pid, NT_PRSTATUS, &vector);
}

/* Replace the instruction at the start of @text, and return the result. */
static inline long with_breakpoint(long text)
{
	return (text & ~BREAKPOINT_MASK) | BREAKPOINT;
}

#endif
