// SPDX-License-Identifier: GPL-2.0-only
/*
 * Several images on one pmem device, by the catalogue at its start: mounts of all of them at once,
 * updates while they are mounted, memory that fails under one of them, and removal of the device.
 *
 * Group: catalog
 * Machine: cpus=2 nvdimm=scratch
 */
#include <linux/blkpg.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include "device.h"
#include "mapped.h"

/* Two images with this padding leave no room for a third on the device of 256 MiB. */
#define PADDING "104M"
#define IMAGE_SIZE (104LL << 20)

static const char *node;
/* Mount points of "one", "two", and the image that is mounted without a name. */
static char one[PATH_MAX], two[PATH_MAX], active[PATH_MAX], more[PATH_MAX];
static struct device device;

/* Return true if the command fails and prints @text. */
static bool fails_with(const char *command, const char *text)
{
	char output[4000] = "";
	size_t length;
	FILE *pipe = popen(command, "r");

	REQUIRE(pipe);
	length = fread(output, 1, sizeof(output) - 1, pipe);
	output[length] = 0;
	printf("# %s", output);
	return WEXITSTATUS(pclose(pipe)) == 1 && strstr(output, text);
}

/* Mount the image @name, or the active one, on @dir. Return 0 or an exit status. */
static int mount_image(const char *name, const char *dir)
{
	return run_command("daxfs mount %s%s %s %s", name ? "-o image=" : "", name ?: "", node, dir);
}

/* Return true if mounting the image @name, or the active one, fails and says @text. */
static bool refused(const char *name, const char *text)
{
	char command[2 * PATH_MAX];

	snprintf(command, sizeof(command), "daxfs mount %s%s %s %s 2>&1", name ? "-o image=" : "",
		 name ?: "", node, more);
	return fails_with(command, text);
}

/* Mount a part of the device on @dir by the system call. Return 0 or an errno. */
static int mount_part(unsigned long long start, unsigned long long length, const char *dir)
{
	char options[100];

	snprintf(options, sizeof(options), "fsoffset=%llu,fslength=%#llx", start, length);
	return mount(node, dir, "daxfs", 0, options) ? errno : 0;
}

/* Return the content of the file "name" below @dir. */
static const char *name_on(const char *dir)
{
	static char text[64];
	int fd = open_in(dir, "name", O_RDONLY);
	ssize_t length = read(fd, text, sizeof(text) - 1);

	REQUIRE(length >= 0);
	text[length] = 0;
	close(fd);
	return text;
}

/* Return the seed of the large file of an image. */
static u64 seed_of(const char *name)
{
	return name[0] * 100 + strlen(name);
}

/* Map the large file below @dir. */
static char *map_large(const char *dir)
{
	int fd = open_in(dir, "large", O_RDONLY);
	char *address = mmap(NULL, LARGE, PROT_READ, MAP_SHARED, fd, 0);

	REQUIRE(address != MAP_FAILED);
	close(fd);
	return address;
}

/* Check that the image on @dir is @name, by reads and by a mapping. */
static void is_image(const char *dir, const char *name)
{
	char *buffer = malloc(LARGE), *mapped = map_large(dir);
	int fd = open_in(dir, "large", O_RDONLY);

	REQUIRE(buffer);
	CHECK(!strcmp(name_on(dir), name));
	CHECK_EQ(pread(fd, buffer, LARGE, 0), LARGE);
	CHECK(pattern_in_pages(buffer, LARGE, seed_of(name), 0));
	CHECK(pattern_in_pages(mapped, LARGE, seed_of(name), 0));
	munmap(mapped, LARGE);
	close(fd);
	free(buffer);
}

