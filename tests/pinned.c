// SPDX-License-Identifier: GPL-2.0-only
/*
 * An ordinary user keeps one page of an image in a pipe, or by a pin that lasts where the kernel allows
 * that for DAX. Only the removal of the memory waits for the page: unmounting does not, and other users
 * are not held up.
 *
 * Group: memory
 * Order: 7
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,reserve,pci=sources.daxfs drm share
 */
#include <sys/prctl.h>
#include <sys/uio.h>

#include "lib/device.h"
#include "lib/longterm.h"

#define OTHER (HUGE_SIZE + 1)

static const struct source *source, *other;
static const char *mnt;
static char other_mnt[PATH_MAX];
static struct device device;
static struct image image;

/* A process that does something with a page and then waits for the signal to continue. */
struct helper {
	pid_t pid;
	bool stays_mapped;
	size_t size;
	bool ready, go;
	/* The file that pins the page, or negative for a pipe. */
	int pinning;
};

static struct helper *new_helper(size_t size)
{
	struct helper *helper = shared_memory(sizeof(*helper));

	helper->size = size;
	return helper;
}

static void wait_for_go(struct helper *helper)
{
	__atomic_store_n(&helper->ready, true, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&helper->go, __ATOMIC_SEQ_CST))
		usleep(1000);
}

static char *map_touched(struct helper *helper)
{
	char *address = map_size(mnt, helper->size, PROT_READ, MAP_SHARED);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	touch_pages(address, helper->size, 4096);
	return address;
}

/* Keep the fourth page in a pipe, or pin it; after the signal, check that it has kept its content. */
static int hold(void *argument)
{
	struct helper *helper = argument;
	char *address = map_touched(helper), buffer[4096];
	struct iovec vector = { address + 12288, 4096 };
	int ends[2];

	if (helper->pinning >= 0 ? longterm_pin(helper->pinning, vector.iov_base, 4096, 0) :
				   pipe(ends) || vmsplice(ends[1], &vector, 1, 0) != 4096)
		return 2;
	if (!helper->stays_mapped)
		munmap(address, helper->size);
	wait_for_go(helper);
	if (helper->pinning >= 0 ? longterm_read(helper->pinning, buffer) : read(ends[0], buffer, 4096) != 4096)
		return 3;
	return pattern_matches(buffer, 4096, helper->size, 12288) ? 0 : 4;
}

/* Load from a mapped page after the signal. */
static int load(void *argument)
{
	struct helper *helper = argument;
	char *address = map_touched(helper);

	wait_for_go(helper);
	touch_pages(address + 8192, 4096, 4096);
	return 0;
}

static struct helper *start(int (*run)(void *argument), struct helper *helper)
{
	helper->pid = background_user(run, helper);
	for (int tries = 0; tries < 5000 && !__atomic_load_n(&helper->ready, __ATOMIC_SEQ_CST); tries++)
		usleep(1000);
	REQUIRE(helper->ready);
	return helper;
}

static struct helper *holder(size_t size, bool stays_mapped)
{
	struct helper *helper = new_helper(size);

	helper->stays_mapped = stays_mapped;
	helper->pinning = longterm_dax() ? longterm_open() : -1;
	start(hold, helper);
	/* The user has the file now, and ends the pin. */
	close(helper->pinning);
	return helper;
}

static int go_on(const char *what, struct helper *helper)
{
	__atomic_store_n(&helper->go, true, __ATOMIC_SEQ_CST);
	return reaped(what, helper->pid);
}

static int read_file(void *argument)
{
	return !holds(open_size(argument, MIDDLE, O_RDONLY), MIDDLE, 0, MIDDLE);
}

static int map_file(void *argument)
{
	return !pattern_matches(map_size(argument, LARGE, PROT_READ, MAP_SHARED), LARGE, LARGE, 0);
}

static int read_of_open_file(void *argument)
{
	char byte;

	return pread(*(int *)argument, &byte, 1, 5) == 1 ? 0 : errno;
}

/* Make a page of anonymous memory fail. The kernel may kill the process. */
static int fail_anonymous_page(void *argument)
{
	char *address = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*address = 1;
	return madvise(address, 4096, MADV_HWPOISON) ? errno : 0;
}

