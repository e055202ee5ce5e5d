// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mount contexts take valid parameters only: no descriptor of another kind, nothing from ordinary users. They drop
 * refused descriptors, and do not write to the kernel's log.
 *
 * Group: memory
 * Machine: rare-debug cpus=2 nvdimm,virtio-pmem,cxl,reserve,pci=sources.daxfs drm share
 */
#include <linux/bpf.h>
#include <linux/memfd.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "device.h"

#define ALL_SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)
/* Attempts of each test. Each one used to pin memory or to add to the log. */
#define CONTEXTS 1000
#define KINDS_MAX 60

/* Descriptors of all kinds, and the parameter that takes them, if any. */
struct kind {
	const char *name, *key;
	int fd;
};

static struct kind kinds[KINDS_MAX];
static size_t kind_count;
static struct image image;
static const char *mnt;

static const char *const parameters[] = {
	"source", "check", "digest", "signature", "verify", "image", "phys", "size", "dmabuf", "memfd",
	"nonsense", "",
};

static const unsigned int commands[] = {
	FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_SET_BINARY, FSCONFIG_SET_PATH,
	FSCONFIG_SET_PATH_EMPTY, FSCONFIG_SET_FD,
};

static int pick(void)
{
	return syscall(SYS_fspick, AT_FDCWD, mnt, FSPICK_CLOEXEC);
}

/* A descriptor that this machine cannot make is left out. */
static void add(const char *name, const char *key, int fd)
{
	if (fd < 0) {
		printf("# no %s: %s\n", name, strerror(errno));
		return;
	}
	REQUIRE(kind_count < KINDS_MAX);
	kinds[kind_count++] = (struct kind){ name, key, fd };
}

static int again(int fd, int flags)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

