// SPDX-License-Identifier: GPL-2.0-only
/*
 * Damaged images in memory of several kinds, each used by several processes at once, and memory that
 * is written to meanwhile. Whatever the bytes say, all calls end, and no byte after the image is seen.
 *
 * Group: modules
 * Order: 5
 * Machine: cpus=2 virtio-pmem=scratch
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <linux/mount.h>
#include <linux/udmabuf.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "corrupt.h"
#include "device.h"
#include "ktap.h"
#include "source.h"
#include "walker.h"

#define WALKERS 3
/* The exit status of a process whose mount was refused. */
#define REFUSED 9
/* What a process does with one image. */
#define STEPS 40

/* Memory for one image, and whether it can be written to while it is mounted. */
enum kind { MEMFD, UDMABUF, PMEM };

/* The image with room for MARKER after it. */
static struct image padded;

/* Numbers for the damage of a round. */
static u64 draw(u64 round, unsigned int index, u64 limit)
{
	u64 number;

	pattern_fill(&number, sizeof(number), 7000 + round, index * sizeof(number));
	return number % limit;
}

/* Return a value that checks of @size bytes and tables of them are likely to get wrong. */
static u64 nasty(u64 round, unsigned int index, u64 size)
{
	const u64 values[] = {
		0, 1, 2, 0x7f, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, ~0ULL >> 1,
		1ULL << 63, ~0ULL, size, size - 1, size + 1, size - 4096, size & ~4095ULL, size / 2,
	};

	return values[draw(round, index, ARRAY_SIZE(values))];
}

/* The fields of a record: where each starts, and after the last one where the record ends. */
static const u8 inode_fields[] = { 0, 2, 4, 8, 12, 16, 24, 32, 36, 40, 48, 52, 56, 60, 64 };
static const u8 dirent_fields[] = { 0, 4, 8, 12, 14, 15, 16 };

/* Give a field of @size bytes at @at another value. */
static void damage_field(struct image *image, u64 round, unsigned int index, u64 at, u64 size)
{
	u64 value;

	if (at + size > good.size)
		return;
	if (draw(round, index + 2, 2)) {
		value = nasty(round, index + 3, good.size);
	} else {
		value = 0;
		memcpy(&value, image->bytes + at, size);
		value += 1 - 2 * (s64)draw(round, index + 3, 2);
	}
	memcpy(image->bytes + at, &value, size);
}

/* Damage a field of 1, 2, 4 or 8 bytes at a multiple of its size. */
static void damage_anywhere(struct image *image, u64 round, unsigned int index, u64 from, u64 length)
{
	unsigned int size = 1 << draw(round, index, 4);
	u64 at = (from + draw(round, index + 1, length)) & ~(u64)(size - 1);

	damage_field(image, round, index, at, size);
}

/* Damage a field of a random record of a table. */
static void damage_record(struct image *image, u64 round, unsigned int index, struct extent table,
			  const u8 fields[], size_t count)
{
	u64 length = fields[count - 1], field = draw(round, index, count - 1);
	u64 record = table.offset + draw(round, index + 1, table.length / length) * length;

	damage_field(image, round, index, record + fields[field], fields[field + 1] - fields[field]);
}

/* Have a file end near the end of the image: a page before it, at it, or after it. */
static void damage_end(struct image *image, u64 round, unsigned int index)
{
	u64 inodes = good.super->inodes.length / sizeof(struct inode);
	struct inode *inode = image_inode(image, 1 + draw(round, index, inodes));

	inode->size = good.super->total_size - inode->data - 4096 + draw(round, index + 1, 3) * 4096 +
		      draw(round, index + 2, 3) - 1;
}

