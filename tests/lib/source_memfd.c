// SPDX-License-Identifier: GPL-2.0-only
/* Memory for an image: memfds, and the dma-bufs of udmabuf and of the system heap. */
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>

#include "source_make.h"

#define SHMEM_HUGE "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define UDMABUF_LIMIT "/sys/module/udmabuf/parameters/size_limit_mb"

bool copy_image(const struct image *image, char *address, size_t size)
{
	size_t length = image_length(image);

	if (address == MAP_FAILED)
		return false;
	memcpy(address, image->bytes, length < size ? length : size);
	munmap(address, size);
	return true;
}

int memfd_with(const struct image *image, size_t size, unsigned int flags, int seals)
{
	int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
	char *address;

	if (fd < 0)
		return source_is_missing("the kernel does not have this kind of memfd");
	REQUIRE(!ftruncate(fd, size));
	address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (!copy_image(image, address, size)) {
		close(fd);
		return source_is_missing("not enough memory");
	}
	REQUIRE(!fcntl(fd, F_ADD_SEALS, seals));
	return fd;
}

/* Create a memfd of 2 MiB folios. */
static int huge_folios(const struct image *image, int seals)
{
	size_t size = image_room(image);
	int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char before[100] = "", *end, *address;
	FILE *setting = fopen(SHMEM_HUGE, "re");

	/* The current setting is in brackets. */
	if (!setting || !fgets(before, sizeof(before), setting) || !strchr(before, '[')) {
		close(fd);
		return source_is_missing("needs transparent huge pages in shmem");
	}
	fclose(setting);
	write_text(SHMEM_HUGE, "advise");
	REQUIRE(fd >= 0 && !ftruncate(fd, size));
	address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	REQUIRE(address != MAP_FAILED && !madvise(address, size, MADV_HUGEPAGE));
	REQUIRE(copy_image(image, address, size));
	memmove(before, strchr(before, '[') + 1, strlen(strchr(before, '[')));
	end = strchr(before, ']');
	if (end)
		*end = 0;
	write_text(SHMEM_HUGE, "%s", before);
	REQUIRE(!fcntl(fd, F_ADD_SEALS, seals));
	return fd;
}

/* SHUFFLED: the pages of huge folios, but in another order. */
enum memfd_kind { PLAIN, THP, HUGETLB, SHUFFLED };

const int memfd_plain = PLAIN, memfd_thp = THP, memfd_hugetlb = HUGETLB, memfd_shuffled = SHUFFLED;

int reserve_huge_pages(size_t size)
{
	long long lacking = size / HUGE_SIZE - number_in(HUGE_PAGES_FREE, "");

	if (access(HUGE_PAGES, F_OK))
		return source_is_missing("needs huge pages of 2 MiB");
	if (lacking > 0)
		write_text(HUGE_PAGES, "%lld", number_in(HUGE_PAGES, "") + lacking);
	if (number_in(HUGE_PAGES_FREE, "") < (long long)(size / HUGE_SIZE))
		return source_is_missing("not enough huge pages");
	return 0;
}

static int any_memfd(const struct image *image, enum memfd_kind kind, int seals)
{
	size_t room = image_room(image);

	if (kind == THP)
		return huge_folios(image, seals);
	if (kind == PLAIN)
		return memfd_with(image, image_length(image), 0, seals);
	return reserve_huge_pages(room) ?: memfd_with(image, room, MFD_HUGE_PAGES, seals);
}

int make_memfd(const struct source *source, const struct image *image)
{
	return any_memfd(image, *(const int *)source->argument,
			 F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW);
}

/* Copy an image with the last two pages of each 2 MiB exchanged. */
static struct image shuffled_image(const struct image *image)
{
	struct image copy = image_copy(image);
	const size_t page = page_size();

	for (size_t end = HUGE_SIZE; end <= copy.size; end += HUGE_SIZE) {
		memcpy(copy.bytes + end - page, image->bytes + end - 2 * page, page);
		memcpy(copy.bytes + end - 2 * page, image->bytes + end - page, page);
	}
	return copy;
}

static void add_item(struct udmabuf_create_list *list, int memfd, size_t page, size_t pages)
{
	list->list[list->count++] = (struct udmabuf_create_item){
		.memfd = memfd,
		.offset = page * page_size(),
		.size = pages * page_size(),
	};
}

/* Create a dma-buf of @room bytes of @memfd, with the pages in the order of the image. */
static int create_udmabuf(int device, int memfd, size_t room, enum memfd_kind kind)
{
	size_t most = 3 * (room / HUGE_SIZE), pages = room / page_size(), in_huge = HUGE_SIZE / page_size();
	struct udmabuf_create_list *list =
		calloc(1, sizeof(*list) + most * sizeof(struct udmabuf_create_item));
	int fd;

	list->flags = UDMABUF_FLAGS_CLOEXEC;
	if (kind != SHUFFLED)
		add_item(list, memfd, 0, pages);
	else
		for (size_t page = 0; page < pages; page += in_huge) {
			add_item(list, memfd, page, in_huge - 2);
			add_item(list, memfd, page + in_huge - 1, 1);
			add_item(list, memfd, page + in_huge - 2, 1);
		}
	fd = ioctl(device, UDMABUF_CREATE_LIST, list);
	free(list);
	return fd < 0 ? source_is_missing("udmabuf does not take enough memory") : fd;
}

int *owner_wanted;

int make_udmabuf(const struct source *source, const struct image *image)
{
	int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC), memfd, fd;
	enum memfd_kind kind = *(const int *)source->argument;
	size_t room = image_room(image);
	long long limit = number_in(UDMABUF_LIMIT, "");

	if (device < 0)
		return source_is_missing("needs /dev/udmabuf");
	if (kind == PLAIN) {
		memfd = memfd_with(image, room, 0, F_SEAL_SHRINK);
	} else if (kind == SHUFFLED) {
		struct image shuffled = shuffled_image(image);

		memfd = any_memfd(&shuffled, THP, F_SEAL_SHRINK);
		image_free(&shuffled);
	} else {
		memfd = any_memfd(image, kind, F_SEAL_SHRINK);
	}
	if (memfd < 0)
		return memfd;
	if (limit >= 0 && limit < (long long)(room >> 20))
		write_text(UDMABUF_LIMIT, "%zu", room >> 20);
	fd = create_udmabuf(device, memfd, room, kind);
	write_text(UDMABUF_LIMIT, "%lld", limit);
	if (owner_wanted && fd >= 0)
		*owner_wanted = memfd;
	else
		close(memfd);
	close(device);
	return fd;
}

int make_heap(const struct source *source, const struct image *image)
{
	struct dma_heap_allocation_data request = {
		.len = image_room(image),
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	int device = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	char *address;

	if (device < 0)
		return source_is_missing("needs /dev/dma_heap/system");
	if (ioctl(device, DMA_HEAP_IOCTL_ALLOC, &request)) {
		close(device);
		return source_is_missing("the heap does not allocate enough memory");
	}
	close(device);
	address = mmap(NULL, request.len, PROT_READ | PROT_WRITE, MAP_SHARED, request.fd, 0);
	REQUIRE(copy_image(image, address, request.len));
	return request.fd;
}
