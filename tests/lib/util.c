// SPDX-License-Identifier: GPL-2.0-only
/* Functions that several test programs share. */
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

#include "util.h"

bool write_text(const char *path, const char *format, ...)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), length;
	char text[512];
	va_list values;
	bool written;

	va_start(values, format);
	length = vsnprintf(text, sizeof(text), format, values);
	va_end(values);
	written = fd >= 0 && write(fd, text, length) == length;
	close(fd);
	return written;
}

bool shrink_caches(int kind)
{
	return write_text("/proc/sys/vm/drop_caches", "%d", kind);
}

const char *work_dir(void)
{
	const char *dir = getenv("DAXFS_WORK");

	return dir ? dir : "/tmp/daxfs-tests";
}

const char *private_mount_point(void)
{
	static char path[PATH_MAX];

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		ktap_skip_all("needs the right to mount (root)");
	mkdir(work_dir(), 0755);
	snprintf(path, sizeof(path), "%s/mnt", work_dir());
	if (mkdir(path, 0755) && errno != EEXIST) {
		printf("Bail out! %s: %s\n", path, strerror(errno));
		exit(KTAP_FAIL);
	}
	return path;
}

const char *program_dir(void)
{
	static char path[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (length < 0)
		return ".";
	path[length] = 0;
	*strrchr(path, '/') = 0;
	return path;
}

const char *fixture_device(const char *name)
{
	static char device[PATH_MAX], reason[200] = "fixture failed";
	char command[PATH_MAX + 100];
	int status;
	FILE *pipe;

	/* The script prints the device, or the reason to skip, on its standard output. */
	snprintf(command, sizeof(command), "'%s/lib/fixture' %s", program_dir(), name);
	fflush(stdout);
	pipe = popen(command, "r");
	if (!pipe || !fgets(device, sizeof(device), pipe))
		device[0] = 0;
	status = pipe ? pclose(pipe) : -1;
	device[strcspn(device, "\n")] = 0;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return device;
	if (device[0])
		snprintf(reason, sizeof(reason), "%.190s", device);
	if (WIFEXITED(status) && WEXITSTATUS(status) == KTAP_SKIP)
		ktap_skip_all(reason);
	printf("Bail out! fixture %s: %s\n", name, reason);
	exit(KTAP_FAIL);
}

void *shared_memory(size_t size)
{
	void *address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (address == MAP_FAILED)
		ktap_skip_all("not enough memory");
	return address;
}

const char *fixture_mount(const char *name)
{
	const char *device, *path;

	if (getenv("DAXFS_ON_FUSE"))
		return getenv("DAXFS_ON_FUSE");
	device = fixture_device(name);
	path = private_mount_point();
	if (getenv("DAXFS_MOUNT") ? run_command("%s '%s' '%s'", getenv("DAXFS_MOUNT"), device, path) :
				    mount(device, path, "daxfs", 0, NULL)) {
		printf("Bail out! mount -t daxfs %s %s: %s\n", device, path, strerror(errno));
		exit(KTAP_FAIL);
	}
	return path;
}

int open_in(const char *mount, const char *path, int flags)
{
	int dir = open(mount, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = openat(dir, path, flags | O_CLOEXEC);

	if (fd < 0)
		printf("# %s/%s: %s\n", mount, path, strerror(errno));
	REQUIRE(fd >= 0);
	close(dir);
	return fd;
}

int open_size(const char *mount, u64 size, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "sizes/%llu", (unsigned long long)size);
	return open_in(mount, path, flags);
}

char *map_length(const char *mount, u64 size, size_t length, int protection, int flags)
{
	int fd = open_size(mount, size, O_RDONLY);
	char *address = mmap(NULL, length, protection, flags, fd, 0);

	REQUIRE(address != MAP_FAILED);
	close(fd); /* the mapping outlives it */
	return address;
}

char *map_size(const char *mount, u64 size, int protection, int flags)
{
	return map_length(mount, size, size, protection, flags);
}

size_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

bool has_huge_mappings(void)
{
	return number_in("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "") == HUGE_SIZE;
}

size_t page_round(size_t size)
{
	return (size + page_size() - 1) / page_size() * page_size();
}

/* SplitMix64: each 8 bytes of a pattern depend on nothing but their position. */
static u64 pattern_word(u64 seed, u64 index)
{
	u64 z = (seed ^ 0x6461786673746573ull) + (index + 1) * 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

u8 pattern_byte(u64 seed, u64 offset)
{
	return pattern_word(seed, offset / 8) >> (offset % 8 * 8);
}

void pattern_fill(void *buffer, size_t length, u64 seed, u64 offset)
{
	u8 *bytes = buffer;
	size_t i = 0;

	for (; i < length && (offset + i) % 8; i++)
		bytes[i] = pattern_byte(seed, offset + i);
	for (; i + 8 <= length; i += 8) {
		u64 word = pattern_word(seed, (offset + i) / 8);

		memcpy(bytes + i, &word, 8);
	}
	for (; i < length; i++)
		bytes[i] = pattern_byte(seed, offset + i);
}

bool pattern_matches(const void *buffer, size_t length, u64 seed, u64 offset)
{
	const u8 *bytes = buffer;
	size_t i = 0;

	for (; i < length && (offset + i) % 8; i++)
		if (bytes[i] != pattern_byte(seed, offset + i))
			return false;
	for (; i + 8 <= length; i += 8) {
		u64 word;

		memcpy(&word, bytes + i, 8);
		if (word != pattern_word(seed, (offset + i) / 8))
			return false;
	}
	for (; i < length; i++)
		if (bytes[i] != pattern_byte(seed, offset + i))
			return false;
	return true;
}

int scratch_file(void)
{
	int fd = open(work_dir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	REQUIRE(fd >= 0);
	return fd;
}

bool holds(int fd, u64 seed, u64 offset, size_t length)
{
	char *buffer = malloc(length);
	bool same = pread(fd, buffer, length, 0) == (ssize_t)length &&
		    pattern_matches(buffer, length, seed, offset);

	free(buffer);
	return same;
}

bool pattern_in_pages(const void *buffer, size_t length, u64 seed, u64 offset)
{
	const u8 *bytes = buffer;

	for (size_t page = 0; page * 4096 < length; page++) {
		/* Other bytes in each page, and all bytes of the last one. */
		size_t at = page * 4096 + page % 64 * 64, part = 64;

		if ((page + 1) * 4096 >= length) {
			at = page * 4096;
			part = length - at;
		}
		if (!pattern_matches(bytes + at, part, seed, offset + at))
			return false;
	}
	return true;
}

bool all_zero(const void *buffer, size_t length)
{
	const u8 *bytes = buffer;

	for (size_t i = 0; i < length; i++)
		if (bytes[i])
			return false;
	return true;
}

int kmsg_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

unsigned int kmsg_count(int kmsg, const char *needle, char *line, size_t size)
{
	char record[8192];
	unsigned int count = 0;

	for (;;) {
		ssize_t length = read(kmsg, record, sizeof(record) - 1);
		char *message;

		if (length < 0 && errno == EPIPE)
			continue; /* records were overwritten; the next read continues after them */
		if (length <= 0)
			return count;
		record[length] = 0;
		message = strchr(record, ';');
		if (!message || !strstr(message, needle))
			continue;
		count++;
		message[strcspn(message, "\n")] = 0;
		if (line)
			snprintf(line, size, "%s", message + 1);
	}
}

long long number_in(const char *file, const char *key)
{
	long long number = -1;
	char line[512];
	FILE *stream = fopen(file, "re");

	while (stream && fgets(line, sizeof(line), stream))
		if (!strncmp(line, key, strlen(key))) {
			number = strtoll(line + strlen(key), NULL, 10);
			break;
		}
	if (stream)
		fclose(stream);
	return number;
}

const char *mount_options(const char *dir)
{
	static char options[1000];
	char line[PATH_MAX + 1500], target[PATH_MAX], found[1000];
	FILE *mounts = fopen("/proc/self/mounts", "re");

	options[0] = 0;
	while (mounts && fgets(line, sizeof(line), mounts))
		if (sscanf(line, "%*s %4095s %*s %999s", target, found) == 2 && !strcmp(target, dir))
			snprintf(options, sizeof(options), "%s", found);
	if (mounts)
		fclose(mounts);
	return options;
}

long long counter_of(const char *mount, const char *name)
{
	struct stat stat;
	char path[128];

	REQUIRE(!lstat(mount, &stat));
	snprintf(path, sizeof(path), "/sys/fs/daxfs/%u:%u/%s", major(stat.st_dev), minor(stat.st_dev), name);
	REQUIRE(!access(path, F_OK));
	return number_in(path, "");
}

int repeats(int times)
{
	return getenv("DAXFS_SLOW") ? (times + 7) / 8 : times;
}

void page_frames(const char *address, size_t count, u64 frames[])
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	off_t at = (uintptr_t)address / sysconf(_SC_PAGESIZE) * 8;

	REQUIRE(pread(fd, frames, count * 8, at) == (ssize_t)count * 8);
	close(fd);
	for (size_t i = 0; i < count; i++)
		frames[i] = frames[i] >> 63 ? frames[i] & ((1ULL << 55) - 1) : 0;
}

static long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

long touch_pages(const char *address, size_t length, size_t step)
{
	long before;

	/* The first call of faults() may take a fault itself. */
	faults();
	before = faults();
	for (size_t i = 0; i < length; i += step)
		asm volatile("" : : "r"(address[i]) : "memory");
	return faults() - before;
}

bool access_gets_sigbus(const char *address, bool store)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		signal(SIGBUS, SIG_DFL);
		if (store)
			__atomic_store_n((char *)address, 1, __ATOMIC_SEQ_CST);
		else
			asm volatile("" : : "r"(*address) : "memory");
		_exit(0);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS;
}

int loop_device(int backing, size_t size, int flags, char path[32])
{
	struct loop_config config = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int control, number, setup, device;
	char name[32];

	if (access("/dev/loop-control", F_OK) && system("modprobe -q loop"))
		return -1;
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	close(control);
	if (number < 0)
		return -1;
	if (backing < 0) {
		backing = scratch_file();
		REQUIRE(!ftruncate(backing, size));
	}
	config.fd = backing;
	snprintf(name, sizeof(name), "/dev/loop%d", number);
	setup = open(name, O_RDWR | O_CLOEXEC);
	REQUIRE(setup >= 0 && !ioctl(setup, LOOP_CONFIGURE, &config));
	device = open(name, flags | O_CLOEXEC);
	REQUIRE(device >= 0);
	close(setup);
	if (path)
		snprintf(path, 32, "%s", name);
	return device;
}

int run_command(const char *format, ...)
{
	char command[4 * PATH_MAX], line[1000];
	va_list arguments;
	FILE *pipe;
	int length;

	va_start(arguments, format);
	length = vsnprintf(command, sizeof(command) - 8, format, arguments);
	va_end(arguments);
	memcpy(command + length, " 2>&1", sizeof(" 2>&1"));
	fflush(stdout);
	pipe = popen(command, "r");
	REQUIRE(pipe);
	while (fgets(line, sizeof(line), pipe))
		printf("# %s", line);
	return WEXITSTATUS(pclose(pipe));
}