/* Damage the copy of the image: one to twelve fields, most of them in the tables. */
static void damage(struct image *image, u64 round)
{
	const struct superblock *super = good.super;
	u64 count = 1 + draw(round, 0, 12);

	for (unsigned int i = 0; i < count; i++) {
		unsigned int index = 10 + 10 * i;

		switch (draw(round, index, 8)) {
		case 0 ... 2:
			damage_record(image, round, index + 1, super->inodes, inode_fields,
				      ARRAY_SIZE(inode_fields));
			break;
		case 3 ... 4:
			damage_record(image, round, index + 1, super->dirents, dirent_fields,
				      ARRAY_SIZE(dirent_fields));
			break;
		case 5:
			damage_end(image, round, index + 1);
			break;
		case 6:
			damage_anywhere(image, round, index + 1, sizeof(*super),
					super->data.offset - sizeof(*super));
			break;
		case 7:
			/* The superblock, but not often: few of these images can be mounted. */
			if (!draw(round, index + 1, 4))
				damage_anywhere(image, round, index + 2, 0, sizeof(*super));
			break;
		}
	}
	/* Some keep a wrong checksum, which the mount must then refuse. */
	if (draw(round, 1, 20))
		image_seal(image);
}

/* Create a memfd with @image. Return its descriptor; *@bytes is a mapping of it that can be written to. */
static int memfd_of(const struct image *image, int seals, char **bytes)
{
	int fd = memfd_create("damaged", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	REQUIRE(fd >= 0 && !ftruncate(fd, image->size));
	*bytes = mmap(NULL, image->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	REQUIRE(*bytes != MAP_FAILED);
	memcpy(*bytes, image->bytes, image->size);
	if (seals & F_SEAL_WRITE)
		munmap(*bytes, image->size);
	REQUIRE(!fcntl(fd, F_ADD_SEALS, seals));
	return fd;
}

/* Create a dma-buf with @image, of pages that can be written to at *@bytes. */
static int udmabuf_of(const struct image *image, char **bytes)
{
	int memfd = memfd_of(image, F_SEAL_SHRINK, bytes);
	int maker = open("/dev/udmabuf", O_RDWR | O_CLOEXEC), fd;
	struct udmabuf_create create = {
		.memfd = memfd,
		.flags = UDMABUF_FLAGS_CLOEXEC,
		.size = image->size,
	};

	if (maker < 0)
		SKIP("needs udmabuf");
	fd = ioctl(maker, UDMABUF_CREATE, &create);
	REQUIRE(fd >= 0);
	close(maker);
	close(memfd);
	return fd;
}

/* Mount @image. Return false if it is refused. *@bytes is where it can be written to. */
static bool mount_damaged(const struct image *image, enum kind kind, char **bytes)
{
	int context = syscall(SYS_fsopen, "daxfs", FSOPEN_CLOEXEC), fd = -1;

	*bytes = NULL;
	REQUIRE(context >= 0);
	switch (kind) {
	case PMEM:
		image_write(image, device);
		REQUIRE(!context_set(context, FSCONFIG_SET_STRING, "source", device, 0));
		break;
	case MEMFD:
		fd = memfd_of(image, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW, bytes);
		*bytes = NULL;
		REQUIRE(!context_set(context, FSCONFIG_SET_FD, "memfd", NULL, fd));
		break;
	case UDMABUF:
		fd = udmabuf_of(image, bytes);
		REQUIRE(!context_set(context, FSCONFIG_SET_FD, "dmabuf", NULL, fd));
		break;
	}
	if (fd >= 0)
		close(fd);
	return context_mount(context, mnt);
}


static pid_t start_walker(u64 seed, int number)
{
	pid_t pid = fork();

	REQUIRE(pid >= 0);
	if (pid)
		return pid;
	/* The first is root, for handles of files; a user gets no rights from damaged programs. */
	if (number)
		REQUIRE(!setgroups(0, NULL) && !setresgid(1000 + number, 1000 + number, 1000 + number) &&
			!setresuid(1000 + number, 1000 + number, 1000 + number));
	REQUIRE(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	walk_at_random(mnt, seed * WALKERS + number, STEPS);
	fflush(stdout);
	_exit(ktap_point->failed);
}

/* Print where in the kernel @pid is. */
static void print_stack(pid_t pid)
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

/* Write to @bytes as another kernel or a device might, until the walkers have ended. */
static pid_t start_writer(char *bytes, u64 round)
{
	pid_t pid = fork();
	u64 length = good.super->data.offset;

	REQUIRE(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned int i = 0;; i++) {
		struct image image = { .bytes = bytes, .super = (void *)bytes, .size = padded.size };

		damage_anywhere(&image, round, i, 0, length);
		/* Restore some, so that not all of the tree is lost. */
		if (i % 2)
			memcpy(bytes, good.bytes, length);
		usleep(50);
	}
}

static void use_in_child(const struct image *image, enum kind kind, u64 round, bool live)
{
	pid_t pids[WALKERS], writer = -1;
	char *bytes;

	REQUIRE(!unshare(CLONE_NEWNS));
	if (!mount_damaged(image, kind, &bytes))
		_exit(ktap_point->failed ? KTAP_FAIL : REFUSED);
	if (live)
		writer = start_writer(bytes, round);
	for (int i = 0; i < WALKERS; i++)
		pids[i] = start_walker(round, i);
	for (int i = 0; i < WALKERS; i++) {
		int status = ends_within(pids[i], limit());

		if (!CHECK_EQ(status, 0) && status == -1) {
			printf("# walker %d has not ended\n", i);
			print_stack(pids[i]);
		}
	}
	if (writer > 0)
		kill(writer, SIGKILL);
	CHECK_EQ(bounded_umount(mnt), 0);
	fflush(stdout);
	_exit(ktap_point->failed);
}

/* Use a quarter of DAXFS_ROUNDS images or of 300, and at least one. */
static void rounds(enum kind kind, bool live)
{
	const char *wanted = getenv("DAXFS_ROUNDS");
	u64 all = wanted ? strtoull(wanted, NULL, 0) : (u64)repeats(300);
	u64 count = all < 4 ? 1 : all / 4;
	u64 first = kind * 1000000 + live * 500000, refused = 0;

	for (u64 round = first; round < first + count; round++) {
		struct image image = image_copy(&padded);
		int status;
		pid_t pid;

		if (!live || draw(round, 2, 4))
			damage(&image, round);
		fflush(stdout);
		pid = fork();
		if (!pid)
			use_in_child(&image, kind, round, live);
		waitpid(pid, &status, 0);
		image_free(&image);
		if (WIFEXITED(status) && WEXITSTATUS(status) == REFUSED) {
			refused++;
		} else if (!CHECK_EQ(status, 0)) {
			printf("# in round %llu\n", round);
			return;
		}
	}
	printf("# %llu images, %llu of them refused\n", count, refused);
	/* A few images say nothing about their share. */
	CHECK(count < 4 || refused < count * 3 / 4);
}

static void in_memfd(void)
{
	rounds(MEMFD, false);
}

static void in_udmabuf(void)
{
	rounds(UDMABUF, false);
}

static void in_pmem(void)
{
	rounds(PMEM, false);
}

static void written_meanwhile(void)
{
	rounds(UDMABUF, true);
}

int main(void)
{
	static const struct ktap_test tests[] = {
		{ "a sealed memfd", in_memfd },
		{ "a dma-buf", in_udmabuf },
		{ "persistent memory", in_pmem },
		{ "a dma-buf that is written to meanwhile", written_meanwhile },
	};

	corrupt_init();
	device_init();
	padded.size = (good.size + 2 * HUGE_SIZE - 1) & ~(HUGE_SIZE - 1);
	padded.bytes = malloc(padded.size);
	padded.super = (struct superblock *)padded.bytes;
	memcpy(padded.bytes, good.bytes, good.size);
	marker_fill(padded.bytes + good.size, padded.size - good.size);
	return ktap_run(tests, ARRAY_SIZE(tests));
}
