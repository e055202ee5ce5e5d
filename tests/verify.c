// SPDX-License-Identifier: GPL-2.0-only
/*
 * verify=lazy on a source for each way to map: damage is found before the first byte of it is read or mapped, also by a
 * private mapping or the kernel, good pieces stay usable, and a mount that cannot be verified is refused. For remounts see
 * remount.
 *
 * Group: memory
 * Machine: cpus=2 nvdimm=sources.daxfs drm share
 */
#include <sys/sendfile.h>
#include <sys/uio.h>

#include "lib/device.h"

/* A damaged byte of the large file, in its third piece, and the start of its page. */
#define BAD (2 * PIECE + 12345)
#define BAD_PAGE (BAD & ~4095UL)

static const struct source *source;
static struct image image;
static const char *mnt;
static int memory;

/* Return the options of a mount; a NULL leaves one out. The text changes with the next call. */
static const char *checks(const char *digest, const char *verify)
{
	static char text[128];

	snprintf(text, sizeof(text), "%s%s%s%s%s", digest ? "digest=" : "", digest ?: "", digest && verify ? "," : "",
		 verify ? "verify=" : "", verify ?: "");
	return text;
}

static int mount_with(const char *dir, const char *digest, const char *verify)
{
	return context_mount_with(source_context(source, memory), dir, checks(digest, verify));
}

static int mount_lazily(void)
{
	return mount_with(mnt, image_digest(&image), "lazy");
}

/* Put @changed into the memory, since make() leaves a device's content alone. */
static void set_memory(const struct image *changed)
{
	memory = source->make(source, changed);
	REQUIRE(memory >= 0);
	if (!source->key)
		image_write(changed, source_device(source));
}

/* After set_memory(): close the memory, or write the image to the device again. */
static void restore(void)
{
	if (source->key)
		close(memory);
	else
		image_write(&image, source_device(source));
}

/* Return the offset of the large file in the image. */
static u64 large_at(void)
{
	return image_inode(&image, image_entry(&image, "sizes/16777216")->ino)->data;
}

static int open_large(void)
{
	return open_size(mnt, LARGE, O_RDONLY);
}

static char *map_large(u64 offset, int protection, int flags)
{
	int fd = open_large();
	char *address = mmap(NULL, LARGE - offset, protection, flags, fd, offset);

	REQUIRE(address != MAP_FAILED);
	close(fd);
	return address;
}

/* Return the value of a counter of the mount. */
static long long counter(const char *name)
{
	return counter_of(mnt, name);
}

/* Mount lazily. The mount keeps the memory. */
static void mount_good(void)
{
	memory = source->make(source, &image);
	REQUIRE(memory >= 0 && !mount_lazily());
	if (memory)
		close(memory);
}

/* Mount lazily with one byte of the large file changed. */
static void mount_damaged(void)
{
	struct image changed = image_copy(&image);

	REQUIRE(large_at() % PIECE == 0);
	changed.bytes[large_at() + BAD] ^= 4;
	set_memory(&changed);
	REQUIRE(!mount_lazily());
	image_free(&changed);
	CHECK_EQ(counter("pieces_verified"), 0);
}

static void unmount(void)
{
	CHECK_EQ(bounded_umount(mnt), 0);
	restore();
}

/* Check the content of the large file, read and mapped, except the third piece. */
static void others_are_good(void)
{
	char *buffer = malloc(LARGE), *mapped = map_large(0, PROT_READ, MAP_SHARED);
	int fd = open_large();

	CHECK_EQ(pread(fd, buffer, LARGE, 0), 2 * PIECE);
	CHECK(pattern_matches(buffer, 2 * PIECE, LARGE, 0));
	CHECK_EQ(pread(fd, buffer, LARGE, 3 * PIECE), LARGE - 3 * PIECE);
	CHECK(pattern_matches(buffer, LARGE - 3 * PIECE, LARGE, 3 * PIECE));
	CHECK(pattern_in_pages(mapped, 2 * PIECE, LARGE, 0));
	CHECK(pattern_in_pages(mapped + 3 * PIECE, LARGE - 3 * PIECE, LARGE, 3 * PIECE));
	CHECK(gets_sigbus(mapped + 2 * PIECE) && gets_sigbus(mapped + 3 * PIECE - 1));
	munmap(mapped, LARGE);
	free(buffer);
	close(fd);
	CHECK_EQ(counter("pieces_bad"), 1);
}

