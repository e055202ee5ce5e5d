// SPDX-License-Identifier: GPL-2.0-only
/*
 * scribble FILE OFFSET LENGTH: invert the first word of each page of FILE, which can be /dev/mem, through a shared mapping,
 * and print how many pages have changed then. Exit status: 0 if none has changed, 1 if some have, 2 if FILE cannot be mapped
 * for writing.
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE	4096UL

int main(int argc, char **argv)
{
	size_t length, changed = 0;
	uint64_t *words;
	off_t offset;
	int file;

	if (argc != 4)
		errx(2, "expected FILE OFFSET LENGTH");
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