/* Make an image file that says @name. */
static void make_image(const char *name)
{
	char path[PATH_MAX], *content = malloc(LARGE);
	int fd;

	REQUIRE(content);
	REQUIRE(!run_command("mkdir -p %s/%s.tree && printf %s >%s/%s.tree/name", work_dir(), name, name,
			     work_dir(), name));
	snprintf(path, sizeof(path), "%s/%s.tree/large", work_dir(), name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	pattern_fill(content, LARGE, seed_of(name), 0);
	REQUIRE(write(fd, content, LARGE) == LARGE);
	close(fd);
	free(content);
	REQUIRE(!run_command("mkdaxfs --quiet --padding %s %s/%s.tree %s/%s.img && rm -r %s/%s.tree", PADDING,
			     work_dir(), name, work_dir(), name, work_dir(), name));
}

static int add_image(const char *name)
{
	return run_command("daxfs catalog add %s %s %s/%s.img", node, name, work_dir(), name);
}

POINT(no_active_image, "no image is active")
{
	REQUIRE(!run_command("daxfs catalog init --force %s", node));
	CHECK(refused(NULL, "no image of the catalogue is active"));
	CHECK(refused("one", "no image 'one'; it is empty"));
	REQUIRE(!add_image("one"));
	REQUIRE(!add_image("two"));
	CHECK(refused(NULL, "no image of the catalogue is active"));
	CHECK(refused("three", "no image 'three'; it has one, two"));
	CHECK(refused("a/b", "no image 'a/b'"));
	CHECK(refused("one,fsoffset=2M", "image= excludes fsoffset="));
	/* The kernel knows nothing of names. */
	CHECK_FAILS(mount(node, one, "daxfs", 0, NULL), EMEDIUMTYPE);
	CHECK_FAILS(mount(node, one, "daxfs", 0, "image=one"), EINVAL);
}

/* Overwrite the device at byte @at with @text, a string for printf(1). */
static void overwrite(int at, const char *text)
{
	REQUIRE(!run_command("printf '%s' | dd of=%s bs=1 seek=%d conv=notrunc,fsync status=none", text, node, at));
}

/* Return true if process @pid waits for room in a pipe. */
static bool waits_in_pipe(pid_t pid)
{
	char path[64], where[64] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/wchan", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	REQUIRE(fd >= 0 && read(fd, where, sizeof(where) - 1) >= 0);
	close(fd);
	return strstr(where, "pipe_write");
}

/*
 * An image that is removed after the catalogue was read is not mounted. In between, mount writes a warning to a full
 * pipe, which makes it wait.
 */
static void removed_in_time(void)
{
	static char said[1 << 17];
	size_t length = 0;
	ssize_t more;
	int ends[2], tries = 0;
	pid_t pid;

	REQUIRE(!pipe2(ends, O_NONBLOCK | O_CLOEXEC));
	memset(said, '-', sizeof(said));
	while (write(ends[1], said, 4096) > 0)
		;
	REQUIRE(!fcntl(ends[1], F_SETFL, 0) && !fcntl(ends[0], F_SETFL, 0));
	pid = fork();
	if (!pid) {
		dup2(ends[1], STDERR_FILENO);
		execlp("daxfs", "daxfs", "mount", "-o", "image=one", node, one, NULL);
		_exit(127);
	}
	close(ends[1]);
	while (!waits_in_pipe(pid) && tries++ < 1000)
		usleep(10000);
	REQUIRE(!run_command("daxfs catalog remove %s one", node));
	while ((more = read(ends[0], said + length, sizeof(said) - length - 1)) > 0)
		length += more;
	said[length] = 0;
	close(ends[0]);
	CHECK_EQ(reaped("daxfs mount", pid), 1 << 8);
	if (!CHECK(strstr(said, "image 'one' was replaced; mount again")))
		printf("# it says: %s\n", said + strspn(said, "-"));
	CHECK_FAILS(umount(one), EINVAL);
}

/* A copy that is damaged, both, other contents, and a wrong image. */
POINT(damaged, "a damaged catalogue, a wrong image")
{
	static const char save[] = "dd if=%s of=%s/%s bs=4096 count=1 skip=%d conv=fsync status=none";
	static const char restore[] =
		"dd of=%s if=%s/%s bs=4096 count=1 seek=%d conv=notrunc,fsync status=none";
	int second = (1 << 20) / 4096, image = (2 << 20) / 4096;

	REQUIRE(!run_command(save, node, work_dir(), "copy0", 0));
	REQUIRE(!run_command(save, node, work_dir(), "copy1", second));
	/* The second copy has the state before "two" was added. */
	overwrite(200, "damage");
	CHECK(refused("two", "no image 'two'"));
	CHECK_EQ(mount_image("one", one), 0);
	is_image(one, "one");
	CHECK(!umount(one));
	removed_in_time();
	overwrite(200, "damage");
	overwrite((1 << 20) + 200, "damage");
	CHECK(refused("one", "no copy of the catalogue is whole"));
	/* Another filesystem leaves the second copy as it is. */
	REQUIRE(!run_command(restore, node, work_dir(), "copy1", second));
	overwrite(0, "\\0\\0\\0\\0\\0\\0\\0\\0");
	CHECK(refused("one", "no catalogue, and so no image 'one'"));
	CHECK(refused(NULL, "no daxfs superblock"));
	REQUIRE(!run_command(restore, node, work_dir(), "copy0", 0));
	/* The superblock of another image at the place of "one". */
	REQUIRE(!run_command(restore, node, work_dir(), "three.img", image));
	CHECK(refused("one,check=none", "is not the one that was added to the catalogue"));
	REQUIRE(!run_command(restore, node, work_dir(), "one.img", image));
	CHECK_EQ(mount_image("one", one), 0);
	is_image(one, "one");
	CHECK(!umount(one));
}

POINT(at_once, "two images at once")
{
	struct stat first, second, again;

	REQUIRE(!mount_image("one", one));
	REQUIRE(!mount_image("two", two));
	is_image(one, "one");
	is_image(two, "two");
	/* Mounts of one image share a superblock. */
	REQUIRE(!mount_image("one", active));
	REQUIRE(!stat(one, &first) && !stat(two, &second) && !stat(active, &again));
	CHECK(first.st_dev == again.st_dev && first.st_dev != second.st_dev);
	CHECK(!umount(active));
	is_image(one, "one");
}

/* Return the value of a file in sysfs of the image on @dir. */
static const char *shown(const char *dir, const char *file)
{
	static char text[100];
	char path[100];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", sysfs_of(dir), file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	REQUIRE(fd >= 0);
	text[read(fd, text, sizeof(text) - 1)] = 0;
	text[strcspn(text, "\n")] = 0;
	close(fd);
	return text;
}

POINT(what_is_shown, "options, sysfs, remount")
{
	struct stat stat;
	char number[50];

	REQUIRE(!lstat(node, &stat));
	snprintf(number, sizeof(number), "block/%u:%u", major(stat.st_rdev), minor(stat.st_rdev));
	CHECK(!strcmp(shown(one, "device"), number) && !strcmp(shown(two, "device"), number));
	CHECK(!strcmp(shown(one, "offset"), "2097152"));
	CHECK(strcmp(shown(two, "offset"), "2097152"));
	CHECK_EQ(run_command("grep '%s daxfs ro,.*fsoffset=0x200000,fslength=0x6800000' /proc/mounts", one), 0);
	CHECK_EQ(run_command("daxfs catalog list --json %s | grep -c '\"mounted\": true' | grep -qx 2", node), 0);
	CHECK_EQ(mount(NULL, one, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	CHECK_EQ(mount(NULL, one, NULL, MS_REMOUNT | MS_RDONLY, "fsoffset=2M,fslength=0x6800000"), 0);
	CHECK_FAILS(mount(NULL, one, NULL, MS_REMOUNT | MS_RDONLY, "fsoffset=2M,fslength=4M"), EINVAL);
	CHECK_FAILS(mount(NULL, one, NULL, MS_REMOUNT | MS_RDONLY, "fsoffset=2M"), EINVAL);
	/* mount(8) passes the options to mount.daxfs. */
	CHECK_EQ(run_command("mount -o remount,image=one %s", one), 0);
	CHECK(run_command("mount -o remount,image=two %s", one));
	CHECK_EQ(run_command("mount -o remount %s", one), 0);
}

/* Parts that are mounted already, and invalid parts. */
POINT(parts, "parts of the device")
{
	struct stat first, again;

	REQUIRE(!mount_part(2 << 20, 0x6800000, active));
	REQUIRE(!stat(one, &first) && !stat(active, &again));
	CHECK(first.st_dev == again.st_dev);
	CHECK(!umount(active));
	CHECK_EQ(mount_part(2 << 20, 4 << 20, active), EBUSY);
	CHECK_EQ(mount_part(4 << 20, 2 << 20, active), EBUSY);
	CHECK_EQ(mount_part(0, 512 << 20, active), EINVAL);
	CHECK_EQ(mount_part(0, 2 << 20, active), EMEDIUMTYPE);
	is_image(one, "one");
}

/* Others cannot use the device at the same time. */
POINT(no_others, "the device is in use")
{
	char command[PATH_MAX + 100];

	snprintf(command, sizeof(command), "daxfs write --force %s/one.img %s 2>&1", work_dir(), node);
	CHECK(fails_with(command, "is in use"));
	snprintf(command, sizeof(command), "daxfs catalog init --force %s 2>&1", node);
	CHECK(fails_with(command, "is in use; unmount it"));
	is_image(one, "one");
}

POINT(activated, "activate, and roll back")
{
	REQUIRE(!run_command("daxfs catalog activate %s one", node));
	REQUIRE(!mount_image(NULL, active));
	is_image(active, "one");
	REQUIRE(!run_command("daxfs catalog activate %s two", node));
	/* The mounts stay. */
	is_image(active, "one");
	CHECK(!umount(active));
	REQUIRE(!mount_image(NULL, active));
	is_image(active, "two");
	is_image(one, "one");
	CHECK(!umount(active));
	/* Roll back. */
	REQUIRE(!run_command("daxfs catalog activate %s one", node));
	REQUIRE(!mount_image(NULL, active));
	is_image(active, "one");
	CHECK(!umount(active));
}

POINT(space_of_removed, "remove, and use the space again")
{
	char command[PATH_MAX + 100];
	char *mapped;
	int fd;

	REQUIRE(!run_command("daxfs catalog activate %s two", node));
	REQUIRE(!run_command("daxfs catalog remove %s one", node));
	CHECK(refused("one", "no image 'one'"));
	is_image(one, "one");
	/* There are two mounts of it. */
	REQUIRE(!mount(one, active, NULL, MS_BIND, NULL));
	snprintf(command, sizeof(command), "daxfs catalog add %s three %s/three.img 2>&1", node,
		 work_dir());
	CHECK(fails_with(command, "unmount the removed 'one'"));
	CHECK(!umount(one));
	CHECK(fails_with(command, "unmount the removed 'one'"));
	/* An open and mapped file keeps the image mounted after a lazy unmount. */
	fd = open_in(active, "large", O_RDONLY);
	mapped = map_large(active);
	CHECK(!umount2(active, MNT_DETACH));
	CHECK(fails_with(command, "unmount the removed 'one'"));
	CHECK(pattern_in_pages(mapped, LARGE, seed_of("one"), 0));
	munmap(mapped, LARGE);
	close(fd);
	REQUIRE(!add_image("three"));
	REQUIRE(!mount_image("three", one));
	is_image(one, "three");
	is_image(two, "two");
	CHECK(!strcmp(shown(one, "offset"), "2097152"));
}

/* The pages of an image stay in use after its last mount is gone. */
POINT(pinned, "pages in use after the last mount")
{
	struct iovec vector = { map_large(one), 16 * 4096 };
	int ends[2], error = 1;

	REQUIRE(!pipe(ends));
	REQUIRE(vmsplice(ends[1], &vector, 1, 0) > 0);
	munmap(vector.iov_base, LARGE);
	CHECK(!umount(one));
	/* Only their own image has to wait. */
	CHECK(refused("three", "another mount has some of these bytes"));
	CHECK_EQ(mount_image("two", active), 0);
	is_image(active, "two");
	CHECK(!umount(active));
	close(ends[0]);
	close(ends[1]);
	for (int tries = 0; error && tries < 100; tries++) {
		error = mount_image("three", one);
		usleep(50000);
	}
	REQUIRE(!error);
	is_image(one, "three");
}

/* Make a partition of the device that is the range of the image on @dir. Return its node. */
static const char *partition_of(const char *dir, int number)
{
	static char path[2][PATH_MAX];
	struct blkpg_partition partition = { .pno = number, .length = IMAGE_SIZE };
	struct blkpg_ioctl_arg argument = {
		.op = BLKPG_ADD_PARTITION, .datalen = sizeof(partition), .data = &partition,
	};
	int fd = open(node, O_RDONLY | O_CLOEXEC);

	partition.start = strtoll(shown(dir, "offset"), NULL, 10);
	REQUIRE(fd >= 0 && !ioctl(fd, BLKPG, &argument));
	close(fd);
	snprintf(path[number - 1], PATH_MAX, "%sp%d", node, number);
	for (int tries = 0; access(path[number - 1], F_OK) && tries < 100; tries++)
		usleep(20000);
	return path[number - 1];
}

static void remove_partition(int number)
{
	struct blkpg_partition partition = { .pno = number };
	struct blkpg_ioctl_arg argument = {
		.op = BLKPG_DEL_PARTITION, .datalen = sizeof(partition), .data = &partition,
	};
	int fd = open(node, O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0 && !ioctl(fd, BLKPG, &argument));
	close(fd);
}

/* Partitions of one device are mounted at once, and not together with the images that are there. */
POINT(partitions, "partitions at the same places")
{
	const char *first = partition_of(one, 1), *second = partition_of(two, 2);

	CHECK_FAILS(mount(first, active, "daxfs", 0, NULL), EBUSY);
	CHECK(!umount(one));
	CHECK(!umount(two));
	REQUIRE(!mount(first, one, "daxfs", 0, NULL));
	REQUIRE(!mount(second, two, "daxfs", 0, NULL));
	is_image(one, "three");
	is_image(two, "two");
	CHECK(refused("three", "another mount has some of these bytes"));
	CHECK(!umount(one));
	CHECK(!umount(two));
	remove_partition(1);
	remove_partition(2);
	REQUIRE(!mount_image("three", one));
	REQUIRE(!mount_image("two", two));
}

/* Mount, read and unmount the active image, until killed. */
static int use_active(void *dir)
{
	for (;;) {
		const char *name;

		if (mount_image(NULL, dir))
			return 1;
		name = name_on(dir);
		if (strcmp(name, "two") && strcmp(name, "three"))
			return 2;
		if (umount(dir))
			return 3;
	}
}

POINT(while_it_changes, "mounts while the catalogue changes")
{
	pid_t users[] = { background(use_active, more), background(use_active, active) };
	int rounds = repeats(24);

	for (int i = 0; i < rounds; i++)
		CHECK_EQ(run_command("daxfs catalog activate %s %s", node, i % 2 ? "two" : "three"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
		kill(users[i], SIGKILL);
		CHECK_EQ(reaped("a user", users[i]), SIGKILL);
	}
	umount(active);
	umount(more);
	is_image(one, "three");
	is_image(two, "two");
}

#define SMALL_IMAGES 16

/* Add an image called small-@number, which says that, at a free place. */
static void add_small(const char *number)
{
	REQUIRE(!run_command("cd %s && mkdir -p small.tree && printf %s >small.tree/name && mkdaxfs --quiet --force --padding 4K small.tree small.img && daxfs catalog add %s small-%s small.img",
			     work_dir(), number, node, number));
}

/* Check that the image on @dir says @number, by reads and by a mapping. Return its place. */
static long long place_of_small(const char *dir, const char *number)
{
	int fd = open_in(dir, "name", O_RDONLY);
	char *mapped = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

	REQUIRE(mapped != MAP_FAILED);
	CHECK(!strcmp(name_on(dir), number));
	CHECK(!strcmp(mapped, number));
	munmap(mapped, 4096);
	close(fd);
	return strtoll(shown(dir, "offset"), NULL, 10);
}

POINT(small_images, "small images share 2 MiB")
{
	long long first, second;
	char number[16];

	for (int i = 0; i < SMALL_IMAGES; i++) {
		snprintf(number, sizeof(number), "%d", i);
		add_small(number);
	}
	REQUIRE(!mount_image("small-0", active) && !mount_image("small-1", more));
	first = place_of_small(active, "0");
	second = place_of_small(more, "1");
	CHECK(first < second && first / HUGE_SIZE == second / HUGE_SIZE);
	/* A mounted image keeps its place, and not its neighbour's. */
	REQUIRE(!run_command("daxfs catalog remove %s small-0 && daxfs catalog remove %s small-1", node, node));
	CHECK(!umount(active));
	add_small("new");
	REQUIRE(!mount_image("small-new", active));
	CHECK_EQ(place_of_small(active, "new"), first);
	CHECK_EQ(place_of_small(more, "1"), second);
	CHECK(!umount(active));
	add_small("newer");
	REQUIRE(!mount_image("small-newer", active));
	CHECK(place_of_small(active, "newer") > second);
	CHECK_EQ(place_of_small(more, "1"), second);
	/* Larger images have their alignment. */
	is_image(one, "three");
	CHECK_EQ(strtoll(shown(one, "offset"), NULL, 10) % HUGE_SIZE, 0);
	CHECK_EQ(strtoll(shown(two, "offset"), NULL, 10) % HUGE_SIZE, 0);
	CHECK(!umount(active) && !umount(more));
	REQUIRE(!run_command("daxfs catalog list --json %s | grep -o 'small-[^\"]*' | while read -r name; do daxfs catalog remove %s $name; done",
			     node, node));
}

/* The kernel may signal processes that map a page whose memory fails. */
static void on_sigbus(int signal)
{
}

POINT(memory_fails, "memory of one image fails")
{
	static const struct source pmem = { .name = "pmem", .pages = true };
	size_t bad = 5 * HUGE_SIZE + 3 * 4096;
	char *mapped = map_large(one), *other = map_large(two), byte;
	int fd = open_in(one, "large", O_RDONLY);
	int error;

	signal(SIGBUS, on_sigbus);
	error = page_inject(&pmem, mapped + bad, false);
	if (error)
		SKIP("the kernel cannot make this memory fail (%s)", strerror(error));
	CHECK(gets_sigbus(mapped + bad));
	CHECK(!gets_sigbus(mapped + bad - 4096));
	CHECK_FAILS(pread(fd, &byte, 1, bad), EIO);
	/* The other image is at the same place, but for its start. */
	CHECK(!gets_sigbus(other + bad));
	is_image(two, "two");
	CHECK_EQ(counter_of(two, "errors_io"), 0);
	CHECK(counter_of(one, "errors_io") > 0);
	munmap(mapped, LARGE);
	munmap(other, LARGE);
	close(fd);
	/* It stays so after the next mount. */
	CHECK(!umount(one));
	REQUIRE(!mount_image("three", one));
	fd = open_in(one, "large", O_RDONLY);
	CHECK_FAILS(pread(fd, &byte, 1, bad), EIO);
	CHECK_EQ(pread(fd, &byte, 1, bad - 1), 1);
	close(fd);
}

/* Map, read and pin until the device is gone. */
static int use_files(void *dir)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/large", (char *)dir);
	for (;;) {
		int fd = open(path, O_RDONLY | O_CLOEXEC), ends[2];
		struct iovec vector;
		char *address, byte;

		if (fd < 0)
			return errno != EIO;
		if (pread(fd, &byte, 1, 100) != 1)
			return errno != EIO;
		address = mmap(NULL, LARGE, PROT_READ, MAP_SHARED, fd, 0);
		if (address == MAP_FAILED || pipe(ends))
			return 2;
		vector = (struct iovec){ address, 16 * 4096 };
		if (vmsplice(ends[1], &vector, 1, SPLICE_F_NONBLOCK) < 0 && errno != EFAULT)
			return 3;
		touch_pages(address, 4 * HUGE_SIZE, 65536);
		close(ends[0]);
		close(ends[1]);
		munmap(address, LARGE);
		close(fd);
	}
}

/* Read a byte of a file, which may be in caches. Return 1, or -1 with the error in errno. */
static int read_byte(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), length;
	char byte;

	if (fd < 0)
		return -1;
	length = pread(fd, &byte, 1, 0);
	close(fd);
	return length;
}

POINT(device_goes, "the device goes away under load")
{
	int rounds = repeats(5);

	for (int i = 0; i < rounds; i++) {
		pid_t users[4], unbinding;
		char path[PATH_MAX + 16];

		for (size_t n = 0; n < ARRAY_SIZE(users); n++)
			users[n] = background_user(use_files, n % 2 ? one : two);
		rest(0.02 + rand() % 60 / 1000.0);
		unbinding = begin_unbind(&device);
		for (size_t n = 0; n < ARRAY_SIZE(users); n++) {
			int status = reaped("a user of the device", users[n]);

			if (!CHECK(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS)))
				printf("# user %zu: status %#x\n", n, status);
		}
		CHECK_EQ(reaped("unbind", unbinding), 0);
		snprintf(path, sizeof(path), "%s/name", i % 2 ? one : two);
		CHECK_FAILS(read_byte(path), EIO);
		CHECK_EQ(bounded_umount(one), 0);
		CHECK_EQ(bounded_umount(two), 0);
		REQUIRE(device_bind(&device));
		REQUIRE(!mount_image("three", one));
		REQUIRE(!mount_image(NULL, two));
	}
	CHECK(!strcmp(name_on(one), "three"));
	CHECK_EQ(bounded_umount(one), 0);
	/* The last one gives the device back. */
	CHECK_EQ(bounded_umount(two), 0);
	CHECK_EQ(run_command("daxfs write --force %s/three.img %s", work_dir(), node), 0);
	CHECK(refused("three", "no catalogue, and so no image 'three'"));
	CHECK_EQ(mount_image(NULL, one), 0);
	CHECK(!strcmp(name_on(one), "three"));
	CHECK_EQ(bounded_umount(one), 0);
}

static void find_device(void)
{
	char link[PATH_MAX + 16], path[PATH_MAX];

	snprintf(link, sizeof(link), "/sys/class/block/%s/device", strrchr(node, '/') + 1);
	REQUIRE(realpath(link, path));
	snprintf(device.name, sizeof(device.name), "%.255s", strrchr(path, '/') + 1);
	snprintf(link, sizeof(link), "%s/driver", path);
	REQUIRE(realpath(link, device.driver));
	device.node = node;
}

int main(void)
{
	const char *base;

	node = fixture_device("scratch");
	base = private_mount_point();
	if (mount("none", base, "tmpfs", 0, "mode=755"))
		return KTAP_FAIL;
	snprintf(one, sizeof(one), "%s/one", base);
	snprintf(two, sizeof(two), "%s/two", base);
	snprintf(active, sizeof(active), "%s/active", base);
	snprintf(more, sizeof(more), "%s/more", base);
	if (mkdir(one, 0755) || mkdir(two, 0755) || mkdir(active, 0755) || mkdir(more, 0755))
		return KTAP_FAIL;
	device_init();
	find_device();
	make_image("one");
	make_image("two");
	make_image("three");
	return ktap_run();
}