POINT(all_is_good, "an image without damage")
{
	char command[PATH_MAX], *mapped, *buffer = malloc(LARGE);
	int fd;

	mount_good();
	/* The mount has read metadata only. */
	CHECK_EQ(counter("pieces_verified"), 0);
	fd = open_large();
	CHECK_EQ(pread(fd, buffer, 1, PIECE), 1);
	CHECK_EQ(counter("pieces_verified"), 1);
	CHECK_EQ(pread(fd, buffer, 2, 2 * PIECE - 1), 2);
	CHECK_EQ(counter("pieces_verified"), 2);
	mapped = map_large(0, PROT_READ, MAP_SHARED);
	CHECK(pattern_in_pages(mapped, LARGE, LARGE, 0));
	CHECK_EQ(counter("pieces_verified"), LARGE / PIECE);
	CHECK_EQ(pread(fd, buffer, LARGE, 0), LARGE);
	CHECK(pattern_matches(buffer, LARGE, LARGE, 0));
	close(fd);
	fd = open_in(mnt, "sizes/2097153", O_RDONLY);
	CHECK_EQ(pread(fd, buffer, LARGE, 0), HUGE_SIZE + 1);
	CHECK(pattern_matches(buffer, HUGE_SIZE + 1, HUGE_SIZE + 1, 0));
	close(fd);
	CHECK_EQ(counter("pieces_bad"), 0);
	CHECK_EQ(counter("errors_io") + counter("errors_corrupted"), 0);
	munmap(mapped, LARGE);

	CHECK(strstr(mount_options(mnt), image_digest(&image)));
	CHECK(strstr(mount_options(mnt), ",verify=lazy"));
	/* mount(8) repeats these options. */
	snprintf(command, sizeof(command), "mount -o remount,ro,noexec '%s'", mnt);
	CHECK(!system(command));
	CHECK_EQ(bounded_umount(mnt), 0);
}

POINT(damaged_read, "reads of a damaged piece")
{
	int fd, kmsg, pipes[2], sink;
	char buffer[8192], line[500] = "", number[32];

	mount_damaged();
	fd = open_large();
	kmsg = kmsg_open();
	CHECK_FAILS(pread(fd, buffer, 1, 3 * PIECE - 1), EIO);
	snprintf(number, sizeof(number), "from %llu to", (large_at() + BAD) / PIECE * PIECE);
	CHECK_EQ(kmsg_count(kmsg, "does not match its SHA-256", line, sizeof(line)), 1);
	if (!CHECK(strstr(line, number)))
		printf("# %s\n", line);
	close(kmsg);
	CHECK_FAILS(pread(fd, buffer, 1, BAD), EIO);
	/* The bytes before it can be read. */
	CHECK_EQ(pread(fd, buffer, 8192, 2 * PIECE - 4096), 4096);
	CHECK(pattern_matches(buffer, 4096, LARGE, 2 * PIECE - 4096));
	REQUIRE(!pipe(pipes));
	CHECK_FAILS(splice(fd, &(loff_t){ 2 * PIECE }, pipes[1], NULL, 4096, 0), EIO);
	CHECK_EQ(splice(fd, &(loff_t){ 2 * PIECE - 100 }, pipes[1], NULL, 4096, 0), 100);
	sink = memfd_create("sink", 0);
	CHECK_FAILS(sendfile(sink, fd, &(off_t){ BAD }, 4096), EIO);
	close(sink);
	close(fd);
	others_are_good();
	unmount();
}

