// SPDX-License-Identifier: GPL-2.0-only
/* Parts of the generated tree: names, symlink targets, and directories of all sizes. */
#include "mktree.h"

void make_names(void)
{
	static const char *const odd[] = {
		" ", "  ", "-rf", "--help", "...", "..x", ".x", ".hidden", "a b", "a\nb", "\n", "\t",
		"'", "\"", "\\", "*", "%s%n", "$(false)", "A", "a", "con.", "~", "\xc3\xa9",
		"e\xcc\x81", "\xff\xfe", "\xed\xa0\x80", "\xe2\x80\xae.txt", "\xf0\x9f\x92\xbe",
	};
	char name[NAME_MAX + 1];

	enter("names");
	enter("odd");
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++)
		empty_file(odd[i]);
	leave();
	enter("bytes"); /* every byte that a name may consist of */
	for (int byte = 1; byte < 256; byte++) {
		snprintf(name, sizeof(name), "%c", byte);
		if (byte != '/' && byte != '.')
			empty_file(name);
	}
	leave();
	enter("lengths"); /* each of them the start of the next */
	memset(name, 'n', NAME_MAX);
	for (int length = 1; length <= NAME_MAX; length++) {
		name[length] = 0;
		empty_file(name);
		name[length] = 'n';
	}
	leave();
	enter("long"); /* 255 bytes of any value, and a pair that differs in the last byte */
	name[NAME_MAX] = 0;
	for (int i = 0; i < 100; i++) {
		pattern_fill(name, NAME_MAX, i, 0);
		for (int j = 0; j < NAME_MAX; j++)
			if (!name[j] || name[j] == '/')
				name[j] = 'x';
		empty_file(name);
		name[NAME_MAX - 1] ^= 0x80;
		if (name[NAME_MAX - 1] && name[NAME_MAX - 1] != '/')
			empty_file(name);
	}
	memset(name, 0xff, NAME_MAX);
	empty_file(name);
	leave();
	leave();
}

void make_symlinks(void)
{
	static const int lengths[] = { 1, 2, 15, 16, 59, 60, 61, 255, 256, 1023, 4094, 4095 };
	char target[4096], name[32];

	enter("symlinks");
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		for (int j = 0; j < lengths[i]; j++)
			target[j] = pattern_byte(i, j) ? pattern_byte(i, j) : 1;
		target[lengths[i]] = 0;
		snprintf(name, sizeof(name), "length-%d", lengths[i]);
		made(symlink(target, name), name);
	}
	made(symlink("loop", "loop"), "loop");
	made(symlink("/no/such/place", "absolute"), "absolute");
	made(symlink("../names/odd", "up"), "up");
	made(symlink(" ", "blank"), "blank");
	made(symlink("a\nb", "newline"), "newline");
	made(symlink("../sizes/4097", "file"), "file");
	leave();
}

void make_directories(void)
{
	static const unsigned int counts[] = {
		0, 1, 2, 3, 4, 5, 15, 16, 17, 31, 63, 64, 65, 300, 3000,
	};
	char name[NAME_MAX + 1];

	enter("directories");
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		snprintf(name, sizeof(name), "%u", counts[i]);
		enter(name);
		for (unsigned int j = 0; j < counts[i]; j++) {
			many_name(name, j);
			if (j == 0)
				empty_file("first");
			else if (link("first", name))
				die(name);
		}
		leave();
	}
	enter("deep"); /* far deeper than a path can be */
	memset(name, 'd', NAME_MAX);
	name[NAME_MAX] = 0;
	for (int i = 0; i < 100; i++)
		enter(i % 4 ? "d" : name);
	sized_file(5000);
	for (int i = 0; i < 100; i++)
		leave();
	leave();
	leave();
}
