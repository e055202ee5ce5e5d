// SPDX-License-Identifier: GPL-2.0-only
/*
 * Write to memory that may be read-only, through a mapping of a file or of /dev/mem, and print the result.
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE	4096UL

static int usage(FILE *stream)
{
	fprintf(stream,
		"Usage: scribble FILE OFFSET LENGTH\n\n"
		"Inverts the first word of each page of FILE through a shared mapping, and prints how many pages\n"
		"have changed then. FILE can be /dev/mem.\n"
		"Exit status: 0 if no page has changed, 1 if pages have, 2 if FILE cannot be mapped for writing.\n");
	return stream == stderr ? 2 : 0;
}

int main(int argc, char **argv)
{
	size_t length, changed = 0;
	uint64_t *words;
	off_t offset;
	int file;

	if (argc != 4)
		return usage(stderr);
	/* Not O_SYNC: the mapping must have the cache attributes that the kernel's own has. */
	file = open(argv[1], O_RDWR | O_CLOEXEC);
	if (file < 0)
		err(2, "%s", argv[1]);
	offset = strtoull(argv[2], NULL, 0);
	length = strtoull(argv[3], NULL, 0);
	words = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, offset);
	if (words == MAP_FAILED)
		err(2, "%s: mmap", argv[1]);
	for (size_t at = 0; at < length / sizeof(*words); at += PAGE / sizeof(*words)) {
		uint64_t before = __atomic_load_n(&words[at], __ATOMIC_SEQ_CST);

		__atomic_store_n(&words[at], ~before, __ATOMIC_SEQ_CST);
		changed += __atomic_load_n(&words[at], __ATOMIC_SEQ_CST) != before;
	}
	printf("%zu of %zu pages changed\n", changed, length / PAGE);
	return changed != 0;
}