POINT(damaged_mapping, "mappings of a damaged piece")
{
	const size_t page = page_size();
	char *shared, *private, *odd;

	signal(SIGBUS, SIG_DFL);
	mount_damaged();
	shared = map_large(0, PROT_READ, MAP_SHARED);
	private = map_large(0, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	/* Pages around a fault here belong to two pieces. */
	odd = map_large(5 * page, PROT_READ, MAP_SHARED);
	touch_pages(odd + 2 * PIECE - 6 * page, page, page);
	touch_pages(odd + 3 * PIECE - 5 * page, page, page);
	CHECK(gets_sigbus(odd + 2 * PIECE - 5 * page));
	CHECK(gets_sigbus(odd + 3 * PIECE - 6 * page));
	CHECK(gets_sigbus(shared + BAD));
	CHECK(gets_sigbus(private + BAD));
	private[2 * PIECE - 1] ^= 1;
	/* The kernel does not populate mappings of frames. */
	CHECK_FAILS(madvise(shared, LARGE, MADV_POPULATE_READ), source->pages ? EFAULT : EINVAL);
	CHECK_FAILS(madvise(private + 2 * PIECE, page, MADV_POPULATE_WRITE),
		    source->pages ? EFAULT : EINVAL);
	munmap(private, LARGE);
	munmap(odd, LARGE - 5 * page);
	munmap(shared, LARGE);
	others_are_good();
	unmount();
}

/* Verifying a piece takes milliseconds, for which RWF_NOWAIT does not wait. */
POINT(no_waiting, "reads that do not wait")
{
	static char bytes[PIECE];
	struct iovec all = { bytes, PIECE };
	int fd;

	mount_good();
	fd = open_large();
	CHECK_FAILS(preadv2(fd, &all, 1, PIECE, RWF_NOWAIT), EAGAIN);
	CHECK_EQ(counter("pieces_verified"), 0);
	CHECK_EQ(pread(fd, bytes, 1, PIECE), 1);
	CHECK_EQ(preadv2(fd, &all, 1, PIECE, RWF_NOWAIT), PIECE);
	CHECK(pattern_matches(bytes, PIECE, LARGE, PIECE));
	CHECK_EQ(preadv2(fd, &all, 1, PIECE + 4096, RWF_NOWAIT), PIECE - 4096);
	CHECK_EQ(counter("pieces_verified"), 1);
	close(fd);
	CHECK_EQ(bounded_umount(mnt), 0);
}

/* Use random pieces of the damaged image. Return false after any wrong result. */
static bool use_pieces(unsigned int seed)
{
	char *mapped = map_large(0, PROT_READ, MAP_SHARED), buffer[4096];
	int fd = open_large(), times = repeats(200);
	bool good = true;

	while (good && times--) {
		u64 at = (u64)rand_r(&seed) % (LARGE / 4096) * 4096;
		bool damaged = at / PIECE == BAD / PIECE;

		if (times % 2) {
			good = pread(fd, buffer, 4096, at) == (damaged ? -1 : 4096) &&
			       (damaged ? errno == EIO : pattern_matches(buffer, 4096, LARGE, at));
		} else if (damaged) {
			good = gets_sigbus(mapped + at);
		} else {
			good = pattern_matches(mapped + at, 4096, LARGE, at);
		}
	}
	close(fd);
	munmap(mapped, LARGE);
	return good;
}

POINT(many_users, "several ordinary users at once")
{
	pid_t users[8];
	int status;

	mount_damaged();
	for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
		users[i] = fork();
		if (users[i])
			continue;
		if (setgid(1000) || setuid(1000))
			_exit(2);
		_exit(!use_pieces(i));
	}
	for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
		REQUIRE(waitpid(users[i], &status, 0) == users[i]);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	/* Each piece was verified by one of them. */
	CHECK(counter("pieces_verified") <= (long long)(LARGE / PIECE - 1));
	others_are_good();
	unmount();
}

/* Check that a mount of @changed is refused, and why. */
static void refused(const struct image *changed, const char *verify, int error, const char *text)
{
	set_memory(changed);
	check_refused(mount_with(mnt, image_digest(&image), verify), error, text);
	restore();
}

