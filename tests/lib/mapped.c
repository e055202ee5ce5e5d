// SPDX-License-Identifier: GPL-2.0-only
/* Mapped files of the image sources.daxfs, and what happens to their memory. */
#include "device.h"
#include "mapped.h"

#define KPF_HWPOISON 19

/* Where the private mapping has a copy of a page, the second. */
static size_t written(void)
{
	return page_size() + 904;
}

void mapped_open(struct mapped *files, const char *dir)
{
	files->large = map_size(dir, LARGE, PROT_READ, MAP_SHARED);
	files->middle = map_size(dir, MIDDLE, PROT_READ, MAP_SHARED | MAP_POPULATE);
	files->private = map_size(dir, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	touch_pages(files->large, LARGE, 4096);
	touch_pages(files->private, LARGE, 4096);
	files->private[written()] ^= 1;
}

void mapped_check(const struct mapped *files)
{
	CHECK(pattern_in_pages(files->large, LARGE, LARGE, 0));
	CHECK(pattern_in_pages(files->middle, MIDDLE, MIDDLE, 0));
	files->private[written()] ^= 1;
	CHECK(pattern_in_pages(files->private, LARGE, LARGE, 0));
	files->private[written()] ^= 1;
}

void mapped_close(const struct mapped *files)
{
	munmap(files->large, LARGE);
	munmap(files->middle, MIDDLE);
	munmap(files->private, LARGE);
}

void good_files(const char *dir)
{
	static const size_t sizes[] = { 1, 4095, 4096, 4097, MIDDLE, HUGE_SIZE + 1, LARGE };
	/* malloc() would keep the memory, and available_memory() counts it. */
	char *buffer = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);

	REQUIRE(buffer != MAP_FAILED);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t size = sizes[i];
		char *shared = map_size(dir, size, PROT_READ, MAP_SHARED);
		char *private = map_size(dir, size, PROT_READ | PROT_WRITE, MAP_PRIVATE);
		int fd = open_size(dir, size, O_RDONLY);

		CHECK_EQ(read(fd, buffer, size), size);
		CHECK_EQ(read(fd, buffer + size - 1, 1), 0);
		CHECK(pattern_matches(buffer, size, size, 0));
		CHECK_EQ(pread(fd, buffer, size, size / 2), size - size / 2);
		CHECK(pattern_matches(buffer, size - size / 2, size, size / 2));
		CHECK(pattern_in_pages(shared, size, size, 0));
		private[size / 2] ^= 1;
		CHECK_EQ((u8)shared[size / 2], pattern_byte(size, size / 2));
		CHECK(pattern_in_pages(shared, size, size, 0));
		private[size / 2] ^= 1;
		CHECK(pattern_in_pages(private, size, size, 0));
		munmap(shared, size);
		munmap(private, size);
		close(fd);
	}
	munmap(buffer, LARGE);
}

void punch_memfd(int memfd, size_t size)
{
	REQUIRE(!fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size));
}

struct counters count_now(void)
{
	long long total = number_in(HUGE_PAGES, "");
	long long unused = number_in(HUGE_PAGES_FREE, ""), users;
	struct counters now = {
		.available = number_in("/proc/meminfo", "MemAvailable:") +
			     unused * (long long)(HUGE_SIZE / 1024),
		.huge_pages = total - unused,
	};
	static const char *const modules[] = { "daxfs", "vgem", "virtio_gpu", "drm_shmem_helper",
					       "fsdev_dax", "nd_pmem" };
	char line[500], path[100];
	FILE *file = fopen("/sys/kernel/debug/dma_buf/bufinfo", "re");

	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "Total %lld objects", &now.buffers);
	if (file)
		fclose(file);
	for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
		snprintf(path, sizeof(path), "/sys/module/%s/refcnt", modules[i]);
		users = number_in(path, "");
		now.users += users < 0 ? 0 : users; /* it may not be loaded yet */
	}
	file = fopen("/proc/iomem", "re");
	while (file && fgets(line, sizeof(line), file))
		now.ranges += !!strstr(line, "daxfs");
	if (file)
		fclose(file);
	return now;
}

void given_back(const struct counters *before)
{
	struct counters now;

	/* Some of it is freed a little later. */
	for (int tries = 0; tries < 50; tries++) {
		now = count_now();
		if (now.buffers == before->buffers && now.huge_pages == before->huge_pages &&
		    now.users == before->users && now.ranges == before->ranges)
			break;
		usleep(100000);
	}
	CHECK_EQ(now.buffers, before->buffers);
	CHECK_EQ(now.huge_pages, before->huge_pages);
	CHECK_EQ(now.users, before->users);
	CHECK_EQ(now.ranges, before->ranges);
}

static bool known_to_fail(u64 frame)
{
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	u64 flags = 0;

	pread(fd, &flags, 8, frame * 8);
	close(fd);
	return flags >> KPF_HWPOISON & 1;
}

/* The source of the page that fails. */
static const struct source *failing;

/* The process can still use the page. No errno has this number. */
#define STILL_MAPPED 255

/* Make the page at @argument fail. The kernel may kill the process. */
static int fail_page(void *argument)
{
	const char *address = argument;
	u64 frame;
	int error;

	touch_pages(address, 1, 1);
	page_frames(address, 1, &frame);
	/* The kernel may move a page of its page cache, but not while this call uses it. Memory that it cannot use stays. */
	error = madvise((void *)address, 4096, MADV_HWPOISON) ? errno : 0;
	if (error == EFAULT && !failing->pages) {
		const char *file = "/sys/kernel/debug/hwpoison/corrupt-pfn";

		error = write_text(file, "%#llx", (unsigned long long)frame) ? 0 : errno;
	}
	if (error && error != EBUSY)
		return error;
	/* The failure is handled now, so all processes have lost the page, and SIGBUS ends this one. */
	touch_pages(address, 1, 1);
	return STILL_MAPPED;
}

int page_inject(const struct source *source, char *address, bool copied)
{
	int status, error;
	u64 frame;

	failing = source;
	if (!failing->pages && system("modprobe -q hwpoison_inject") &&
	    access("/sys/kernel/debug/hwpoison/corrupt-pfn", F_OK))
		SKIP("needs the module hwpoison_inject");
	touch_pages(address, 1, 1);
	page_frames(address, 1, &frame);
	status = reaped("the failure", background(fail_page, address));
	if (WIFSIGNALED(status)) {
		CHECK_EQ(WTERMSIG(status), SIGBUS);
		return 0;
	}
	error = WEXITSTATUS(status);
	/* The kernel reads a page of its page cache again, and daxfs copies a file's end again. */
	if (error == STILL_MAPPED && copied)
		return error;
	CHECK(error != STILL_MAPPED);
	/* For some pages the kernel returns an error after it has marked them. */
	return known_to_fail(frame) ? 0 : error;
}

static int do_reload(void *argument)
{
	return system("modprobe -r daxfs && modprobe daxfs") != 0;
}

void bring_back(const struct source *source, const struct device *device, bool bound)
{
	if (source_is_device(source)) {
		/* The driver marks no page of a device that it has just found as failed. */
		if (bound)
			REQUIRE(!reaped("unbind", begin_unbind(device)));
		REQUIRE(device_bind(device));
	} else if (!source->key) {
		/* The module remembers pages of a range that have failed. */
		REQUIRE(!bounded("reload of the module", do_reload, NULL));
	}
}
