// SPDX-License-Identifier: GPL-2.0-only
/* One use of an image that may be damaged. */
#include <sched.h>
#include <sys/prctl.h>

#include "device.h"
#include "mutator.h"
#include "round.h"

/* The exit status of a process whose mount was refused. */
#define REFUSED 9
#define BLOCK 4096
/* A round ends within so many times the limit of one call. */
#define LIMITS 20

const char *round_mnt;
struct image round_image;

void round_init(const struct image *image)
{
	size_t size = (image->size + 2 * HUGE_SIZE - 1) & ~(HUGE_SIZE - 1);

	round_mnt = private_mount_point();
	round_image.size = size;
	round_image.bytes = malloc(size);
	round_image.super = (struct superblock *)round_image.bytes;
	memcpy(round_image.bytes, image->bytes, image->size);
	marker_fill(round_image.bytes + image->size, size - image->size);
	damage_init(&round_image);
}

/* Write the first @length bytes of an image to a device, past the cache of the block device. */
static void write_start(const char *device, const char *bytes, size_t length)
{
	static char block[BLOCK] __attribute__((aligned(BLOCK)));
	int fd = open(device, O_WRONLY | O_DIRECT | O_CLOEXEC);

	REQUIRE(fd >= 0);
	for (size_t at = 0; at < length; at += BLOCK) {
		memcpy(block, bytes + at, BLOCK);
		REQUIRE(pwrite(fd, block, BLOCK, at) == BLOCK);
	}
	close(fd);
}

void round_fill(const char *door)
{
	write_start(door, round_image.bytes, round_image.size);
}

bool round_changes(const char *door, double seconds)
{
	static char block[BLOCK] __attribute__((aligned(BLOCK)));
	int fd = open(door, O_RDONLY | O_DIRECT | O_CLOEXEC);
	double end = now() + seconds;
	bool changed = false;

	REQUIRE(fd >= 0);
	while (!changed && now() < end) {
		for (size_t at = 0; !changed && at < round_image.super->data.offset; at += BLOCK) {
			REQUIRE(pread(fd, block, BLOCK, at) == BLOCK);
			changed = memcmp(block, round_image.bytes + at, BLOCK);
		}
		usleep(10000);
	}
	close(fd);
	return changed;
}

/*
 * Put @image into the memory of @round. Return what source_context() takes. *@bytes is where the memory
 * can be written to, or NULL.
 */
static int make_memory(const struct round *round, const struct image *image, char **bytes)
{
	struct superblock all = { .total_size = image->size };
	/* Make room for the whole image, whatever its superblock says. */
	const struct image whole = { .bytes = image->bytes, .size = image->size, .super = &all };
	int fd, owner;

	*bytes = NULL;
	if (round->door) {
		/* Nothing changes the data. */
		write_start(round->door, image->bytes, round_image.super->data.offset);
		return 0;
	}
	fd = source_make_owned(round->source, &whole, &owner);
	if (fd < 0)
		SKIP("%s", source_missing);
	if (owner >= 0) {
		*bytes = mmap(NULL, image->size, PROT_READ | PROT_WRITE, MAP_SHARED, owner, 0);
		REQUIRE(*bytes != MAP_FAILED);
		close(owner);
	}
	return fd;
}

static int new_context(const struct round *round, int fd)
{
	int context = source_context(round->source, fd);

	REQUIRE(!round->lazy || !context_options(context, "digest=%s,verify=lazy", image_digest(&round_image)));
	REQUIRE(!round->unchecked || !context_options(context, "check=none"));
	return context;
}

/* A mount in a separate process, which may hang. */
struct attempt {
	const struct round *round;
	int fd;
};

