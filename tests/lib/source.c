// SPDX-License-Identifier: GPL-2.0-only
/* The kinds of memory that an image can be mounted from, and mounting it from each. */
#include "source_make.h"

char source_missing[200];
char context_log[4000];

int source_is_missing(const char *reason)
{
	snprintf(source_missing, sizeof(source_missing), "%s", reason);
	return -1;
}

size_t image_length(const struct image *image)
{
	u64 size = image->super->total_size;

	if (image->super->compat & COMPAT_SUMS)
		size += (size + HUGE_SIZE - 1) / HUGE_SIZE * 32;
	return page_round(size);
}

size_t image_room(const struct image *image)
{
	return (image_length(image) + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1);
}

struct image image_named(const char *name, const char *options)
{
	const char *images = getenv("DAXFS_IMAGES"), *work = work_dir();
	char path[PATH_MAX], reason[100];

	snprintf(path, sizeof(path), "%s/%s.daxfs", images ? images : "/run/images", name);
	if (access(path, R_OK)) {
		snprintf(path, sizeof(path), "%s/%s.daxfs", work, name);
		snprintf(reason, sizeof(reason), "needs mkdaxfs, or %s.daxfs in DAXFS_IMAGES", name);
		if (run_command("rm -rf '%s/%s' && '%s/lib/mktree' %s '%s/%s' && mkdaxfs --quiet --force %s --label %s '%s/%s' '%s' && rm -r '%s/%s'",
				work, name, program_dir(), name, work, name, options, name, work, name, path, work, name))
			ktap_skip_all(reason);
	}
	return image_load(path);
}

struct image sources_image(void)
{
	return image_named("sources", "--tails=none --sums");
}

/* The devices in DAXFS_DEVS that make_device() found, by source. */
static char device_name[SOURCE_MAX][64];

