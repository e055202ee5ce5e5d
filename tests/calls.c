// SPDX-License-Identifier: GPL-2.0-only
/*
 * An ordinary user applies the memory calls of newer kernels to mapped files of every source:
 * userfaultfd's asynchronous write protection, guard pages, mlock, mremap and MADV_COLLAPSE.
 *
 * Group: memory
 * Order: 6
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,reserve,pci=sources.daxfs drm share
 */
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "device.h"

/* Part of the large file. */
#define LENGTH (2 * HUGE_SIZE)

/* Results of a call besides errnos. */
enum { WRONG_BYTE = 200, NO_CALL, NO_SIGNAL, NOT_LOCKED };

static const struct source *source;
static const char *mnt;
static struct image image;

/* Map @size bytes of the file with that size, writable and private. */
static char *map_file(size_t size, size_t length)
{
	return map_length(mnt, size, length, PROT_READ | PROT_WRITE, MAP_PRIVATE);
}

/* Return a userfaultfd, or -1 if the kernel does not have it with these features. */
static int open_uffd(void)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED,
	};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	return ioctl(uffd, UFFDIO_API, &api) ? -1 : uffd;
}

/* Protect the pages of a mapping from writing, as a program that looks for written pages does. */
static int protect(int uffd, char *address, size_t length)
{
	struct uffdio_writeprotect protect = {
		.range = { (uintptr_t)address, length },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	struct uffdio_register register_range = {
		.range = protect.range,
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	return ioctl(uffd, UFFDIO_REGISTER, &register_range) ||
	       ioctl(uffd, UFFDIO_WRITEPROTECT, &protect) ? errno : 0;
}

/* Read protected pages, and write to some of them. */
static int use_protected(char *address, size_t size, size_t length)
{
	if (!pattern_in_pages(address, length, size, 0))
		return WRONG_BYTE;
	for (size_t at = 0; at < length; at += 7 * 4096)
		address[at] ^= 1;
	for (size_t at = 0; at < length; at += 7 * 4096) {
		if (address[at] != (char)(pattern_byte(size, at) ^ 1))
			return WRONG_BYTE;
		address[at] ^= 1;
	}
	return pattern_in_pages(address, length, size, 0) ? 0 : WRONG_BYTE;
}

/* @argument: touch the pages before they are protected. */
static int write_protection(void *argument)
{
	int uffd = open_uffd(), error = 0;
	static const size_t sizes[][2] = { { LARGE, LENGTH }, { MIDDLE, MIDDLE } };

	if (uffd < 0)
		return NO_CALL;
	for (size_t i = 0; i < ARRAY_SIZE(sizes) && !error; i++) {
		size_t size = sizes[i][0], length = sizes[i][1];
		char *address = map_file(size, length);

		if (argument)
			touch_pages(address, length, 4096);
		error = protect(uffd, address, page_round(length));
		if (!error)
			error = use_protected(address, size, length);
	}
	return error;
}

static int write_first(void *argument)
{
	int uffd = open_uffd(), error;
	char *address = map_file(LARGE, LENGTH);

	if (uffd < 0)
		return NO_CALL;
	error = protect(uffd, address, LENGTH);
	if (error)
		return error;
	memset(address + 4096, 5, 3);
	return address[4096] == 5 && address[4099] == (char)pattern_byte(LARGE, 4099) ? 0 : WRONG_BYTE;
}

static int guard_pages(void *argument)
{
	char *address = map_file(LARGE, LENGTH), *guard = address + 5 * 4096;

	if (argument)
		touch_pages(address, LENGTH, 4096);
	if (madvise(guard, 4096, MADV_GUARD_INSTALL))
		return errno;
	/* Pages around a fault are mapped, too. */
	touch_pages(address, 4096, 4096);
	if (signal_of_load(guard) != SIGSEGV)
		return NO_SIGNAL;
	if (!pattern_in_pages(address, 5 * 4096, LARGE, 0) ||
	    !pattern_in_pages(guard + 4096, HUGE_SIZE, LARGE, 6 * 4096))
		return WRONG_BYTE;
	if (madvise(guard, 4096, MADV_GUARD_REMOVE))
		return errno;
	return pattern_in_pages(address, LENGTH, LARGE, 0) ? 0 : WRONG_BYTE;
}

static int locked(void *argument)
{
	char *address = map_file(LARGE, 16 * 4096);

	if (mlock(address, 16 * 4096))
		return errno;
	if (number_in("/proc/self/status", "VmLck:") < 64)
		return NOT_LOCKED;
	address[5] ^= 1;
	if (munlock(address, 16 * 4096))
		return errno;
	address[5] ^= 1;
	return pattern_in_pages(address, 16 * 4096, LARGE, 0) ? 0 : WRONG_BYTE;
}

static int grown(void *argument)
{
	char *address = map_file(LARGE, LENGTH);

	touch_pages(address, LENGTH, 4096);
	address = mremap(address, LENGTH, LARGE, MREMAP_MAYMOVE);
	if (address == MAP_FAILED)
		return errno;
	return pattern_in_pages(address, LARGE, LARGE, 0) ? 0 : WRONG_BYTE;
}

static int left_behind(void *argument)
{
	char *address = map_file(LARGE, LENGTH), *there;

	touch_pages(address, LENGTH, 4096);
	address[4096] ^= 1;
	there = mremap(address, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	if (there == MAP_FAILED)
		return errno;
	there[4096] ^= 1;
	return pattern_in_pages(there, LENGTH, LARGE, 0) && pattern_in_pages(address, LENGTH, LARGE, 0) ?
		       0 : WRONG_BYTE;
}

/* There is nothing to collapse: the pages are where they are. */
static int collapsed(void *argument)
{
	char *address = map_file(LARGE, LENGTH);

	for (int round = 0; round < 2; round++) {
		if (!madvise(address, LENGTH, MADV_COLLAPSE) || errno != EINVAL)
			return errno ?: NO_CALL;
		if (!pattern_in_pages(address, LENGTH, LARGE, 0))
			return WRONG_BYTE;
		address[3] ^= 1;
		address[3] ^= 1;
	}
	return 0;
}

/*
 * Return the errno of a call that the kernel refuses for special areas, such as areas mapped by frames.
 */
static int unless_special(int refused)
{
	return source->pages ? 0 : refused;
}

/* Mount the source and run @run as an ordinary user. It must return @expected. */
static void as_user(int (*run)(void *argument), void *argument, int expected)
{
	int status;

	skip_if_stuck();
	REQUIRE(source_mount(source, &image, mnt));
	status = reaped("the call", background_user(run, argument));
	CHECK_EQ(bounded_umount(mnt), 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_CALL)
		SKIP("the kernel does not have this call");
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), expected);
}

POINT(unpopulated, "userfaultfd protects pages that are not mapped yet")
{
	as_user(write_protection, NULL, unless_special(EINVAL));
}

POINT(populated, "userfaultfd protects mapped pages")
{
	as_user(write_protection, "", unless_special(EINVAL));
}

POINT(written_first, "userfaultfd: a page that is written to first")
{
	as_user(write_first, NULL, unless_special(EINVAL));
}

POINT(guards, "guard pages")
{
	as_user(guard_pages, NULL, unless_special(EINVAL));
	as_user(guard_pages, "", unless_special(EINVAL));
}

POINT(locks, "mlock")
{
	/* The kernel locks neither special areas nor pages of DAX devices, which stay anyway. */
	as_user(locked, NULL, source->pages && source->key ? 0 : NOT_LOCKED);
}

POINT(grows, "mremap to a larger size")
{
	as_user(grown, NULL, 0);
}

POINT(leaves, "mremap that leaves the mapping")
{
	as_user(left_behind, NULL, 0);
}

POINT(collapses, "MADV_COLLAPSE")
{
	as_user(collapsed, NULL, 0);
}

int main(void)
{
	mnt = private_mount_point();
	image = sources_image();
	return run_on_sources(source_stands_for_way, &image, &source);
}
