// SPDX-License-Identifier: GPL-2.0
/* The kinds of memory that an image can be mounted from. */
#define _GNU_SOURCE
#include <drm/drm.h>
#include <drm/drm_mode.h>
#include <drm/qxl_drm.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <linux/mount.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "ktap.h"
#include "source.h"
#include "util.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8
#endif

#define SHMEM_HUGE "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define HUGE_PAGES "/proc/sys/vm/nr_hugepages"
#define UDMABUF_LIMIT "/sys/module/udmabuf/parameters/size_limit_mb"

char source_missing[200];
char context_log[4000];

static int missing(const char *reason)
{
	snprintf(source_missing, sizeof(source_missing), "%s", reason);
	return -1;
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		printf("# %s: %s\n", path, strerror(errno));
	close(fd);
}

size_t image_room(const struct image *image)
{
	return (image->super->total_size + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1);
}

bool sources_image(struct image *image)
{
	const char *images = getenv("DAXFS_IMAGES");
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/sources.daxfs", images ? images : "/run/images");
	if (access(path, R_OK))
		return false;
	*image = image_load(path);
	return true;
}

static bool copy_image(const struct image *image, char *address, size_t size)
{
	size_t length = image->super->total_size;

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
		return missing("the kernel has no such memfd");
	REQUIRE(!ftruncate(fd, size));
	address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (!copy_image(image, address, size)) {
		close(fd);
		return missing("not enough memory");
	}
	REQUIRE(!fcntl(fd, F_ADD_SEALS, seals));
	return fd;
}

/* A memfd of 2 MiB folios. */
static int huge_folios(const struct image *image, int seals)
{
	size_t size = image_room(image);
	int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char before[100] = "", *end, *address;
	FILE *setting = fopen(SHMEM_HUGE, "re");

	/* The setting in force stands in brackets. */
	if (!setting || !fgets(before, sizeof(before), setting) || !strchr(before, '[')) {
		close(fd);
		return missing("needs transparent huge pages in shmem");
	}
	fclose(setting);
	write_file(SHMEM_HUGE, "advise");
	REQUIRE(fd >= 0 && !ftruncate(fd, size));
	address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	REQUIRE(address != MAP_FAILED && !madvise(address, size, MADV_HUGEPAGE));
	REQUIRE(copy_image(image, address, size));
	memmove(before, strchr(before, '[') + 1, strlen(strchr(before, '[')));
	end = strchr(before, ']');
	if (end)
		*end = 0;
	write_file(SHMEM_HUGE, before);
	REQUIRE(!fcntl(fd, F_ADD_SEALS, seals));
	return fd;
}

/* SHUFFLED: the pages of huge folios, but not in their order. */
enum memfd_kind { PLAIN, THP, HUGETLB, SHUFFLED };

static const enum memfd_kind plain = PLAIN, thp = THP, hugetlb = HUGETLB, shuffled = SHUFFLED;

static int any_memfd(const struct image *image, enum memfd_kind kind, int seals)
{
	size_t room = image_room(image);
	char number[32];
	int fd;

	if (kind == THP)
		return huge_folios(image, seals);
	if (kind == PLAIN)
		return memfd_with(image, image->super->total_size, 0, seals);
	if (number_in("/proc/meminfo", "Hugepagesize:") != HUGE_SIZE / 1024)
		return missing("needs huge pages of 2 MiB");
	if (number_in("/proc/meminfo", "HugePages_Free:") < (long long)(room / HUGE_SIZE)) {
		snprintf(number, sizeof(number), "%lld",
			 number_in(HUGE_PAGES, "") + (long long)(room / HUGE_SIZE));
		write_file(HUGE_PAGES, number);
	}
	if (number_in("/proc/meminfo", "HugePages_Free:") < (long long)(room / HUGE_SIZE))
		return missing("not enough huge pages");
	fd = memfd_with(image, room, MFD_HUGETLB, seals);
	return fd;
}

static int make_memfd(const struct source *source, const struct image *image)
{
	return any_memfd(image, *(const enum memfd_kind *)source->argument,
			 F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW);
}

#define PAGES_IN_HUGE (HUGE_SIZE / 4096)

/* The last two pages of each 2 MiB change places. */
static struct image shuffled_image(const struct image *image)
{
	struct image copy = image_copy(image);