static void add_memfds(void)
{
	static const int seals[] = { 0, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE,
				     F_SEAL_FUTURE_WRITE, ALL_SEALS };
	int memfd;

	for (size_t i = 0; i < ARRAY_SIZE(seals); i++) {
		memfd = memfd_with(&image, image_room(&image), 0, seals[i]);
		add("memfd", "memfd", memfd);
	}
	add("memfd, an open path", NULL, again(memfd, O_PATH));
	memfd = memfd_create("unsealed", MFD_CLOEXEC);
	add("memfd, open for writing", NULL, again(memfd, O_WRONLY));
	add("memfd of huge pages", "memfd", memfd_create("huge", MFD_CLOEXEC | MFD_HUGE_PAGES));
	add("secret memory", NULL, syscall(SYS_memfd_secret, O_CLOEXEC));
	add("file on tmpfs", "memfd", open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
	add("directory on tmpfs", NULL, open("/dev/shm", O_RDONLY | O_CLOEXEC));
}

static void add_files(void)
{
	struct stat stat;

	add("file of an image", NULL, open_size(mnt, 4097, O_RDONLY));
	add("root of an image", NULL, open(mnt, O_RDONLY | O_CLOEXEC));
	add("null device", NULL, open("/dev/null", O_RDWR | O_CLOEXEC));
	add("zero device", NULL, open("/dev/zero", O_RDWR | O_CLOEXEC));
	add("terminal", NULL, open("/dev/ptmx", O_RDWR | O_CLOEXEC));
	add("block device", NULL, open(source_device(source_named("NVDIMM")), O_RDONLY | O_CLOEXEC));
	add("log", NULL, open("/dev/kmsg", O_RDONLY | O_CLOEXEC));
	add("file in proc", NULL, open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
	add("file in sysfs", NULL, open("/sys/kernel/uevent_seqnum", O_RDONLY | O_CLOEXEC));
	add("namespace", NULL, open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
	add("program", NULL, open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
	if (!fstat(STDOUT_FILENO, &stat))
		add("standard output", NULL, dup(STDOUT_FILENO));
}

static void add_objects(void)
{
	struct perf_event_attr counter = { .type = PERF_TYPE_SOFTWARE, .size = sizeof(counter) };
	union bpf_attr map = { .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4,
			       .max_entries = 1 };
	char ring[256] = {};
	sigset_t signals;
	int ends[2];

	sigemptyset(&signals);
	REQUIRE(!pipe2(ends, O_CLOEXEC));
	add("pipe, read", NULL, ends[0]);
	add("pipe, write", NULL, ends[1]);
	REQUIRE(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
	add("socket of a pair", NULL, ends[0]);
	add("UDP socket", NULL, socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	add("netlink socket", NULL, socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0));
	add("eventfd", NULL, eventfd(0, EFD_CLOEXEC));
	add("timerfd", NULL, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
	add("signalfd", NULL, signalfd(-1, &signals, SFD_CLOEXEC));
	add("epoll", NULL, epoll_create1(EPOLL_CLOEXEC));
	add("inotify", NULL, inotify_init1(IN_CLOEXEC));
	add("fanotify", NULL, syscall(SYS_fanotify_init, 0, 0));
	add("pidfd", NULL, syscall(SYS_pidfd_open, getpid(), 0));
	add("userfaultfd", NULL, syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY));
	add("io_uring", NULL, syscall(SYS_io_uring_setup, 1, ring));
	add("perf event", NULL, syscall(SYS_perf_event_open, &counter, 0, -1, -1, 0));
	add("BPF map", NULL, syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof(map)));
	add("tree of mounts", NULL, syscall(SYS_open_tree, AT_FDCWD, mnt, OPEN_TREE_CLOEXEC));
	add("another context", NULL, context_new(NULL, NULL));
	add("a context for a remount", NULL, pick());
}

static void add_dmabufs(void)
{
	for (size_t i = 0; i < source_count; i++)
		if (sources[i].key && !strcmp(sources[i].key, "dmabuf"))
			add(sources[i].name, "dmabuf", sources[i].make(&sources[i], &image));
}

/* The kernel's figures of resources that contexts could keep. */
struct figures {
	long long files, module, slab;
};

/* Slabs grow by up to this many KiB without a leak. 1000 contexts that each keep 192 bytes take more. */
#define SLAB_MOST 128

static struct figures figures(void)
{
	struct figures found = {
		.files = number_in("/proc/sys/fs/file-nr", ""),
		.module = access("/sys/module/daxfs/refcnt", R_OK) ? 0 :
			number_in("/sys/module/daxfs/refcnt", ""),
		/* KiB that the kernel cannot reclaim. KASAN keeps freed objects. */
		.slab = getenv("DAXFS_SLOW") ? 0 : number_in("/proc/meminfo", "SUnreclaim:"),
	};

	CHECK(found.files >= 0 && found.module >= 0 && found.slab >= 0);
	return found;
}

/* Check that all is as it was. Files are freed after a while, and others of the machine are opened. */
static void nothing_is_kept(struct figures before)
{
	double end = now() + limit();
	struct figures after;

	do {
		after = figures();
	} while ((after.files > before.files + CONTEXTS / 10 || after.module != before.module ||
		  after.slab > before.slab + SLAB_MOST) && now() < end && !usleep(10000));
	printf("# slabs: %lld KiB before, %lld KiB after\n", before.slab, after.slab);
	CHECK(after.slab <= before.slab + SLAB_MOST);
	CHECK(after.files <= before.files + CONTEXTS / 10);
	CHECK_EQ(after.module, before.module);
}

/* Set @key on @context in one of the ways, all of which may fail. Return 0 or the errno. */
static int set(int context, unsigned int command, const char *key, int fd)
{
	switch (command) {
	case FSCONFIG_SET_FLAG:
		return context_set(context, command, key, NULL, 0);
	case FSCONFIG_SET_STRING:
		return context_set(context, command, key, "neither/nor", 0);
	case FSCONFIG_SET_BINARY:
		return context_set(context, command, key, "\1\2\3", 3);
	case FSCONFIG_SET_PATH:
		return context_set(context, command, key, "/dev/shm", AT_FDCWD);
	case FSCONFIG_SET_PATH_EMPTY:
		return context_set(context, command, key, "", fd);
	default:
		return context_set(context, command, key, NULL, fd);
	}
}

/* A context takes any source, descriptors that fit, and what mount(8) repeats for a remount. */
static bool takes(const char *key, unsigned int command, bool remount, const struct kind *kind)
{
	if (!strcmp(key, "source"))
		return command == FSCONFIG_SET_STRING;
	if (!strcmp(key, "phys") || !strcmp(key, "dmabuf") || !strcmp(key, "memfd"))
		if (remount && command == FSCONFIG_SET_FLAG)
			return true;
	return command == FSCONFIG_SET_FD && !remount && kind->key && !strcmp(kind->key, key);
}

static void try(const char *key, unsigned int command, const struct kind *kind, bool remount)
{
	int context = remount ? pick() : context_new(NULL, NULL);
	bool taken = !set(context, command, key, kind->fd);

	if (!CHECK(taken == takes(key, command, remount, kind)))
		printf("# %s, type %u, %s, %s\n", key, command, kind->name,
		       remount ? "remount" : "mount");
	close(context);
}

/* Every parameter, with each type of value, with each kind of descriptor, on a context of each kind. */
POINT(everything, "every parameter with every kind of value")
{
	struct figures before;
	int kmsg;

	REQUIRE(source_mount(source_named("memfd"), &image, mnt));
	add_memfds();
	add_files();
	add_objects();
	add_dmabufs();
	before = figures();
	kmsg = kmsg_open();
	for (size_t i = 0; i < ARRAY_SIZE(parameters); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(commands); j++) {
			size_t count = commands[j] < FSCONFIG_SET_PATH_EMPTY ? 1 : kind_count;

			for (size_t k = 0; k < count; k++) {
				try(parameters[i], commands[j], &kinds[k], false);
				try(parameters[i], commands[j], &kinds[k], true);
			}
		}
	}
	CHECK_EQ(kmsg_count(kmsg, "daxfs", NULL, 0), 0);
	nothing_is_kept(before);
	printf("# %zu kinds of descriptors\n", kind_count);
	for (size_t i = 0; i < kind_count; i++)
		close(kinds[i].fd);
	CHECK_EQ(bounded_umount(mnt), 0);
}

/* A context that held itself would never be freed, nor would the module and a remount's superblock. */
POINT(cycles, "a context does not keep itself")
{
	struct figures before = figures();
	char path[64];

	REQUIRE(source_mount(source_named("memfd"), &image, mnt));
	snprintf(path, sizeof(path), "%s", sysfs_of(mnt));
	CHECK(!access(path, F_OK));
	for (int i = 0; i < CONTEXTS; i++) {
		const char *key = i & 1 ? "memfd" : "dmabuf";
		int context = i & 2 ? pick() : context_new(NULL, NULL);

		CHECK_EQ(context_set(context, FSCONFIG_SET_FD, key, NULL, context), EINVAL);
		close(context);
	}
	CHECK_EQ(bounded_umount(mnt), 0);
	CHECK(access(path, F_OK) && errno == ENOENT);
	nothing_is_kept(before);
}

/* Try to get a context, and to pass it a memfd, in every way. */
static int try_contexts(void *argument)
{
	bool own_namespace = *(bool *)argument;

	if (own_namespace ? unshare(CLONE_NEWNS) : setresuid(1000, 1000, 1000))
		return 1;
	for (int i = 0; i < CONTEXTS; i++) {
		if (syscall(SYS_fsopen, "daxfs", 0) >= 0 || errno != EPERM)
			return 2;
		if (pick() >= 0 || errno != EPERM)
			return 3;
		if (!mount("none", "/tmp", "daxfs", 0, "check=nonsense,phys=1,nonsense") || errno != EPERM)
			return 4;
		if (!mount(NULL, mnt, NULL, MS_REMOUNT | MS_RDONLY, "check=nonsense") || errno != EPERM)
			return 5;
	}
	return 0;
}

POINT(ordinary_user, "an ordinary user gets no context")
{
	struct figures before;
	bool own_namespace = false;
	int kmsg;

	REQUIRE(source_mount(source_named("memfd"), &image, mnt));
	before = figures();
	kmsg = kmsg_open();
	CHECK_EQ(reaped("a user", background(try_contexts, &own_namespace)), 0);
	own_namespace = true;
	CHECK_EQ(reaped("a user in a namespace", background_user(try_contexts, &own_namespace)), 0);
	CHECK_EQ(kmsg_count(kmsg, "daxfs", NULL, 0), 0);
	nothing_is_kept(before);
	CHECK_EQ(bounded_umount(mnt), 0);
}

/* mount(2) reports to the kernel's log. */
POINT(log_of_the_kernel, "errors of mount(2) in the kernel's log")
{
	int kmsg = kmsg_open();
	unsigned int lines;

	for (int i = 0; i < CONTEXTS; i++)
		CHECK_FAILS(mount("none", mnt, "daxfs", 0, "check=nonsense"), EINVAL);
	lines = kmsg_count(kmsg, "check= takes 'metadata' or 'none'", NULL, 0);
	CHECK(lines >= 1 && lines <= CONTEXTS / 2);
}

int main(void)
{
	mnt = private_mount_point();
	device_init();
	image = sources_image();
	return ktap_run();
}
