// SPDX-License-Identifier: GPL-2.0-only
/* Devices that lose their driver, and calls that may block for ever. */
#include <grp.h>
#include <sched.h>
#include <sys/prctl.h>

#include "device.h"

/* Set when something did not end; shared by all points. */
static bool *stuck;

void device_init(void)
{
	stuck = shared_memory(sizeof(*stuck));
	ktap_background = memfd_create("background", MFD_CLOEXEC);
	if (ktap_background < 0 || fcntl(ktap_background, F_SETFL, O_APPEND)) {
		perror("# memfd_create");
		exit(KTAP_FAIL);
	}
}

int run_on_sources(bool (*wanted)(const struct source *source), const struct image *image,
		   const struct source **source)
{
	unsigned int results[KTAP_SKIP + 1] = {}, points = 0, skips = 0;
	bool there[SOURCE_MAX] = {};
	char *lacking[SOURCE_MAX] = {};
	char title[200];
	size_t count;
	const struct ktap_test *tests = ktap_list(&count);

	device_init();
	ktap_start();
	for (size_t i = 0; i < source_count; i++) {
		bool used = !wanted || wanted(&sources[i]);
		int fd = used ? sources[i].make(&sources[i], image) : -1;

		there[i] = fd >= 0;
		*source = &sources[i];
		for (size_t j = 0; there[i] && j < count; j++)
			points += !tests[j].fits || tests[j].fits();
		if (fd > 0)
			close(fd);
		/* Tests of all sources tell which one is missing. */
		else if (fd < 0 && !wanted)
			REQUIRE(asprintf(&lacking[skips++], "%s: mounts # SKIP %s", sources[i].name, source_missing) > 0);
		else if (fd < 0 && used)
			printf("# %s: %s\n", sources[i].name, source_missing);
	}
	if (!points)
		ktap_skip_all("needs a memory source (see tests/README)");
	printf("KTAP version 1\n1..%u\n", points + skips);
	results[KTAP_SKIP] = skips;
	for (points = 0; points < skips; points++)
		printf("ok %u - %s\n", points + 1, lacking[points]);
	for (size_t i = 0; i < source_count * count; i++) {
		struct ktap_test test = tests[i % count];

		*source = &sources[i / count];
		if (!there[i / count] || (test.fits && !test.fits()))
			continue;
		snprintf(title, sizeof(title), "%s: %s", (*source)->name, test.name);
		test.name = title;
		results[ktap_one(++points, &test)]++;
	}
	return ktap_totals(results);
}

void device_find(const struct source *source, struct device *device)
{
	const char *name = strrchr(source_device(source), '/') + 1;
	char link[PATH_MAX + 16], path[PATH_MAX];

	if (!strcmp(source->argument, "dax"))
		snprintf(link, sizeof(link), "/sys/bus/dax/devices/%s", name);
	else
		snprintf(link, sizeof(link), "/sys/class/block/%s/device", name);
	REQUIRE(realpath(link, path));
	snprintf(device->name, sizeof(device->name), "%.255s", strrchr(path, '/') + 1);
	snprintf(link, sizeof(link), "%s/driver", path);
	REQUIRE(realpath(link, device->driver));
	device->node = source_device(source);
}

static bool tell_driver(const struct device *device, const char *file)
{
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/%s", device->driver, file);
	return write_text(path, "%s", device->name);
}

bool device_unbind(const struct device *device)
{
	return tell_driver(device, "unbind");
}

bool device_bind(const struct device *device)
{
	struct stat stat;

	if (!tell_driver(device, "bind"))
		return false;
	for (int tries = 0; tries < 300; tries++) {
		if (!lstat(device->node, &stat))
			return true;
		usleep(10000);
	}
	return false;
}

double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

void rest(double seconds)
{
	double end = now() + seconds;

	while (now() < end)
		usleep(seconds < 0.01 ? 200 : 2000);
}

void become_user(uid_t user)
{
	REQUIRE(!setgroups(0, NULL) && !setresgid(user, user, user) && !setresuid(user, user, user));
	REQUIRE(!prctl(PR_SET_DUMPABLE, 1) && !unshare(CLONE_NEWUSER));
	REQUIRE(write_text("/proc/self/setgroups", "deny"));
	REQUIRE(write_text("/proc/self/uid_map", "0 %u 1", user));
	REQUIRE(write_text("/proc/self/gid_map", "0 %u 1", user));
}

