// SPDX-License-Identifier: GPL-2.0-only
/* A static program to be run from the file system under test. */
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Data that the program changes in its own, private pages. */
static int counter = 41;

static void print_capabilities(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = {};

	syscall(SYS_capget, &header, data);
	printf("%u %#x\n", getuid(), data[0].effective);
}

int main(int argc, char **argv)
{
	counter++;
	if (argc > 1 && !strcmp(argv[1], "ids"))
		printf("%u %u\n", getuid(), geteuid());
	else if (argc > 1 && !strcmp(argv[1], "print"))
		printf("%d %s\n", counter, argv[argc - 1]);
	else if (argc > 1 && !strcmp(argv[1], "capabilities"))
		print_capabilities();
	else
		return counter;
	return 0;
}
