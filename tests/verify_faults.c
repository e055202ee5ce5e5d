// SPDX-License-Identifier: GPL-2.0-only
/*
 * A process may be killed while its page faults verify pieces (verify=lazy), and the kernel may read its mappings; no
 * page of a damaged piece comes into a private mapping, or through overlayfs.
 *
 * Group: memory
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,reserve,pci=sources.daxfs drm share
 */
#include <sys/uio.h>

#include "device.h"

/* A damaged byte of the large file, in its third piece, and the start of its page. */
#define BAD (2 * PIECE + 12345)
#define BAD_PAGE (BAD & ~4095UL)

static const struct source *source;
static struct image image;
static const char *mnt;

static void mount_memory(int memory)
{
	int context = source_context(source, memory);

	REQUIRE(!context_options(context, "digest=%s,verify=lazy", image_digest(&image)));
	REQUIRE(context_mount(context, mnt));
}

static void mount_lazily(void)
{
	int memory = source->make(source, &image);

	REQUIRE(memory >= 0);
	mount_memory(memory);
	if (memory)
		close(memory);
}

/* Mount with one byte of the large file changed. Return what source_restore() takes. */
static int mount_damaged(void)
{
	struct image changed = image_copy(&image);
	int memory;

	changed.bytes[image_inode(&image, image_entry(&image, "sizes/16777216")->ino)->data + BAD] ^= 4;
	memory = source_fill(source, &changed);
	mount_memory(memory);
	image_free(&changed);
	return memory;
}

/* Map the large file. The mapping is all that keeps it. */
static char *map_large(void)
{
	return map_size(mnt, LARGE, PROT_READ, MAP_SHARED);
}

static int load_all(void *argument)
{
	char *mapped = map_large();

	touch_pages(mapped, LARGE, PIECE);
	return 0;
}