	for (size_t end = HUGE_SIZE; end <= copy.size; end += HUGE_SIZE) {
		memcpy(copy.bytes + end - 4096, image->bytes + end - 8192, 4096);
		memcpy(copy.bytes + end - 8192, image->bytes + end - 4096, 4096);
	}
	return copy;
}

static void add_item(struct udmabuf_create_list *list, int memfd, size_t page, size_t pages)
{
	list->list[list->count++] = (struct udmabuf_create_item){
		.memfd = memfd,
		.offset = page * 4096,
		.size = pages * 4096,
	};
}

/* A buffer of @room bytes of @memfd, with the pages in the order of the image. */
static int create_udmabuf(int device, int memfd, size_t room, enum memfd_kind kind)
{
	size_t most = 3 * (room / HUGE_SIZE), pages = room / 4096;
	struct udmabuf_create_list *list =
		calloc(1, sizeof(*list) + most * sizeof(struct udmabuf_create_item));
	int fd;

	list->flags = UDMABUF_FLAGS_CLOEXEC;
	if (kind != SHUFFLED)
		add_item(list, memfd, 0, pages);
	else
		for (size_t page = 0; page < pages; page += PAGES_IN_HUGE) {
			add_item(list, memfd, page, PAGES_IN_HUGE - 2);
			add_item(list, memfd, page + PAGES_IN_HUGE - 1, 1);
			add_item(list, memfd, page + PAGES_IN_HUGE - 2, 1);
		}
	fd = ioctl(device, UDMABUF_CREATE_LIST, list);
	free(list);
	return fd < 0 ? missing("udmabuf refuses so much memory") : fd;
}

/* Where the memfd below a dma-buf goes, if somebody wants it. */
static int *owner_wanted;

static int make_udmabuf(const struct source *source, const struct image *image)
{
	int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC), memfd, fd;
	enum memfd_kind kind = *(const enum memfd_kind *)source->argument;
	size_t room = image_room(image);
	long long limit = number_in(UDMABUF_LIMIT, "");
	char number[32];

	if (device < 0)
		return missing("needs /dev/udmabuf");
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
	snprintf(number, sizeof(number), "%zu", room >> 20);
	if (limit >= 0 && limit < (long long)(room >> 20))
		write_file(UDMABUF_LIMIT, number);
	fd = create_udmabuf(device, memfd, room, kind);
	snprintf(number, sizeof(number), "%lld", limit);
	write_file(UDMABUF_LIMIT, number);
	if (owner_wanted && fd >= 0)
		*owner_wanted = memfd;
	else
		close(memfd);
	close(device);
	return fd;
}

static int make_heap(const struct source *source, const struct image *image)
{
	struct dma_heap_allocation_data request = {
		.len = image_room(image),
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	int device = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	char *address;

	if (device < 0)
		return missing("needs /dev/dma_heap/system");
	if (ioctl(device, DMA_HEAP_IOCTL_ALLOC, &request)) {
		close(device);
		return missing("the heap refuses so much memory");
	}
	close(device);
	address = mmap(NULL, request.len, PROT_READ | PROT_WRITE, MAP_SHARED, request.fd, 0);
	REQUIRE(copy_image(image, address, request.len));
	return request.fd;
}

/* The graphics device of @driver among those in DAXFS_DRM. */
static int open_drm(const char *driver)
{
	char devices[500], name[64] = "", *device, *next = devices;

	snprintf(devices, sizeof(devices), "%s", getenv("DAXFS_DRM") ?: "");
	while ((device = strsep(&next, " "))) {
		int fd = *device ? open(device, O_RDWR | O_CLOEXEC) : -1;
		struct drm_version version = { .name = name, .name_len = sizeof(name) - 1 };

		memset(name, 0, sizeof(name));
		if (fd >= 0 && !ioctl(fd, DRM_IOCTL_VERSION, &version) && !strcmp(name, driver))
			return fd;
		close(fd);
	}
	return -1;
}

static int missing_device(const char *driver)
{
	snprintf(source_missing, sizeof(source_missing),
		 "needs a graphics device of %s in DAXFS_DRM", driver);
	return -1;
}

/* Puts @image into a buffer of @device, which is mapped at @offset there and then not needed any more. */
static int export_buffer(int device, u32 handle, u64 offset, size_t size, const struct image *image)
{
	struct drm_prime_handle prime = { .handle = handle, .flags = DRM_CLOEXEC | DRM_RDWR };
	char *address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, device, offset);

	REQUIRE(copy_image(image, address, size));
	REQUIRE(!ioctl(device, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime));
	close(device);
	return prime.fd;
}