/*
 * Make a page of the other device fail: another one each time, in a file that no other test maps.
 */
static int fail_other_page(void *argument)
{
	char *address = map_size(other_mnt, OTHER, PROT_READ, MAP_SHARED);
	size_t page = 16 + (source - sources);

	touch_pages(address, OTHER, 4096);
	return madvise(address + page * page_size(), page_size(), MADV_HWPOISON) ? errno : 0;
}

/* Check that calls that have nothing to do with the page do not block. */
static void others_go_on(bool fail)
{
	int status;

	CHECK_EQ(bounded_umount(other_mnt), 0);
	CHECK_EQ(bounded_mount(other, other_mnt), 0);
	CHECK_EQ(bounded("read", read_file, other_mnt), 0);
	CHECK_EQ(bounded("map", map_file, other_mnt), 0);
	CHECK_EQ(bounded_sync(), 0);
	if (!fail)
		return;
	status = reaped("memory failure", background(fail_anonymous_page, NULL));
	if (WIFEXITED(status) && WEXITSTATUS(status) == EINVAL)
		return;
	CHECK(!status || (WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS));
	status = reaped("memory failure of the other device", background(fail_other_page, NULL));
	CHECK(!status || (WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS));
}

/* Set @other to another source: virtio-pmem, or its substitute on machines without it. */
static bool find_other(void)
{
	static const char *const names[] = { "virtio-pmem", "phys", "NVDIMM" };

	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++)
		for (other = sources; other < sources + source_count; other++)
			if (!strcmp(other->name, names[i]) && other != source && !other->make(other, NULL))
				return true;
	return false;
}

static void begin(void)
{
	skip_if_stuck();
	if (!find_other())
		SKIP("needs a second device: virtio-pmem, an NVDIMM or a range for phys=");
	snprintf(other_mnt, sizeof(other_mnt), "%s/other", work_dir());
	mkdir(other_mnt, 0755);
	REQUIRE(source->make(source, NULL) == 0);
	if (source_is_device(source))
		device_find(source, &device);
	CHECK_EQ(bounded_mount(source, mnt), 0);
	CHECK_EQ(bounded_mount(other, other_mnt), 0);
}

/* Check that everything works as before. */
static void end(bool mounted)
{
	CHECK_EQ(bounded_umount(other_mnt), 0);
	if (!mounted)
		CHECK_EQ(bounded_mount(source, mnt), 0);
	CHECK_EQ(bounded("read", read_file, (void *)mnt), 0);
	CHECK_EQ(bounded("map", map_file, (void *)mnt), 0);
	CHECK_EQ(bounded_umount(mnt), 0);
}

POINT(unbound, "its device is unbound")
{
	struct helper *held, *loads;
	pid_t unbinding;
	int status, fd;

	if (!source_is_device(source))
		SKIP("the source has no driver");
	begin();
	fd = open_size(mnt, MIDDLE, O_RDONLY);
	held = holder(LARGE, true);
	loads = start(load, new_helper(LARGE));
	unbinding = begin_unbind(&device);
	rest(limit() / 20.0);
	CHECK_EQ(bounded("read", read_of_open_file, &fd), EIO);
	status = go_on("a load", loads);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	others_go_on(true);
	/* The page must exist as long as it is held. */
	CHECK_EQ(ends_within(unbinding, 0), -1);
	CHECK_EQ(go_on("the holder", held), 0);
	CHECK_EQ(reaped("unbind", unbinding), 0);
	close(fd);
	CHECK_EQ(bounded_umount(mnt), 0);
	REQUIRE(device_bind(&device));
	end(false);
}

/* Return 0, an errno, or 200 if the log of the mount lacks the reason. */
static int mount_while_held(void *argument)
{
	if (context_mount(source_context(source, 0), mnt))
		return 0;
	return strstr(context_log, "memory of the previous mount is still in use") ? errno : 200;
}

static int remove_module(void *argument)
{
	return syscall(SYS_delete_module, "daxfs", O_NONBLOCK) ? errno : 0;
}

