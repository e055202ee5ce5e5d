// SPDX-License-Identifier: GPL-2.0
/* A static program to be run from the file system under test. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Data that the program changes in its own, private pages. */
static int counter = 41;

int main(int argc, char **argv)
{
	counter++;
	if (argc > 1 && !strcmp(argv[1], "ids"))
		printf("%u %u\n", getuid(), geteuid());
	else if (argc > 1 && !strcmp(argv[1], "print"))
		printf("%d %s\n", counter, argv[argc - 1]);
	else
		return counter;
	return 0;
}
