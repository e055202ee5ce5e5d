// SPDX-License-Identifier: GPL-2.0-only
/*
 * The owner of a dma-buf's pages can do anything with them: udmabuf shares the pages of a memfd,
 * which can be punched or closed. Here they are huge pages; sources does this with others, on each source.
 * Mapped files keep their content, and all memory is released.
 *
 * Group: memory
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,reserve,pci=sources.daxfs drm share
 */
#include <linux/udmabuf.h>
#include <sys/ioctl.h>

#include "lib/device.h"
#include "lib/mapped.h"

#define OPTIMIZE "/proc/sys/vm/hugetlb_optimize_vmemmap"

static struct image image, small;
static const char *mnt;

static int make_buffer(int memfd, u64 offset, u64 size)
{
	struct udmabuf_create create = {
		.memfd = memfd,
		.flags = UDMABUF_FLAGS_CLOEXEC,
		.offset = offset,
		.size = size,
	};
	int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC), fd;

	if (device < 0)
		SKIP("needs /dev/udmabuf");
	fd = ioctl(device, UDMABUF_CREATE, &create);
	close(device);
	REQUIRE(fd >= 0);
	return fd;
}

/* Mount the buffer and close it. */
static void mount_buffer(int fd)
{
	if (!context_mount(source_context(source_named("udmabuf"), fd), mnt)) {
		printf("# %s: %s\n", strerror(errno), context_log);
		REQUIRE(!"mounted");
	}
	close(fd);
}

/* Create a memfd of huge pages, of @size bytes, with @length bytes of an image from @offset on. */
static int huge_memfd(size_t size, const struct image *image, size_t length, size_t offset)
{
	char *address;
	int fd;

	if (reserve_huge_pages(size))
		SKIP("%s", source_missing);
	fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGE_PAGES);
	REQUIRE(fd >= 0 && !ftruncate(fd, size));
	address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	REQUIRE(address != MAP_FAILED);
	memcpy(address + offset, image->bytes, length);
	munmap(address, size);
	REQUIRE(!fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
	return fd;
}

/* Mount an image that starts @offset bytes after the start of a huge page. */
static void in_huge_pages(size_t offset)
{
	size_t room = image_room(&image) + HUGE_SIZE;
	int memfd = huge_memfd(room, &image, image_length(&image), offset);
	int buffer = make_buffer(memfd, offset, image_room(&image));
	struct mapped files;

	/* Take the memfd's pages away before the mount, or while files are mapped: by hand, or all when it is closed. */
	if (offset && offset != 3 * page_size())
		punch_memfd(memfd, room);
	mount_buffer(buffer);
	mapped_open(&files, mnt);
	if (!offset)
		punch_memfd(memfd, room);
	mapped_check(&files);
	good_files(mnt);
	close(memfd);
	mapped_check(&files);
	good_files(mnt);
	mapped_close(&files);
	CHECK_EQ(bounded_umount(mnt), 0);
}

/* The same for a small image within a single huge page. */
static void within_huge_page(size_t offset)
{
	int memfd, fd;
	char *file, buffer[6000];

	REQUIRE(offset + small.super->total_size <= HUGE_SIZE);
	memfd = huge_memfd(HUGE_SIZE, &small, small.super->total_size, offset);
	mount_buffer(make_buffer(memfd, offset, small.super->total_size));
	close(memfd);
	fd = open_in(mnt, "file", O_RDONLY);
	CHECK_EQ(read(fd, buffer, sizeof(buffer)), sizeof(buffer));
	CHECK(pattern_matches(buffer, sizeof(buffer), 6, 0));
	file = mmap(NULL, sizeof(buffer), PROT_READ, MAP_SHARED, fd, 0);
	REQUIRE(file != MAP_FAILED);
	CHECK(pattern_matches(file, sizeof(buffer), 6, 0));
	munmap(file, sizeof(buffer));
	close(fd);
	CHECK_EQ(bounded_umount(mnt), 0);
}

/* All memory must be free again, and the kernel must log no error. */
static void all_huge_pages(void)
{
	const size_t page = page_size(), offsets[] = { 0, page, 3 * page, HUGE_SIZE - page };
	long long pages = number_in(HUGE_PAGES, "");
	struct counters before = count_now();
	int kmsg = kmsg_open();

	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++)
		in_huge_pages(offsets[i]);
	within_huge_page(0);
	within_huge_page(3 * page);
	within_huge_page(HUGE_SIZE / 2);
	given_back(&before);
	CHECK_EQ(kmsg_count(kmsg, "Bad page", NULL, 0), 0);
	REQUIRE(write_text(HUGE_PAGES, "%lld", pages));
}

POINT(huge_pages, "udmabuf: an image at any offset in huge pages")
{
	all_huge_pages();
}

/*
 * With this setting the kernel frees most struct pages of a huge page, and maps the rest read-only.
 */
POINT(optimized_huge_pages, "udmabuf: the same, with hugetlb_optimize_vmemmap")
{
	long long before = number_in(OPTIMIZE, "");

	if (before < 0)
		SKIP("needs CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP");
	REQUIRE(write_text(HUGE_PAGES, "0"));
	REQUIRE(write_text(OPTIMIZE, "1"));
	all_huge_pages();
	REQUIRE(write_text(OPTIMIZE, "%lld", before));
}

int main(void)
{
	char path[PATH_MAX];

	fixture_device("scratch");
	snprintf(path, sizeof(path), "%s/small.daxfs", work_dir());
	small = image_load(path);
	/* Without its padding the image fits into a part of a huge page. */
	small.super->total_size = HUGE_SIZE / 2;
	if (small.super->data.offset + small.super->data.length > HUGE_SIZE / 2)
		small.super->data.length = HUGE_SIZE / 2 - small.super->data.offset;
	image_seal(&small);
	device_init();
	mnt = private_mount_point();
	image = sources_image();
	return ktap_run();
}
