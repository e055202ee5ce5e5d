// SPDX-License-Identifier: GPL-2.0-only
/* A static program whose text has pieces of 2 MiB that it executes only late. */
#include <stdio.h>
#include <unistd.h>

#include "late.h"

/* The marker after the function says where it is in the file. */
asm(".pushsection .text\n"
	".balign 4096\n"
	".skip 6 << 20\n"
	".globl late\n"
	"late:\n"
	"ret\n"
	".ascii \"daxfs-late-text\"\n"
	".balign 4096\n"
	".skip 4 << 20\n"
	".popsection\n");

int main(void)
{
	if (write(STDOUT_FILENO, "started\n", 8) != 8)
		return 1;
	late();
	return 42;
}