/* Mount, which must work soon after the page was released. */
static void mount_at_last(void)
{
	double start = now();
	int error;

	do {
		error = bounded_mount(source, mnt);
		if (error == EBUSY)
			rest(0.05);
	} while (error == EBUSY && now() < start + limit());
	CHECK_EQ(error, 0);
}

static void unmounted_with(size_t size)
{
	struct helper *held;
	int error;

	begin();
	held = holder(size, false);
	CHECK_EQ(bounded_umount(mnt), 0);
	CHECK_EQ(bounded_sync(), 0);
	CHECK_EQ(bounded("mount", mount_while_held, NULL), EBUSY);
	others_go_on(false);
	CHECK_EQ(bounded_umount(other_mnt), 0);
	error = bounded("delete_module", remove_module, NULL);
	CHECK(error == EBUSY || error == EAGAIN);
	CHECK_EQ(bounded_mount(other, other_mnt), 0);
	CHECK_EQ(go_on("the holder", held), 0);
	mount_at_last();
	end(true);
}

POINT(unmounted, "it is unmounted")
{
	unmounted_with(MIDDLE);
	unmounted_with(LARGE);
}

POINT(unmounted_and_unbound, "it is unmounted, then unbound")
{
	struct helper *held;
	pid_t unbinding;

	if (!source_is_device(source))
		SKIP("the source has no driver");
	begin();
	held = holder(LARGE, false);
	CHECK_EQ(bounded_umount(mnt), 0);
	unbinding = begin_unbind(&device);
	rest(0.3);
	others_go_on(false);
	CHECK_EQ(ends_within(unbinding, 0), -1);
	CHECK_EQ(go_on("the holder", held), 0);
	CHECK_EQ(reaped("unbind", unbinding), 0);
	REQUIRE(device_bind(&device));
	end(false);
}

/* ---- removal while the device is used, or being mounted --------------------------------------------------------- */

#define USERS 3
#define HELD (16 * 4096UL)

static bool has_driver(void)
{
	return source_is_device(source);
}

static void begin_with_driver(void)
{
	skip_if_stuck();
	REQUIRE(source->make(source, NULL) == 0);
	device_find(source, &device);
}

/*
 * Map a file, touch it, and put sixteen pages into a pipe, again and again. Return 0 when the file
 * can no longer be opened, unless SIGBUS comes first.
 */
static int hold_pages(void *argument)
{
	size_t size = argument ? MIDDLE : LARGE;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/sizes/%zu", mnt, size);
	for (unsigned int round = 0;; round++) {
		int ends[2], fd = -1;

		if (pipe(ends))
			return 1;
		/* The pipe is soon full, and is closed with all pages that it holds. */
		for (int i = 0; i < 4; i++) {
			size_t at = i * HUGE_SIZE % (size - 1);
			struct iovec vector = { NULL, HELD };
			char *address;

			fd = open(path, O_RDONLY | O_CLOEXEC);
			if (fd < 0)
				return errno != EIO;
			address = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
			if (address == MAP_FAILED)
				return errno != EIO;
			touch_pages(address, size, 65536);
			vector.iov_base = address + at;
			if (vmsplice(ends[1], &vector, 1, SPLICE_F_NONBLOCK) < 0 &&
			    errno != EAGAIN && errno != EFAULT)
				return 2;
			munmap(address, size);
			close(fd);
		}
		close(ends[0]);
		close(ends[1]);
	}
}

/*
 * Unbind the device while users hold its pages. If @killed is not negative, kill the users after so
 * many seconds.
 */
static void unbind_under_load(double killed)
{
	pid_t users[USERS], unbinding;

	REQUIRE(bounded_mount(source, mnt) == 0);
	for (size_t i = 0; i < USERS; i++)
		users[i] = background_user(hold_pages, i == 1 ? "" : NULL);
	rest(0.01 + rand() % 60 / 1000.0);
	unbinding = begin_unbind(&device);
	if (killed >= 0) {
		rest(killed);
		for (size_t i = 0; i < USERS; i++)
			kill(users[i], SIGKILL);
	}
	for (size_t i = 0; i < USERS; i++) {
		int status = reaped("a user of the device", users[i]);
		int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

		if (signal == SIGBUS || (signal == SIGKILL && killed >= 0))
			continue;
		if (!CHECK_EQ(status, 0))
			printf("# user %zu: status %#x\n", i, status);
	}
	CHECK_EQ(reaped("unbind", unbinding), 0);
	CHECK_EQ(bounded_umount(mnt), 0);
	REQUIRE(device_bind(&device));
}

