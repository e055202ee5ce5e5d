// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every way to read a file.
 *
 * Group: files
 */
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "util.h"

static const char *mnt;

/* The seed of a file's content is its size. */
#define SIZE 12345
#define LENGTH (2 * HUGE_SIZE + 4096)

POINT(sequential, "sequential reads to the end of file")
{
	static const u64 sizes[] = {
		0, 1, 4095, 4096, 4097, 65537, HUGE_SIZE - 1, HUGE_SIZE, HUGE_SIZE + 1
	};
	static char buffer[10000];

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		int fd = open_size(mnt, sizes[i], 0);
		u64 offset = 0;
		ssize_t length;

		while ((length = read(fd, buffer, sizeof(buffer))) > 0) {
			CHECK(pattern_matches(buffer, length, sizes[i], offset));
			offset += length;
		}
		CHECK_EQ(length, 0);
		CHECK_EQ(offset, sizes[i]);
		CHECK_EQ(lseek(fd, 0, SEEK_CUR), sizes[i]);
		close(fd);
	}
}

POINT(positioned, "reads at odd offsets of odd lengths")
{
	static const u64 offsets[] = {
		0, 1, 4095, 4096, 4097, HUGE_SIZE - 1, HUGE_SIZE, 2 * HUGE_SIZE + 4095
	};
	static const size_t lengths[] = { 1, 2, 8, 63, 4096, 8191, 100000 };
	static char buffer[100000];
	int fd = open_size(mnt, LENGTH, 0);

	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++)
		for (size_t j = 0; j < ARRAY_SIZE(lengths); j++) {
			size_t left = LENGTH - offsets[i];
			size_t want = lengths[j] < left ? lengths[j] : left;

			CHECK_EQ(pread(fd, buffer, lengths[j], offsets[i]), want);
			CHECK(pattern_matches(buffer, want, LENGTH, offsets[i]));
		}
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
}

POINT(whole_in_one, "16 MiB in one read")
{
	char *buffer = malloc(LARGE);
	int fd = open_size(mnt, LARGE, 0);

	CHECK_EQ(read(fd, buffer, LARGE), LARGE);
	CHECK(pattern_matches(buffer, LARGE, LARGE, 0));
	CHECK_EQ(read(fd, buffer, 1), 0);
}

POINT(end_of_file, "reads at and after the end of file")
{
	char buffer[100];
	int fd = open_size(mnt, SIZE, 0);

	memset(buffer, 0x77, sizeof(buffer));
	CHECK_EQ(pread(fd, buffer, 100, SIZE - 10), 10);
	CHECK(pattern_matches(buffer, 10, SIZE, SIZE - 10));
	CHECK_EQ(buffer[10], 0x77); /* nothing after the bytes read is written */
	CHECK_EQ(pread(fd, buffer, 100, SIZE), 0);
	CHECK_EQ(pread(fd, buffer, 100, SIZE + 1), 0);
	CHECK_EQ(pread(fd, buffer, 100, 16384), 0);
	CHECK_EQ(pread(fd, buffer, 100, 1LL << 40), 0);
	CHECK_EQ(pread(fd, buffer, 0, 0), 0);
	CHECK(pread(fd, buffer, 100, INT64_MAX - 100) <= 0);
	CHECK_FAILS(pread(fd, buffer, 1, -1), EINVAL);
}

POINT(vectors, "vectors")
{
	char a[10], b[5000], c[1];
	struct iovec vector[4] = {
		{ a, sizeof(a) }, { b, sizeof(b) }, { NULL, 0 }, { c, sizeof(c) }
	};
	int fd = open_size(mnt, SIZE, 0);

	CHECK_EQ(readv(fd, vector, 4), 5011);
	CHECK(pattern_matches(a, sizeof(a), SIZE, 0) && pattern_matches(b, sizeof(b), SIZE, 10) &&
	      pattern_matches(c, sizeof(c), SIZE, 5010));
	CHECK_EQ(preadv(fd, vector, 4, SIZE - 11), 11);
	CHECK_EQ(preadv2(fd, vector, 4, 100, 0), 5011);
	CHECK(pattern_matches(b, sizeof(b), SIZE, 110));
	CHECK_EQ(preadv2(fd, vector, 4, 100, RWF_HIPRI), 5011);
}

POINT(nowait, "RWF_NOWAIT")
{
	char buffer[4096];
	struct iovec vector = { buffer, sizeof(buffer) };
	int fd = open_size(mnt, SIZE, 0);
	ssize_t length = preadv2(fd, &vector, 1, 1, RWF_NOWAIT);

	if (on_fuse())
		SKIP("reads through FUSE may block");
	/* Reading memory never waits. */
	CHECK_EQ(length, sizeof(buffer));
	CHECK(pattern_matches(buffer, sizeof(buffer), SIZE, 1));
}

POINT(direct, "O_DIRECT, aligned or not")
{
	char *buffer = aligned_alloc(4096, 16384);
	int fd = open_size(mnt, SIZE, O_DIRECT);

	CHECK_EQ(pread(fd, buffer, 4096, 4096), 4096);
	CHECK(pattern_matches(buffer, 4096, SIZE, 4096));
	CHECK_EQ(pread(fd, buffer, 16384, 0), SIZE);
	CHECK(pattern_matches(buffer, SIZE, SIZE, 0));
	/* No block device is involved that would need alignment. */
	CHECK_EQ(pread(fd, buffer + 1, 1000, 3), 1000);
	CHECK(pattern_matches(buffer + 1, 1000, SIZE, 3));
}

