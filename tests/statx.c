// SPDX-License-Identifier: GPL-2.0-only
/*
 * statx: the alignment for direct I/O, the number of the mount, no birth time, and no file that changes.
 *
 * Group: vfs
 */
#include "util.h"

#ifndef STATX_DIO_READ_ALIGN
#define STATX_DIO_READ_ALIGN 0x00020000U
#endif

static const char *mnt;

static struct statx statx_of(const char *name, unsigned int mask)
{
	struct statx buffer = {};
	int dir = open(mnt, O_PATH | O_CLOEXEC);

	REQUIRE(!statx(dir, name, AT_SYMLINK_NOFOLLOW, mask, &buffer));
	close(dir);
	return buffer;
}

POINT(direct_io_alignment, "statx: direct I/O from any byte")
{
	struct statx file = statx_of("sizes/12345", STATX_BASIC_STATS | STATX_DIOALIGN |
				     STATX_DIO_READ_ALIGN);
	char buffer[100];
	int fd;

	CHECK(file.stx_mask & STATX_DIOALIGN);
	CHECK_EQ(file.stx_dio_mem_align, 1);
	/* The loop driver takes this for a block size, which cannot be less. */
	CHECK_EQ(file.stx_dio_offset_align, 512);
	/* Any offset does. */
	fd = open_in(mnt, "sizes/12345", O_RDONLY | O_DIRECT);
	CHECK_EQ(pread(fd, buffer + 1, 77, 1111), 77);
	CHECK(pattern_matches(buffer + 1, 77, 12345, 1111));
	CHECK(!(statx_of("sizes", STATX_DIOALIGN).stx_mask & STATX_DIOALIGN));
	CHECK(!(statx_of("types/fifo", STATX_DIOALIGN).stx_mask & STATX_DIOALIGN));
}

POINT(mount_id, "statx: the mount's number")
{
	struct statx file = statx_of("sizes/1", STATX_MNT_ID);
	int dir = open(mnt, O_PATH | O_CLOEXEC);
	union {
		struct file_handle head;
		char bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} handle = { .head.handle_bytes = MAX_HANDLE_SZ };
	int id = -1;

	CHECK(file.stx_mask & STATX_MNT_ID);
	CHECK(!name_to_handle_at(dir, "sizes/1", &handle.head, &id, 0));
	CHECK_EQ(file.stx_mnt_id, id);
}

POINT(no_birth_time, "statx: no birth time")
{
	struct statx file = statx_of("sizes/1", STATX_ALL);

	CHECK(!(file.stx_mask & STATX_BTIME));
	CHECK(!file.stx_btime.tv_sec && !file.stx_btime.tv_nsec);
}

POINT(immutable, "statx: immutable")
{
	static const char *const names[] = { ".", "sizes", "sizes/1", "types/fifo", "types/symlink" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct statx file = statx_of(names[i], STATX_BASIC_STATS);

		CHECK(file.stx_attributes_mask & STATX_ATTR_IMMUTABLE);
		CHECK(file.stx_attributes & STATX_ATTR_IMMUTABLE);
	}
}

int main(void)
{
	mnt = fixture_mount("tree");
	return ktap_run();
}