/* One that may fail anywhere, and whatever it has made goes away. */
static int do_starved_mount(void *argument)
{
	const struct attempt *attempt = argument;
	int context = new_context(attempt->round, attempt->fd);

	if (!starve(true))
		return KTAP_FAIL;
	context_set(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (!starve(false))
		return KTAP_FAIL;
	close(context);
	return KTAP_PASS;
}

static int do_mount(void *argument)
{
	const struct attempt *attempt = argument;

	return context_mount(new_context(attempt->round, attempt->fd), round_mnt) ? 0 : REFUSED;
}

/* Mount @image. Return false if it is refused. *@bytes is where it can be written to, or NULL. */
static bool mount_damaged(const struct round *round, const struct image *image, char **bytes)
{
	struct attempt attempt = { round, make_memory(round, image, bytes) };
	int status;

	if (round->starving && !round->fed_mount)
		REQUIRE(bounded("a mount whose allocations fail", do_starved_mount, &attempt) == KTAP_PASS);
	status = bounded("mount", do_mount, &attempt);
	if (attempt.fd > 0)
		close(attempt.fd);
	REQUIRE(!status || status == REFUSED);
	return !status;
}

/* Write to the memory as another kernel or a device might, until the process is killed. */
static pid_t start_writer(const struct round *round, char *bytes)
{
	u64 length = round_image.super->data.offset;
	struct image image = { .bytes = bytes };
	pid_t pid = fork();

	REQUIRE(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!bytes)
		image = image_copy(&round_image);
	for (unsigned int i = 0;; i++) {
		damage_anywhere(&image, round->number, i, 0, length);
		/* Restore some, so that not all of the tree is lost. */
		if (i % 2)
			memcpy(image.bytes, round_image.bytes, length);
		if (!bytes)
			write_start(round->door, image.bytes, length);
		usleep(50);
	}
}

static pid_t start_disturbance(const struct round *round)
{
	pid_t pid = fork();

	REQUIRE(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGBUS, SIG_DFL);
	round->disturb(round);
	fflush(stdout);
	_exit(ktap_point->failed);
}

/* Return true if a walker may end like this. */
static bool may_end(const struct round *round, int status)
{
	int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	return round->deadly && (signal == SIGKILL || signal == SIGSEGV || signal == SIGBUS);
}

static void use_in_child(const struct round *round, const struct image *image)
{
	struct walk walk = {
		.dir = round_mnt,
		.steps = round->steps,
		.starving = round->starving,
		.counts = round->counts,
	};
	pid_t pids[WALKERS], writer = -1, disturbance = -1;
	char *bytes;

	REQUIRE(!unshare(CLONE_NEWNS));
	if (!mount_damaged(round, image, &bytes))
		_exit(ktap_point->failed ? KTAP_FAIL : REFUSED);
	if (round->written)
		writer = start_writer(round, bytes);
	for (int i = 0; i < WALKERS; i++) {
		walk.seed = round->number * WALKERS + i;
		pids[i] = walker_start(&walk, i);
	}
	if (round->disturb)
		disturbance = start_disturbance(round);
	for (int i = 0; i < WALKERS; i++) {
		int status = walker_end(&walk, i, pids[i]);

		if (status && !may_end(round, status))
			CHECK_EQ(status, 0);
	}
	if (disturbance > 0) {
		int status = reaped("a disturbance", disturbance);

		/* It may take all memory, or load from a page that has failed. */
		if (!WIFSIGNALED(status) || (WTERMSIG(status) != SIGKILL && WTERMSIG(status) != SIGBUS))
			CHECK_EQ(status, 0);
	}
	if (writer > 0)
		kill(writer, SIGKILL);
	CHECK_EQ(bounded_umount_when_free(round_mnt), 0);
	fflush(stdout);
	_exit(ktap_point->failed);
}

enum round_result round_run(const struct round *round)
{
	struct image image = image_copy(&round_image);
	int status;
	pid_t pid;

	if (round->damaged)
		damage(&image, round->number);
	fflush(stdout);
	pid = fork();
	REQUIRE(pid >= 0);
	if (!pid)
		use_in_child(round, &image);
	status = ends_within(pid, LIMITS * limit());
	image_free(&image);
	if (status == -1) {
		printf("# round %llu has not ended\n", round->number);
		print_stack(pid);
		kill(pid, SIGKILL);
		ktap_point->failed = true;
		return ROUND_FAILED;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == REFUSED)
		return ROUND_REFUSED;
	if (WIFEXITED(status) && WEXITSTATUS(status) == KTAP_SKIP)
		_exit(KTAP_SKIP);
	if (CHECK_EQ(status, 0))
		return ROUND_USED;
	printf("# in round %llu\n", round->number);
	return ROUND_FAILED;
}