/* Return the kind of a pmem device, by its path in sysfs. */
static const char *pmem_kind(const char *path)
{
	return strstr(path, "/virtio") ? "virtio-pmem" : "NVDIMM";
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

bool source_maps_huge(const struct source *source)
{
	return source->huge && has_huge_mappings();
}

bool source_is_device(const struct source *source)
{
	return source->make == make_device;
}

const char *source_device(const struct source *source)
{
	return device_name[source - sources];
}

static bool is_one_of(const struct source *source, const char *const *names)
{
	while (*names && strcmp(source->name, *names))
		names++;
	return *names;
}

bool source_stands_for_way(const struct source *source)
{
	return is_one_of(source, (const char *const[]){ "NVDIMM", "memfd, huge folios", "udmabuf",
							"qxl, device memory", NULL });
}

bool source_is_distinct(const struct source *source)
{
	/* virtio-pmem and virtio-gpu are mapped exactly as NVDIMM and vgem. */
	return getenv("DAXFS_SLOW") ? source_stands_for_way(source) :
				      !is_one_of(source, (const char *const[]){ "virtio-pmem", "virtio-gpu", NULL });
}

static int make_phys(const struct source *source, const struct image *image)
{
	if (!getenv("DAXFS_RESERVED_ADDR") || !getenv("DAXFS_RESERVED_SIZE"))
		return source_is_missing("needs a range that holds the image, in DAXFS_RESERVED_ADDR");
	return 0;
}

/* A range without its last page is not aligned, so it cannot have struct pages. */
static const bool whole, all_but_a_page = true;

const struct source sources[] = {
	{ "NVDIMM", NULL, NULL, make_device, "NVDIMM", .pages = true, .huge = true,
	  .shared = true },
	{ "virtio-pmem", NULL, NULL, make_device, "virtio-pmem", .pages = true, .huge = true,
	  .shared = true },
	{ "CXL (fsdev)", NULL, NULL, make_device, "dax", .pages = true, .huge = true },
	{ "phys", NULL, "phys=0x", make_phys, &whole, .pages = true, .huge = true },
	{ "phys, unaligned", NULL, "phys=0x", make_phys, &all_but_a_page, .huge = false },
	{ "memfd", "memfd", "memfd", make_memfd, &memfd_plain, .pages = true, .shared = true },
	{ "memfd, huge folios", "memfd", "memfd", make_memfd, &memfd_thp, .pages = true, .huge = true,
	  .shared = true },
	{ "memfd, hugetlb", "memfd", "memfd", make_memfd, &memfd_hugetlb, .huge = true, .shared = true },
	/* A dma-buf's pages belong to its exporter: they are mapped by their frames. */
	{ "udmabuf", "dmabuf", "dmabuf", make_udmabuf, &memfd_plain, .shared = true },
	{ "udmabuf, huge folios", "dmabuf", "dmabuf", make_udmabuf, &memfd_thp, .huge = true,
	  .shared = true },
	{ "udmabuf, shuffled pages", "dmabuf", "dmabuf", make_udmabuf, &memfd_shuffled, .shared = true },
	{ "system heap", "dmabuf", "dmabuf", make_heap, NULL, .shared = true },
	{ "vgem", "dmabuf", "dmabuf", make_dumb, "vgem", "vgem", .shared = true },
	{ "virtio-gpu", "dmabuf", "dmabuf", make_dumb, "virtio_gpu", "virtio_gpu", .shared = true },
	{ "qxl, device memory", "dmabuf", "dmabuf", make_vram, NULL, "qxl", .shared = true },
};

const size_t source_count = ARRAY_SIZE(sources);

const struct source *source_named(const char *name)
{
	for (size_t i = 0; i < source_count; i++)
		if (!strcmp(sources[i].name, name))
			return &sources[i];
	REQUIRE(!"a known source");
	return NULL;
}

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

int context_options(int context, const char *format, ...)
{
	char text[512], *option, *next = text;
	va_list values;
	int error = 0;

	va_start(values, format);
	REQUIRE(vsnprintf(text, sizeof(text), format, values) < (int)sizeof(text));
	va_end(values);
	while (*text && !error && (option = strsep(&next, ","))) {
		char *value = strchr(option, '=');

		if (value)
			*value++ = 0;
		error = context_set(context, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, option, value, 0);
	}
	return error;
}

int context_new(const char *key, const char *value)
{
	int context = syscall(SYS_fsopen, "daxfs", FSOPEN_CLOEXEC);

	REQUIRE(context >= 0);
	REQUIRE(!key || !context_set(context, FSCONFIG_SET_STRING, key, value, 0));
	return context;
}

static int context_of_range(u64 start, u64 size)
{
	int context = context_new(NULL, NULL);

	REQUIRE(!context_options(context, "phys=%#llx,size=%llu", start, size));
	return context;
}

int source_context(const struct source *source, int fd)
{
	int context;

	if (!source->key && source->make != make_phys)
		return context_new("source", device_name[source - sources]);
	if (!source->key)
		return context_of_range(strtoull(getenv("DAXFS_RESERVED_ADDR"), NULL, 0),
					strtoull(getenv("DAXFS_RESERVED_SIZE"), NULL, 0) -
						(*(const bool *)source->argument ? page_size() : 0));
	context = context_new(NULL, NULL);
	if (context_set(context, FSCONFIG_SET_FD, source->key, NULL, fd)) {
		printf("# %s: %s\n", source->name, context_log);
		REQUIRE(!"a source");
	}
	return context;
}

int context_mount_with(int context, const char *dir, const char *options)
{
	int error = context_options(context, "%s", options);

	if (!error)
		return context_mount(context, dir) ? 0 : errno;
	close(context);
	return error;
}

int context_remount(const char *dir, const char *options)
{
	int context = syscall(SYS_fspick, AT_FDCWD, dir, FSPICK_CLOEXEC), error;

	if (context < 0)
		return errno;
	error = context_options(context, "%s", options) ?:
		context_set(context, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0);
	close(context);
	return error;
}

bool check_refused(int error, int wanted, const char *text)
{
	errno = error;
	if (CHECK_EQ(error, wanted) && CHECK(strstr(context_log, text)))
		return true;
	printf("# expected '%s', the log says: %s\n", text, context_log);
	return false;
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