/* A buffer for software to draw into: what every graphics driver has. */
static int make_dumb(const struct source *source, const struct image *image)
{
	struct drm_mode_create_dumb create = {
		.width = 4096,
		.height = image_room(image) / (4096 * 4),
		.bpp = 32,
	};
	struct drm_mode_map_dumb map = {};
	int device = open_drm(source->argument);

	if (device < 0)
		return missing_device(source->argument);
	if (ioctl(device, DRM_IOCTL_MODE_CREATE_DUMB, &create)) {
		close(device);
		return missing("the driver refuses so much memory");
	}
	map.handle = create.handle;
	REQUIRE(!ioctl(device, DRM_IOCTL_MODE_MAP_DUMB, &map));
	return export_buffer(device, create.handle, map.offset, create.size, image);
}

/* Memory of the device itself, behind one of its PCI BARs. */
static int make_vram(const struct source *source, const struct image *image)
{
	struct drm_qxl_alloc alloc = { .size = image_room(image) };
	struct drm_qxl_map map = {};
	int device = open_drm("qxl");

	if (device < 0)
		return missing_device("qxl");
	if (ioctl(device, DRM_IOCTL_QXL_ALLOC, &alloc)) {
		close(device);
		return missing("the device has not so much memory");
	}
	map.handle = alloc.handle;
	REQUIRE(!ioctl(device, DRM_IOCTL_QXL_MAP, &map));
	return export_buffer(device, alloc.handle, map.offset, alloc.size, image);
}

/* A device in DAXFS_DEVS of the kind that the source's argument stands for; its name is kept. */
static char device_name[SOURCE_MAX][64];

/* What a pmem device is, by its path in sysfs. */
static const char *pmem_kind(const char *path)
{
	if (strstr(path, "/virtio"))
		return "virtio-pmem";
	return strstr(path, "/nvdimm-bridge") ? "persistent CXL" : "NVDIMM";
}

static int make_device(const struct source *source, const struct image *image)
{
	char devices[500], *device, *next = devices, *name = device_name[source - sources];
	const char *kind = source->argument;
	const char *wanted = image ? image->super->label : "sources";

	snprintf(devices, sizeof(devices), "%s", getenv("DAXFS_DEVS") ?: "");
	while ((device = strsep(&next, " "))) {
		char link[200], where[PATH_MAX] = "", label[64] = "";
		struct stat stat;
		int fd;

		if (!*device || lstat(device, &stat))
			continue;
		if (!strcmp(kind, "dax")) {
			if (!S_ISCHR(stat.st_mode))
				continue;
			snprintf(name, 64, "%s", device);
			return 0;
		}
		snprintf(link, sizeof(link), "/sys/class/block/%s/device",
			 strrchr(device, '/') + 1);
		if (!S_ISBLK(stat.st_mode) || !realpath(link, where) ||
		    strcmp(pmem_kind(where), kind))
			continue;
		fd = open(device, O_RDONLY | O_CLOEXEC);
		pread(fd, label, sizeof(label), 72);
		close(fd);
		if (strncmp(label, wanted, sizeof(label)))
			continue;
		snprintf(name, 64, "%s", device);
		return 0;
	}
	snprintf(source_missing, sizeof(source_missing),
		 "needs a %s device in DAXFS_DEVS that holds the image %s", kind, wanted);
	return -1;
}

int source_make_owned(const struct source *source, const struct image *image, int *owner)
{
	int fd;

	*owner = -1;
	owner_wanted = owner;
	fd = source->make(source, image);
	owner_wanted = NULL;
	return fd;
}

bool source_is_device(const struct source *source)
{
	return source->make == make_device;
}

const char *source_device(const struct source *source)
{
	return device_name[source - sources];
}

static int make_phys(const struct source *source, const struct image *image)
{
	if (!getenv("DAXFS_RESERVED_ADDR") || !getenv("DAXFS_RESERVED_SIZE"))
		return missing("needs a range that holds the image, in DAXFS_RESERVED_ADDR");
	return 0;
}

/* A page less than the whole range cannot have struct pages. */
static const u64 whole, all_but_a_page = 4096;

