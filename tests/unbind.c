// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unbind a device from its driver while ordinary users take references to its pages as fast as
 * they can, and while it is being mounted. All of them end, and so does the unbinding.
 *
 * Group: memory
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,reserve,pci=sources.daxfs drm share
 */
#include <sys/uio.h>

#include "lib/device.h"

#define USERS 3
#define HELD (16 * 4096UL)

static const struct source *source;
static const char *mnt;
static struct device device;
static struct image image;

static void found(void)
{
	skip_if_stuck();
	REQUIRE(source->make(source, NULL) == 0);
	device_find(source, &device);
}

static void bring_back(void)
{
	REQUIRE(device_bind(&device));
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
	bring_back();
}

POINT(held_all_the_time, "users hold its pages all the time")
{
	int rounds = repeats(40);

	found();
	for (int i = 0; i < rounds; i++)
		unbind_under_load(-1);
}

POINT(killed_meanwhile, "the users are killed during removal")
{
	int rounds = repeats(16);

	found();
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

	found();
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
		bring_back();
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

POINT(fails_late, "a mount with a wrong digest")
{
	unbind_while_mounting(repeats(6), WRONG_DIGEST, NULL, check_wrong);
}

/* The mount may have ended before the signal. */
static void check_interrupted(int status)
{
	bounded_umount(mnt);
}

POINT(interrupted, "a mount that a signal interrupts")
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

POINT(right_but_gone, "a mount with the right digest")
{
	unbind_while_mounting(repeats(5), image_digest(&image), NULL, check_right);
}

/* One device of each driver: pmem devices have one, and DAX devices in fsdev mode another. */
static bool stands_for_driver(const struct source *source)
{
	return source_is_device(source) && strcmp(source->argument, "virtio-pmem");
}

int main(void)
{
	mnt = private_mount_point();
	image = sources_image();
	return run_on_sources(stands_for_driver, NULL, &source);
}