POINT(refusals, "refused mounts")
{
	struct image changed = image_copy(&image);
	u64 table = image.super->total_size;

	/* The checksums match, the digest does not. */
	image_inode(&changed, 2)->uid ^= 1;
	image_seal(&changed);
	refused(&changed, "lazy", EBADMSG, "piece of 2 MiB does not match");
	memcpy(changed.bytes, image.bytes, image.size);
	changed.super->label[20] ^= 1;
	image_seal(&changed);
	refused(&changed, "lazy", EBADMSG, "piece of 2 MiB does not match");
	/* The table does not match the digest; nor does the digest match digest=. */
	memcpy(changed.bytes, image.bytes, image.size);
	changed.bytes[table + 100] ^= 1;
	refused(&changed, "lazy", EBADMSG, "table of SHA-256 sums");
	changed.super->sha256[3] ^= 1;
	image_seal(&changed);
	refused(&changed, "lazy", EBADMSG, "SHA-256 is not the expected one");
	/* The table is not part of the image. */
	memcpy(changed.bytes, image.bytes, image.size);
	changed.bytes[table + 100] ^= 1;
	set_memory(&changed);
	CHECK_EQ(mount_with(mnt, image_digest(&image), "full"), 0);
	unmount();
	memcpy(changed.bytes, image.bytes, image.size);
	changed.super->compat = 0;
	image_seal(&changed);
	refused(&changed, "lazy", EOPNOTSUPP, "mkdaxfs --sums");
	image_free(&changed);

	set_memory(&image);
	CHECK_EQ(mount_with(mnt, WRONG_DIGEST, "lazy"), EBADMSG);
	check_refused(mount_with(mnt, NULL, "lazy"), EINVAL, "verify= needs digest=");
	CHECK_EQ(mount_with(mnt, NULL, "full"), EINVAL);
	CHECK_EQ(mount_with(mnt, image_digest(&image), "never"), EINVAL);
	restore();
}

/* The table is not in the memory. */
POINT(cut_table, "the table is cut off")
{
	struct image changed = image_copy(&image);

	if (!source->key || strcmp(source->key, "memfd"))
		SKIP("for memory of any size only");
	memory = memfd_with(&changed, image.size, 0, 0);
	REQUIRE(memory >= 0 && !ftruncate(memory, image.super->total_size));
	REQUIRE(!fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW));
	check_refused(mount_lazily(), EUCLEAN, "larger than the region");
	CHECK_EQ(mount_with(mnt, image_digest(&image), "full"), 0);
	CHECK_EQ(bounded_umount(mnt), 0);
	close(memory);
}

/*
 * A sealed memfd stays as it was verified. Other memory does not: a later write changes files, as
 * without verify=lazy.
 */
POINT(written_later, "memory that is written after it was verified")
{
	struct image changed = image_copy(&image);
	char byte = 0, good;
	int fd;

	changed.bytes[large_at() + BAD] ^= 4;
	good = image.bytes[large_at() + BAD];
	set_memory(&image);
	REQUIRE(!mount_lazily());
	fd = open_large();
	CHECK(pread(fd, &byte, 1, BAD) == 1 && byte == good);
	if (source->key && !strcmp(source->key, "memfd")) {
		CHECK_FAILS((long)mmap(NULL, HUGE_SIZE, PROT_WRITE, MAP_SHARED, memory, 0), EPERM);
		CHECK(pread(fd, &byte, 1, BAD) == 1 && byte == good);
	} else if (!source->key) {
		image_write(&changed, source_device(source));
		CHECK(pread(fd, &byte, 1, BAD) == 1 && byte == (good ^ 4));
	}
	close(fd);
	image_free(&changed);
	unmount();
}

static int load_all(void *argument)
{
	char *mapped = map_large(0, PROT_READ, MAP_SHARED);

	touch_pages(mapped, LARGE, PIECE);
	return 0;
}