/* The signal comes while the process faults, in one piece or another. */
POINT(killing, "the process is killed")
{
	for (int i = 0; i < repeats(4); i++) {
		pid_t pid;
		int status;

		mount_lazily();
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

/* The kernel reads mappings itself: with a fault, and through get_user_pages(). */
POINT(kernel_reads, "the kernel reads the mapping")
{
	char *mapped, *bytes = malloc(PIECE);
	struct iovec into = { bytes, PIECE }, from;
	int sink;

	mount_lazily();
	mapped = map_large();
	sink = memfd_create("sink", MFD_CLOEXEC);
	REQUIRE(sink >= 0);
	CHECK_EQ(write(sink, mapped + PIECE, PIECE), PIECE);
	CHECK_EQ(pread(sink, bytes, PIECE, 0), PIECE);
	CHECK(pattern_matches(bytes, PIECE, LARGE, PIECE));
	CHECK_EQ(counter_of(mnt, "pieces_verified"), 1);
	close(sink);
	if (source->pages) {
		/* It begins in one piece that is not verified and ends in another. */
		from = (struct iovec){ mapped + 7 * PIECE / 2, PIECE };
		CHECK_EQ(process_vm_readv(getpid(), &into, 1, &from, 1, 0), PIECE);
		CHECK(pattern_matches(bytes, PIECE, LARGE, 7 * PIECE / 2));
		CHECK_EQ(counter_of(mnt, "pieces_verified"), 3);
	}
	CHECK(!munmap(mapped, LARGE));
	CHECK_EQ(bounded_umount(mnt), 0);
	free(bytes);
}

/* Return true if a store to @address ends a process with SIGBUS. */
static bool store_gets_sigbus(char *address)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		signal(SIGBUS, SIG_DFL);
		__atomic_store_n(address, 1, __ATOMIC_SEQ_CST);
		_exit(0);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS;
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
	int memory = mount_damaged(), zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	char *private = map_length(mnt, LARGE, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	char *shared = map_large();

	REQUIRE(private != MAP_FAILED && zeros >= 0);
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
	CHECK_EQ(bounded_umount(mnt), 0);
	source_restore(source, memory, &image);
}

/* Calls that fault in all pages of a range: each repeats a fault as long as that is retried. */
static int lock_pages(void *argument)
{
	const size_t length = 2 * page_size();
	int fd = open_size(mnt, LARGE, O_RDONLY);
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
	int memory = mount_damaged();

	CHECK_EQ(reaped("a user who locks a damaged piece", background_user(lock_pages, NULL)), 0);
	CHECK_EQ(bounded_umount(mnt), 0);
	source_restore(source, memory, &image);
}

/* Mount the image as the lower layer of an overlay whose upper one is in @top, on the directory @all. */
static bool mount_overlay(const char *top, const char *all)
{
	char options[4 * PATH_MAX], upper[PATH_MAX + 8], work[PATH_MAX + 8];

	snprintf(upper, sizeof(upper), "%s/upper", top);
	snprintf(work, sizeof(work), "%s/work", top);
	REQUIRE(!mkdir(upper, 0755) && !mkdir(work, 0755) && !mkdir(all, 0755));
	snprintf(options, sizeof(options), "lowerdir=%s,upperdir=%s,workdir=%s", mnt, upper, work);
	if (!mount("overlay", all, "overlay", 0, options))
		return true;
	REQUIRE(errno == ENODEV);
	return false;
}

/* Use the large file through the overlay on @all. */
static void use_overlay(const char *all)
{
	char *buffer = malloc(PIECE), *mapped, path[PATH_MAX];
	int fd = open_size(all, LARGE, O_RDONLY);

	CHECK_EQ(pread(fd, buffer, PIECE, PIECE), PIECE);
	CHECK(pattern_matches(buffer, PIECE, LARGE, PIECE));
	CHECK_FAILS(pread(fd, buffer, 1, BAD), EIO);
	CHECK_EQ(pread(fd, buffer, 8192, 2 * PIECE - 4096), 4096);
	mapped = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	REQUIRE(mapped != MAP_FAILED);
	mapped[PIECE] ^= 1;
	neighbours_are_good(mapped, PIECE);
	CHECK(gets_sigbus(mapped + BAD) && store_gets_sigbus(mapped + BAD));
	check_hidden(mapped + BAD, mapped);
	munmap(mapped, LARGE);
	close(fd);
	/* A copy would have the damaged piece. */
	snprintf(path, sizeof(path), "%s/sizes/%lu", all, LARGE);
	CHECK_FAILS(open(path, O_RDWR | O_CLOEXEC), EIO);
	fd = open_size(all, LARGE, O_RDONLY);
	CHECK_FAILS(pread(fd, buffer, 1, BAD), EIO);
	close(fd);
	free(buffer);
}

POINT(through_overlayfs, "a damaged piece through overlayfs")
{
	int memory = mount_damaged();
	char top[PATH_MAX], all[PATH_MAX + 8];
	bool mounted;

	snprintf(top, sizeof(top), "%s/overlay", work_dir());
	REQUIRE(!mkdir(top, 0755) || errno == EEXIST);
	REQUIRE(!mount("tmpfs", top, "tmpfs", 0, NULL));
	snprintf(all, sizeof(all), "%s/all", top);
	mounted = mount_overlay(top, all);
	if (mounted) {
		use_overlay(all);
		CHECK_EQ(counter_of(mnt, "pieces_bad"), 1);
		CHECK_EQ(bounded_umount(all), 0);
	}
	CHECK_EQ(bounded_umount(top), 0);
	CHECK_EQ(bounded_umount(mnt), 0);
	source_restore(source, memory, &image);
	if (!mounted)
		SKIP("needs overlayfs");
}

int main(void)
{
	mnt = private_mount_point();
	image = sources_image();
	if (!(image.super->compat & COMPAT_SUMS))
		ktap_skip_all("needs an image with sums (mkdaxfs --sums)");
	return run_on_sources(source_stands_for_way, &image, &source);
}