POINT(bad_buffers, "bad buffers")
{
	int fd = open_size(mnt, SIZE, 0);
	const size_t page = page_size();
	char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ssize_t length;

	CHECK_FAILS(pread(fd, nowhere, 100, 0), EFAULT);
	CHECK_FAILS(pread(fd, nowhere_in_kernel, 100, 0), EFAULT);
	REQUIRE(!mprotect(pages + page, page, PROT_NONE));
	CHECK_FAILS(pread(fd, pages + page, 100, 0), EFAULT);
	length = pread(fd, pages + page - 96, 1000, 0);
	CHECK_EQ(length, 96); /* as much as there was room for */
	CHECK(pattern_matches(pages + page - 96, length > 0 ? length : 0, SIZE, 0));
	CHECK_EQ(lseek(fd, 4000, SEEK_SET), 4000);
	CHECK_FAILS(read(fd, nowhere, 100), EFAULT);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 4000);
}

POINT(seeking, "lseek")
{
	int fd = open_size(mnt, SIZE, 0);

	CHECK_EQ(lseek(fd, 100, SEEK_SET), 100);
	CHECK_EQ(lseek(fd, -50, SEEK_CUR), 50);
	CHECK_EQ(lseek(fd, 5, SEEK_END), SIZE + 5);
	CHECK_FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
	CHECK_FAILS(lseek(fd, 0, 99), EINVAL);
}

POINT(sparse_files, "sparse files")
{
	static char buffer[HUGE_SIZE];
	int fd = open_in(mnt, "sparse/islands", O_RDONLY);
	int hole = open_in(mnt, "sparse/hole", O_RDONLY);
	struct stat stat;

	CHECK_EQ(pread(fd, buffer, 10, HUGE_SIZE - 3), 10);
	CHECK(pattern_matches(buffer, 10, 1, HUGE_SIZE - 3));
	CHECK_EQ(pread(fd, buffer, 10000, 20000), 10000);
	CHECK(all_zero(buffer, 10000));
	CHECK_EQ(pread(fd, buffer, 1000, 4 * HUGE_SIZE), 123);
	CHECK(all_zero(buffer, 123));
	CHECK(!fstat(hole, &stat));
	CHECK_EQ(stat.st_size, 3 * HUGE_SIZE + 1);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(read(hole, buffer, HUGE_SIZE), HUGE_SIZE);
		CHECK(all_zero(buffer, HUGE_SIZE));
	}
	CHECK_EQ(read(hole, buffer, HUGE_SIZE), 1);
}

POINT(advice, "fadvise and readahead")
{
	static const int advices[] = {
		POSIX_FADV_NORMAL,   POSIX_FADV_RANDOM,	  POSIX_FADV_SEQUENTIAL,
		POSIX_FADV_WILLNEED, POSIX_FADV_DONTNEED, POSIX_FADV_NOREUSE,
	};
	int fd = open_size(mnt, LENGTH, 0);

	for (size_t i = 0; i < ARRAY_SIZE(advices); i++)
		CHECK_EQ(posix_fadvise(fd, 0, 0, advices[i]), 0);
	CHECK_EQ(posix_fadvise(fd, 0, 0, 99), EINVAL);
	CHECK_EQ(readahead(fd, 0, LENGTH), 0);
}

POINT(splicing, "splice and tee")
{
	static char buffer[65536];
	int fd = open_size(mnt, LENGTH, 0), ends[2], copy[2];
	loff_t offset = 4000;
	ssize_t length;

	REQUIRE(!pipe(ends) && !pipe(copy));
	length = splice(fd, &offset, ends[1], NULL, sizeof(buffer), 0);
	CHECK(length > 0 && offset == 4000 + length);
	CHECK_EQ(tee(ends[0], copy[1], length, 0), length);
	CHECK_EQ(read(ends[0], buffer, length), length);
	CHECK(pattern_matches(buffer, length, LENGTH, 4000));
	CHECK_EQ(read(copy[0], buffer, sizeof(buffer)), length);
	CHECK(pattern_matches(buffer, length, LENGTH, 4000));
	offset = LENGTH;
	CHECK_EQ(splice(fd, &offset, ends[1], NULL, 100, 0), 0);
	CHECK_FAILS(splice(ends[0], NULL, fd, NULL, 100, 0), EBADF);
}

POINT(sendfile_to_file, "sendfile to a file")
{
	int fd = open_size(mnt, LENGTH, 0), to = scratch_file();
	off_t offset = 10;
	size_t done = 0;

	while (done < LENGTH - 10) {
		ssize_t length = sendfile(to, fd, &offset, LENGTH);

		REQUIRE(length > 0);
		done += length;
	}
	CHECK_EQ(done, LENGTH - 10);
	CHECK_EQ(sendfile(to, fd, &offset, 100), 0);
	CHECK(holds(to, LENGTH, 10, LENGTH - 10));
}

POINT(sendfile_to_socket, "sendfile to a socket")
{
	static char buffer[SIZE + 1];
	int fd = open_size(mnt, SIZE, 0), ends[2];

	REQUIRE(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	CHECK_EQ(sendfile(ends[0], fd, NULL, SIZE + 1), SIZE);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), SIZE);
	CHECK_EQ(recv(ends[1], buffer, sizeof(buffer), MSG_DONTWAIT), SIZE);
	CHECK(pattern_matches(buffer, SIZE, SIZE, 0));
}

int main(void)
{
	mnt = fixture_mount("tree");
	return ktap_run();
}
