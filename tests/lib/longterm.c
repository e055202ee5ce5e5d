// SPDX-License-Identifier: GPL-2.0-only
#include <sys/ioctl.h>

#include "longterm.h"

/* The commands are in mm/gup_test.h, which is not installed. */
struct pin {
	u64 address, size;
	u32 flags;
};

#define TEST "/sys/kernel/debug/gup_test"
#define PIN_START _IOW('g', 7, struct pin)
#define PIN_READ _IOW('g', 9, u64)

bool longterm_dax(void)
{
	/* The list is long, and points ask for each mapping. */
	static bool is_known, found;
	FILE *symbols;
	char line[256];

	if (is_known)
		return found;
	is_known = true;
	symbols = fopen("/proc/kallsyms", "r");
	REQUIRE(symbols);
	while (!found && fgets(line, sizeof(line), symbols))
		found = strstr(line, " dax_folio_is_longterm\n");
	fclose(symbols);
	return found;
}

int longterm_open(void)
{
	int file = open(TEST, O_RDWR | O_CLOEXEC);

	REQUIRE(file >= 0);
	return file;
}

int longterm_pin(int file, const void *address, size_t length, u32 flags)
{
	return ioctl(file, PIN_START, &(struct pin){ (uintptr_t)address, length, flags });
}

int longterm_read(int file, void *buffer)
{
	return ioctl(file, PIN_READ, &(u64){ (uintptr_t)buffer });
}