const struct source sources[] = {
	{ "NVDIMM", NULL, NULL, make_device, "NVDIMM", .pages = true, .huge = true,
	  .shared = true },
	{ "virtio-pmem", NULL, NULL, make_device, "virtio-pmem", .pages = true, .huge = true,
	  .shared = true },
	{ "CXL, persistent", NULL, NULL, make_device, "persistent CXL", .pages = true, .huge = true,
	  .shared = true },
	{ "CXL (fsdev)", NULL, NULL, make_device, "dax", .pages = true, .huge = true },
	{ "phys", NULL, "phys=0x", make_phys, &whole, .pages = true, .huge = true },
	{ "phys, unaligned", NULL, "phys=0x", make_phys, &all_but_a_page, .huge = false },
	{ "memfd", "memfd", "memfd", make_memfd, &plain, .pages = true, .shared = true },
	{ "memfd, huge folios", "memfd", "memfd", make_memfd, &thp, .pages = true, .huge = true,
	  .shared = true },
	{ "memfd, hugetlb", "memfd", "memfd", make_memfd, &hugetlb, .huge = true, .shared = true },
	/* A dma-buf's pages are somebody else's: they are mapped by their frames. */
	{ "udmabuf", "dmabuf", "dmabuf", make_udmabuf, &plain, .shared = true },
	{ "udmabuf, huge folios", "dmabuf", "dmabuf", make_udmabuf, &thp, .huge = true,
	  .shared = true },
	{ "udmabuf, shuffled pages", "dmabuf", "dmabuf", make_udmabuf, &shuffled, .shared = true },
	{ "system heap", "dmabuf", "dmabuf", make_heap, NULL, .shared = true },
	{ "vgem", "dmabuf", "dmabuf", make_dumb, "vgem", "vgem", .shared = true },
	{ "virtio-gpu", "dmabuf", "dmabuf", make_dumb, "virtio_gpu", "virtio_gpu", .shared = true },
	{ "qxl, device memory", "dmabuf", "dmabuf", make_vram, NULL, "qxl", .shared = true },
};

const size_t source_count = ARRAY_SIZE(sources);

static void read_log(int context)
{
	size_t used = 0;
	ssize_t length;

	while ((length = read(context, context_log + used, sizeof(context_log) - used - 1)) > 0)
		used += length;
	context_log[used] = 0;
}

int context_set(int context, unsigned int command, const char *key, const void *value, int aux)
{
	int error = syscall(SYS_fsconfig, context, command, key, value, aux) ? errno : 0;

	read_log(context);
	return error;
}

int source_context(const struct source *source, int fd)
{
	int context = syscall(SYS_fsopen, "daxfs", FSOPEN_CLOEXEC), error = 0;
	const char *device = device_name[source - sources];
	char size[32];

	REQUIRE(context >= 0);
	if (source->key) {
		error = context_set(context, FSCONFIG_SET_FD, source->key, NULL, fd);
	} else if (source->make == make_phys) {
		snprintf(size, sizeof(size), "%llu",
			 strtoull(getenv("DAXFS_RESERVED_SIZE"), NULL, 0) -
				 *(const u64 *)source->argument);
		error = context_set(context, FSCONFIG_SET_STRING, "phys",
				    getenv("DAXFS_RESERVED_ADDR"), 0) ?:
			context_set(context, FSCONFIG_SET_STRING, "size", size, 0);
	} else {
		error = context_set(context, FSCONFIG_SET_STRING, "source", device, 0);
	}
	if (error)
		printf("# %s: %s: %s\n", source->name, strerror(error), context_log);
	REQUIRE(!error);
	return context;
}

bool context_mount(int context, const char *dir)
{
	int error = context_set(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0), mount;

	if (!error) {
		mount = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
		REQUIRE(mount >= 0);
		REQUIRE(!syscall(SYS_move_mount, mount, "", AT_FDCWD, dir,
				 MOVE_MOUNT_F_EMPTY_PATH));
		close(mount);
	}
	close(context);
	errno = error;
	return !error;
}

bool source_mount(const struct source *source, const struct image *image, const char *dir)
{
	int fd = source->make(source, image), context;

	if (fd < 0)
		return false;
	context = source_context(source, fd);
	if (fd)
		close(fd);
	if (!context_mount(context, dir)) {
		printf("# %s: %s: %s\n", source->name, strerror(errno), context_log);
		REQUIRE(!"mounted");
	}
	return true;
}