static pid_t start(int (*run)(void *argument), void *argument, uid_t user)
{
	int null, result;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	REQUIRE(pid >= 0);
	if (pid)
		return pid;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, 0);
	for (int fd = 1; fd < 3; fd++)
		dup2(ktap_background < 0 ? null : ktap_background, fd);
	signal(SIGBUS, SIG_DFL);
	if (user)
		become_user(user);
	result = run(argument);
	fflush(stdout);
	_exit(result);
}

pid_t background(int (*run)(void *argument), void *argument)
{
	return start(run, argument, 0);
}

pid_t background_user(int (*run)(void *argument), void *argument)
{
	return start(run, argument, 1000);
}

int ends_within(pid_t pid, double seconds)
{
	double end = now() + seconds;
	int status;

	for (;;) {
		pid_t got = waitpid(pid, &status, WNOHANG);

		if (got == pid)
			return status;
		if (now() >= end)
			return -1;
		usleep(1000);
	}
}

int limit(void)
{
	return getenv("DAXFS_SLOW") ? 60 : 8;
}

void print_stack(pid_t pid)
{
	char path[64], line[200];
	FILE *stack;

	snprintf(path, sizeof(path), "/proc/%d/stack", pid);
	stack = fopen(path, "re");
	while (stack && fgets(line, sizeof(line), stack))
		printf("# %s", line);
	if (stack)
		fclose(stack);
}

/* Print where @pid and the processes that it has started are. */
static void print_stacks(pid_t pid)
{
	char path[64];
	FILE *children;
	int child;

	printf("# process %d:\n", pid);
	print_stack(pid);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	children = fopen(path, "re");
	while (children && fscanf(children, "%d", &child) == 1)
		print_stacks(child);
	if (children)
		fclose(children);
}

int reaped(const char *what, pid_t pid)
{
	int status = ends_within(pid, limit());

	if (status == -1) {
		*stuck = true;
		printf("# %s has not ended\n", what);
		print_stacks(pid);
		REQUIRE(!"done in time");
	}
	return status;
}

int bounded(const char *what, int (*run)(void *argument), void *argument)
{
	int status = reaped(what, background(run, argument));

	if (!WIFEXITED(status))
		printf("# %s: wait status %#x\n", what, status);
	REQUIRE(WIFEXITED(status));
	return WEXITSTATUS(status);
}

void skip_if_stuck(void)
{
	if (*stuck)
		SKIP("a call of an earlier point is stuck");
}

struct mount_arguments {
	const struct source *source;
	const char *dir;
};

static int do_mount(void *argument)
{
	const struct mount_arguments *arguments = argument;

	return context_mount(source_context(arguments->source, 0), arguments->dir) ? 0 : errno;
}

int bounded_mount(const struct source *source, const char *dir)
{
	struct mount_arguments arguments = { source, dir };

	return bounded("mount", do_mount, &arguments);
}

static int do_umount(void *argument)
{
	return umount(argument) ? errno : 0;
}

int bounded_umount(const char *dir)
{
	return bounded("umount", do_umount, (void *)dir);
}

static int do_umount_when_free(void *argument)
{
	int error;

	/* The caller's limit ends this. */
	while ((error = do_umount(argument)) == EBUSY)
		usleep(10000);
	return error;
}

int bounded_umount_when_free(const char *dir)
{
	return bounded("umount once the kernel has released all files", do_umount_when_free, (void *)dir);
}

static int do_sync(void *argument)
{
	sync();
	return 0;
}

int bounded_sync(void)
{
	return bounded("sync", do_sync, NULL);
}

static int do_unbind(void *argument)
{
	return !device_unbind(argument);
}

pid_t begin_unbind(const struct device *device)
{
	return background(do_unbind, (void *)device);
}

static int do_drop_caches(void *argument)
{
	return !shrink_caches(2);
}

void bounded_drop_caches(int times)
{
	while (times--)
		CHECK_EQ(bounded("drop_caches", do_drop_caches, NULL), 0);
}