POINT_IF(held_all_the_time, "users hold its pages all the time", has_driver)
{
	int rounds = repeats(40);

	begin_with_driver();
	for (int i = 0; i < rounds; i++)
		unbind_under_load(-1);
}

POINT_IF(killed_meanwhile, "the users are killed during removal", has_driver)
{
	int rounds = repeats(16);

	begin_with_driver();
	for (int i = 0; i < rounds; i++)
		unbind_under_load(rand() % 20 / 1000.0);
}

/* Mount with the digest @argument. Return 0 or an errno. */
static int mount_with_digest(void *argument)
{
	char option[80];

	snprintf(option, sizeof(option), "digest=%s", (char *)argument);
	signal(SIGTERM, SIG_DFL);
	return context_mount_with(source_context(source, 0), mnt, option);
}

/*
 * Mount with @digest again and again, and unbind the device after a part of the time that the digest takes. With
 * @signals, send one to the mount a little later. Give the mount's wait status to @check, which unmounts.
 */
static void unbind_while_mounting(int rounds, const char *digest, const int signals[3], void (*check)(int status))
{
	double start, seconds;

	begin_with_driver();
	start = now();
	CHECK_EQ(bounded("mount with a wrong digest", mount_with_digest, (void *)WRONG_DIGEST), EBADMSG);
	seconds = now() - start;
	for (int i = 0; i < rounds; i++) {
		pid_t mounting = background(mount_with_digest, (void *)digest), unbinding;
		int status;

		rest((i + 0.5) / rounds * seconds);
		unbinding = begin_unbind(&device);
		if (signals) {
			rest(0.1 * seconds);
			kill(mounting, signals[i % 3]);
		}
		status = reaped("mount", mounting);
		CHECK_EQ(reaped("unbind", unbinding), 0);
		check(status);
		REQUIRE(device_bind(&device));
	}
	/* These mounts have left nothing. */
	CHECK_EQ(bounded_mount(source, mnt), 0);
	CHECK_EQ(bounded_umount(mnt), 0);
}

static void check_wrong(int status)
{
	if (!CHECK(WIFEXITED(status) && WEXITSTATUS(status) && WEXITSTATUS(status) < 200))
		printf("# mount: status %#x\n", status);
	CHECK(bounded_umount(mnt) == EINVAL);
}

POINT_IF(fails_late, "a mount with a wrong digest", has_driver)
{
	unbind_while_mounting(repeats(6), WRONG_DIGEST, NULL, check_wrong);
}

/* The mount may have ended before the signal. */
static void check_interrupted(int status)
{
	bounded_umount(mnt);
}

POINT_IF(interrupted, "a mount that a signal interrupts", has_driver)
{
	unbind_while_mounting(repeats(5), image_digest(&image), (int[]){ SIGTERM, SIGKILL, SIGINT }, check_interrupted);
}

static void check_right(int status)
{
	int error = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	char path[PATH_MAX];

	if (error) {
		if (!CHECK(error == EIO || error == ENXIO || error == ENODEV))
			printf("# mount: %s\n", strerror(error));
		return;
	}
	/* Neither the root's entries nor files were read before. */
	snprintf(path, sizeof(path), "%s/sizes/4097", mnt);
	CHECK_FAILS(open(path, O_RDONLY | O_CLOEXEC), EIO);
	CHECK_EQ(bounded_umount(mnt), 0);
}

POINT_IF(right_but_gone, "a mount with the right digest", has_driver)
{
	unbind_while_mounting(repeats(5), image_digest(&image), NULL, check_right);
}

static bool has_driver_or_range(const struct source *source)
{
	return !strcmp(source->name, "NVDIMM") || !strcmp(source->name, "CXL (fsdev)") ||
	       !strcmp(source->name, "phys");
}

int main(void)
{
	mnt = private_mount_point();
	image = sources_image();
	return run_on_sources(has_driver_or_range, NULL, &source);
}