/* The signal comes while the process faults, in one piece or another. */
POINT(killing, "the process is killed")
{
	for (int i = 0; i < repeats(4); i++) {
		pid_t pid;
		int status;

		mount_good();
		pid = background_user(load_all, NULL);
		for (double end = now() + limit(); now() < end;)
			if (counter_of(mnt, "pieces_verified") > i % 4)
				break;
		kill(pid, SIGKILL);
		status = reaped("a killed process", pid);
		CHECK(!status || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
		CHECK_EQ(bounded_umount(mnt), 0);
	}
}

/*
 * Check that process_vm_readv(2) and write(2), which do not fault as loads do, get no byte at @hidden, and that
 * write(2) gets the one at @shown. Memory without pages is not for process_vm_readv(2).
 */
static void check_hidden(char *hidden, char *shown)
{
	char byte;
	struct iovec into = { &byte, 1 }, from = { hidden, 1 };
	int sink = memfd_create("sink", MFD_CLOEXEC);

	REQUIRE(sink >= 0);
	CHECK_FAILS(process_vm_readv(getpid(), &into, 1, &from, 1, 0), EFAULT);
	CHECK_FAILS(write(sink, hidden, 1), EFAULT);
	CHECK_EQ(write(sink, shown, 1), 1);
	close(sink);
}

/* Check that the piece after the damaged one, and the one before it, are right but for the byte at @changed. */
static void neighbours_are_good(const char *mapped, size_t changed)
{
	CHECK(pattern_matches(mapped + PIECE, changed - PIECE, LARGE, PIECE));
	CHECK_EQ((u8)mapped[changed], pattern_byte(LARGE, changed) ^ 1);
	CHECK(pattern_matches(mapped + changed + 1, 2 * PIECE - changed - 1, LARGE, changed + 1));
	CHECK(pattern_matches(mapped + 3 * PIECE, PIECE, LARGE, 3 * PIECE));
}

/* A store to a page copies it, whether a load has mapped it before or not. */
POINT(private_writes, "private mappings of a damaged piece are written to")
{
	int zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	char *private, *shared;

	mount_damaged();
	private = map_large(0, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	shared = map_large(0, PROT_READ, MAP_SHARED);
	REQUIRE(zeros >= 0);
	/* The last bytes of the good piece are next to the damaged one. */
	private[2 * PIECE - 1] ^= 1;
	neighbours_are_good(private, 2 * PIECE - 1);
	CHECK(store_gets_sigbus(private + BAD_PAGE));
	CHECK(store_gets_sigbus(private + BAD));
	CHECK(store_gets_sigbus(private + 3 * PIECE - 1));
	CHECK(gets_sigbus(private + BAD));
	CHECK_FAILS(read(zeros, private + BAD_PAGE, 1), EFAULT);
	check_hidden(private + BAD, private);
	check_hidden(private + BAD_PAGE, private);
	/* Failed stores have changed nothing, and a child copies its own pages. */
	CHECK(!store_gets_sigbus(private + 2 * PIECE - 1));
	neighbours_are_good(private, 2 * PIECE - 1);
	/* This piece has not been used yet. */
	private[5 * PIECE + 1] = 99;
	CHECK(private[5 * PIECE + 1] == 99);
	CHECK(pattern_matches(private + 5 * PIECE + 2, PIECE - 2, LARGE, 5 * PIECE + 2));
	CHECK(pattern_matches(shared + PIECE, PIECE, LARGE, PIECE));
	CHECK(pattern_matches(shared + 5 * PIECE, PIECE, LARGE, 5 * PIECE));
	CHECK(gets_sigbus(shared + BAD));
	CHECK_EQ(counter_of(mnt, "pieces_bad"), 1);
	munmap(private, LARGE);
	munmap(shared, LARGE);
	close(zeros);
	unmount();
}

/* Calls that fault in all pages of a range: each repeats a fault as long as that is retried. */
static int lock_pages(void *argument)
{
	const size_t length = 2 * page_size();
	int fd = open_large();
	char *mapped = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, BAD_PAGE);

	/* The kernel does not fault in areas without pages. */
	if (mapped == MAP_FAILED || (mlock(mapped, length) && errno != ENOMEM) || munmap(mapped, length))
		return 1;
	mapped = mmap(NULL, length, PROT_READ, MAP_SHARED | MAP_POPULATE | MAP_LOCKED, fd, BAD_PAGE);
	if (mapped == MAP_FAILED || munmap(mapped, length))
		return 2;
	mapped = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, BAD_PAGE);
	if (mapped == MAP_FAILED || !madvise(mapped, length, MADV_POPULATE_READ) ||
	    !madvise(mapped, length, MADV_POPULATE_WRITE) ||
	    (mlock2(mapped, length, MLOCK_ONFAULT) && errno != ENOMEM))
		return 3;
	return mlockall(MCL_CURRENT) && errno != ENOMEM ? 4 : 0;
}

POINT(locking, "an ordinary user locks pages of a damaged piece")
{
	mount_damaged();
	CHECK_EQ(reaped("a user who locks a damaged piece", background_user(lock_pages, NULL)), 0);
	unmount();
}

int main(void)
{
	mnt = private_mount_point();
	image = sources_image();
	if (!(image.super->compat & COMPAT_SUMS))
		ktap_skip_all("needs an image with sums (mkdaxfs --sums)");
	return run_on_sources(source_stands_for_way, &image, &source);
}
