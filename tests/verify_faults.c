// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page fault that verifies a piece (verify=lazy) does not hold up other threads of its process,
 * which may change its mapping meanwhile, or end it.
 *
 * Group: memory
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,reserve,pci=sources.daxfs drm share
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/mount.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/uio.h>

#include "device.h"
#include "image.h"
#include "ktap.h"
#include "source.h"
#include "util.h"

#define LARGE (16UL << 20)
#define PIECE HUGE_SIZE
#define PIECES (LARGE / PIECE)
/* Verifying a piece takes far longer than so many calls of munmap(2). */
#define CALLS 8

static const struct source *source;
static struct image image;
static const char *mnt;

/* A thread that faults. The numbers are those of pieces. */
struct faulting {
	char *mapped;
	/* Which piece it may fault now, has begun to fault, and has faulted. */
	int allowed, begun, done;
};

static void set(int *number, int value)
{
	__atomic_store_n(number, value, __ATOMIC_SEQ_CST);
}

static int get(int *number)
{
	return __atomic_load_n(number, __ATOMIC_SEQ_CST);
}

static void await(int *number, int value)
{
	while (get(number) < value)
		sched_yield();
}

static void mount_lazily(void)
{
	int memory = source->make(source, &image), context;

	REQUIRE(memory >= 0);
	context = source_context(source, memory);
	REQUIRE(!context_set(context, FSCONFIG_SET_STRING, "digest", image_digest(&image), 0));
	REQUIRE(!context_set(context, FSCONFIG_SET_STRING, "verify", "lazy", 0));
	REQUIRE(context_mount(context, mnt));
	if (memory)
		close(memory);
}

/* Map the large file. The mapping is all that keeps it. */
static char *map_large(void)
{
	char *mapped = map_length(mnt, LARGE, LARGE, PROT_READ, MAP_SHARED);

	REQUIRE(mapped != MAP_FAILED);
	return mapped;
}

static void *fault_pieces(void *argument)
{
	struct faulting *faulting = argument;

	for (int piece = 1; piece < (int)PIECES; piece++) {
		await(&faulting->allowed, piece);
		set(&faulting->begun, piece);
		touch_pages(faulting->mapped + (piece - 1) * PIECE, 1, 1);
		set(&faulting->done, piece);
	}
	return NULL;
}

/* Each call changes the area that the other thread faults in, so it waits for that area's lock. */
static void unmapping(void)
{
	struct faulting faulting = {};
	int ahead = 0;
	char *end;
	pthread_t thread;

	mount_lazily();
	faulting.mapped = map_large();
	end = faulting.mapped + LARGE;
	REQUIRE(!pthread_create(&thread, NULL, fault_pieces, &faulting));
	for (int piece = 1; piece < (int)PIECES; piece++) {
		int calls = 0;

		set(&faulting.allowed, piece);
		await(&faulting.begun, piece);
		/* The last piece has pages for all of them. */
		while (calls < CALLS && get(&faulting.done) < piece) {
			end -= page_size();
			CHECK(!munmap(end, page_size()));
			calls++;
		}
		ahead += get(&faulting.done) < piece;
		await(&faulting.done, piece);
	}
	pthread_join(thread, NULL);
	/* Other work of the machine may stop one of the threads for some time. */
	CHECK(ahead >= (int)PIECES - 3);
	printf("# ahead of %d of %d faults\n", ahead, (int)PIECES - 1);
	CHECK_EQ(counter_of(mnt, "pieces_verified"), PIECES - 1);
	CHECK(pattern_in_pages(faulting.mapped, LARGE - PIECE, LARGE, 0));
	CHECK(!munmap(faulting.mapped, end - faulting.mapped));
	CHECK_EQ(bounded_umount(mnt), 0);
}

static void *fault_one(void *argument)
{
	struct faulting *faulting = argument;

	set(&faulting->begun, 1);
	touch_pages(faulting->mapped, 1, 1);
	set(&faulting->done, 1);
	return NULL;
}

/* Unmap the file while another thread faults in it: the file goes away, and the thread gets SIGSEGV. */
static int unmap_all(void *argument)
{
	struct faulting faulting = { .mapped = map_large() };
	pthread_t thread;

	signal(SIGSEGV, SIG_DFL);
	if (pthread_create(&thread, NULL, fault_one, &faulting))
		return 1;
	await(&faulting.begun, 1);
	munmap(faulting.mapped, LARGE);
	pthread_join(thread, NULL);
	/* It was faster. */
	return 0;
}

static void unmapped(void)
{
	int status = 0, times = 0;

	while (!WIFSIGNALED(status) && times++ < 20) {
		mount_lazily();
		status = reaped("a process that unmaps a file", background(unmap_all, NULL));
		CHECK_EQ(bounded_umount(mnt), 0);
	}
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static int load_all(void *argument)
{
	char *mapped = map_large();

	touch_pages(mapped, LARGE, PIECE);
	return 0;
}

/* The signal comes while the process faults, in one piece or another. */
static void killing(void)
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
static void kernel_reads(void)
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

int main(void)
{
	static const struct ktap_test tests[] = {
		{ "another thread unmaps pages of the area", unmapping },
		{ "another thread unmaps the file", unmapped },
		{ "the process is killed", killing },
		{ "the kernel reads the mapping", kernel_reads },
	};

	mnt = private_mount_point();
	if (!sources_image(&image))
		ktap_skip_all("needs sources.daxfs in DAXFS_IMAGES");
	if (!(image.super->compat & COMPAT_SUMS))
		ktap_skip_all("needs an image with sums (mkdaxfs --sums)");
	return run_on_sources(tests, ARRAY_SIZE(tests), source_stands_for_way, &image, &source);
}
