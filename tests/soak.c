// SPDX-License-Identifier: GPL-2.0-only
/*
 * Damaged images on each kind of memory, while somebody else writes to it, or memory is short; also mounted by a user, in
 * a user namespace. In the test storm memory fails and is removed. DAXFS_SECONDS is the time that it takes, DAXFS_MOUNTS
 * the number of mounts, and DAXFS_SEED chooses what is random.
 *
 * Group: storm
 * Order: 6
 * Machine: cpus=2 memory=2048 nvdimm=scratch
 */
#include <grp.h>
#include <sched.h>
#include <sys/prctl.h>

#include "lib/device.h"
#include "lib/mutator.h"
#include "lib/walker.h"

#define WALKERS 3
#define BLOCK 4096
/* The exit status of a process if its mount was refused. */
#define REFUSED 9
/* A round ends within so many times the limit of one call. */
#define LIMITS 20
/* Share of allocations that fail, in percent, and how many fail at most. */
#define STARVED_PERCENT "2"
#define STARVED_MAX 1000000000

enum event { QUIET, WRITTEN, PRESSED, STARVED, EVENTS };

static const char *const event_names[EVENTS] = {
	"left alone", "written to by a thread", "memory is short", "allocations fail",
};

/* In so many mounts, each of these happens to each kind of memory. */
#define CYCLE (ARRAY_SIZE(kinds) * EVENTS)

/* One of each kind of memory: others can write to all but the last two, of which a user mounts the second. */
static const struct source *kinds[4];
#define SEALED 2
#define OF_USER 3

/* Counts of events, in shared memory. */
struct figures {
	u64 steps[WALKERS], shortages, lazy, used[ARRAY_SIZE(kinds)][EVENTS], refused;
};

static struct figures *figures;
static const char *device;
static bool can_starve;

/* Where images are mounted, and the image before any damage, with memory after it that belongs to no file. */
static const char *mnt;
static struct image good;

/* An image that may be damaged is mounted, used by several processes, and unmounted. */
static struct round {
	/* All that is random depends on this. */
	u64 number;
	const struct source *kind;
	/* A user mounts it. */
	bool of_user;
	enum event event;
	bool damaged;
	/* Mount without comparing the checksum of the metadata. */
	bool unchecked;
	/* Mount with verify=lazy. */
	bool lazy;
} this;

static bool set(const char *directory, const char *file, const char *text)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", directory, file);
	return write_text(path, "%s", text);
}

/* ---- memory ------------------------------------------------------------------------------------- */

/* Write the first @length bytes of an image to the device, past the cache of the block device. */
static void write_start(const char *bytes, size_t length)
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

/* Put @image into memory. Return what source_context() takes. *@bytes is where the memory can be written to, or NULL. */
static int make_memory(const struct image *image, char **bytes)
{
	struct superblock all = { .total_size = image->size };
	/* Make room for the whole image, whatever its superblock says. */
	const struct image whole = { .bytes = image->bytes, .size = image->size, .super = &all };
	int fd, owner;

	*bytes = NULL;
	if (!this.kind->key) {
		/* Nothing changes the data. */
		write_start(image->bytes, good.super->data.offset);
		return 0;
	}
	fd = source_make_owned(this.kind, &whole, &owner);
	if (fd < 0)
		SKIP("%s", source_missing);
	if (owner >= 0) {
		*bytes = mmap(NULL, image->size, PROT_READ | PROT_WRITE, MAP_SHARED, owner, 0);
		REQUIRE(*bytes != MAP_FAILED);
		close(owner);
	}
	return fd;
}

static int new_context(int memory)
{
	int context = source_context(this.kind, memory);

	REQUIRE(!this.lazy || !context_options(context, "digest=%s,verify=lazy", image_digest(&good)));
	REQUIRE(!this.unchecked || !context_options(context, "check=none"));
	return context;
}

/* Mount a descriptor, or 0, in a separate process, which may hang. Allocations fail, and whatever was made goes away. */
static int do_starved_mount(void *argument)
{
	int context = new_context(*(int *)argument);

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
	return context_mount(new_context(*(int *)argument), mnt) ? 0 : REFUSED;
}

/* Mount @image. Return false if it is refused. *@bytes is where it can be written to, or NULL. */
static bool mount_damaged(const struct image *image, char **bytes)
{
	int memory = make_memory(image, bytes), status;

	/*
	 * To mount a dma-buf, the kernel maps it, and warns if that fails (dma_buf_vmap()), which the driver cannot prevent:
	 * spare these mounts.
	 */
	if (this.event == STARVED && source_is_device(this.kind))
		REQUIRE(bounded("a mount with failing allocations", do_starved_mount, &memory) == KTAP_PASS);
	status = bounded("mount", do_mount, &memory);
	if (memory > 0)
		close(memory);
	REQUIRE(!status || status == REFUSED);
	return !status;
}

/* ---- events of the memory ---------------------------------------------------------------------- */

/* Write to the memory as another kernel or a device might, at @argument unless that is NULL, until the process is killed. */
static int write_memory(void *argument)
{
	u64 length = good.super->data.offset;
	struct image image = argument ? (struct image){ .bytes = argument } : image_copy(&good);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned int i = 0; i < UINT_MAX; i++) {
		damage_anywhere(&image, this.number, i, 0, length);
		/* Restore some, so that not all of the tree is lost. */
		if (i % 2)
			memcpy(image.bytes, good.bytes, length);
		if (!argument)
			write_start(image.bytes, length);
		usleep(50);
	}
	return 0;
}

/* Take nearly all memory, for a moment, so that the kernel reclaims some. */
static int press(void *argument)
{
	const size_t chunk = 8 << 20;
	double end = now() + 3;

	write_text("/proc/self/oom_score_adj", "1000");
	while (now() < end && number_in("/proc/meminfo", "MemAvailable:") > 48 << 10) {
		char *address = mmap(NULL, chunk, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (address == MAP_FAILED)
			break;
		for (size_t at = 0; at < chunk; at += BLOCK)
			address[at] = 1;
	}
	shrink_caches(3);
	write_text("/proc/sys/vm/compact_memory", "1");
	figures->shortages++;
	return 0;
}

/* ---- allocations that fail --------------------------------------------------------------------- */

static const char *const failing[] = {
	"/sys/kernel/debug/failslab", "/sys/kernel/debug/fail_page_alloc",
};

/* Make allocations of processes that ask for it fail. Return false if the kernel cannot do that. */
static bool prepare_starvation(void)
{
	char max[20];

	snprintf(max, sizeof(max), "%d", STARVED_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(failing); i++) {
		if (!set(failing[i], "task-filter", "Y"))
			return false;
		set(failing[i], "verbose", "0");
		set(failing[i], "interval", "1");
		set(failing[i], "ignore-gfp-wait", "0");
		set(failing[i], "ignore-gfp-highmem", "0");
		set(failing[i], "min-order", "0");
		set(failing[i], "times", max);
		set(failing[i], "probability", STARVED_PERCENT);
	}
	return true;
}

static u64 allocations_failed(void)
{
	char path[100];
	u64 sum = 0;

	for (size_t i = 0; can_starve && i < ARRAY_SIZE(failing); i++) {
		snprintf(path, sizeof(path), "%s/times", failing[i]);
		sum += STARVED_MAX - number_in(path, "");
	}
	return sum;
}

/* ---- rounds ------------------------------------------------------------------------------------- */

/* Return true if a walker may end like this, for example because memory is short. */
static bool may_end(int status)
{
	int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	return (this.event == PRESSED || this.event == STARVED) && (signal == SIGKILL || signal == SIGSEGV || signal == SIGBUS);
}

/* Go to a user namespace that has IDs of users, and be its root. */
static void be_user(void)
{
	static const char *const maps[] = { "uid_map", "gid_map" };
	char path[100], byte;
	int ready[2];
	pid_t pid;

	REQUIRE(!pipe(ready));
	pid = fork();
	if (!pid) {
		REQUIRE(read(ready[0], &byte, 1) == 1);
		for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
			snprintf(path, sizeof(path), "/proc/%d/%s", getppid(), maps[i]);
			REQUIRE(write_text(path, "0 100000 65536"));
		}
		_exit(0);
	}
	REQUIRE(!unshare(CLONE_NEWUSER | CLONE_NEWNS) && write(ready[1], "", 1) == 1);
	REQUIRE(!reaped("a map of IDs", pid));
	REQUIRE(!setgroups(0, NULL) && !setresgid(0, 0, 0) && !setresuid(0, 0, 0) && !prctl(PR_SET_DUMPABLE, 1));
}

static void use_in_child(const struct image *image)
{
	struct walk walk = {
		.dir = mnt,
		.starving = this.event == STARVED,
		.steps = figures->steps,
	};
	pid_t pids[WALKERS], writer = -1, disturbance = -1;
	char *bytes;

	if (this.of_user)
		be_user();
	else
		REQUIRE(!unshare(CLONE_NEWNS));
	if (!mount_damaged(image, &bytes))
		_exit(ktap_point->failed ? KTAP_FAIL : REFUSED);
	if (this.event == WRITTEN)
		writer = background(write_memory, bytes);
	for (int i = 0; i < WALKERS; i++) {
		walk.seed = this.number * WALKERS + i;
		pids[i] = walker_start(&walk, i);
	}
	if (this.event == PRESSED)
		disturbance = background(press, NULL);
	for (int i = 0; i < WALKERS; i++) {
		int status = walker_end(&walk, i, pids[i]);

		if (status && !may_end(status))
			CHECK_EQ(status, 0);
	}
	if (disturbance > 0) {
		int status = reaped("a disturbance", disturbance);

		/* It may take all memory. */
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
			CHECK_EQ(status, 0);
	}
	if (writer > 0)
		kill(writer, SIGKILL);
	CHECK_EQ(bounded_umount_when_free(mnt), 0);
	fflush(stdout);
	_exit(ktap_point->failed);
}

enum result { ROUND_FAILED, ROUND_REFUSED, ROUND_USED };

static enum result run_round(void)
{
	struct image image = image_copy(&good);
	int status;
	pid_t pid;

	if (this.damaged)
		damage(&image, this.number);
	fflush(stdout);
	pid = fork();
	REQUIRE(pid >= 0);
	if (!pid)
		use_in_child(&image);
	status = ends_within(pid, LIMITS * limit());
	image_free(&image);
	if (status == -1) {
		printf("# round %llu has not ended\n", this.number);
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
	printf("# in round %llu\n", this.number);
	return ROUND_FAILED;
}

/* Nobody but root has allocations of a process fail. */
static bool possible(u64 kind, enum event event)
{
	return event == STARVED ? can_starve && kind != OF_USER : event != WRITTEN || kind < SEALED;
}

/*
 * Do a round with the kind of memory and the event of @slot: each event with each kind, then again.
 * All else that is random depends on @number. Set *@used if the image was mounted.
 */
static bool one_round(u64 number, u64 slot, bool *used)
{
	u64 which = slot % ARRAY_SIZE(kinds);
	const struct source *kind = kinds[which];
	enum event event = slot / ARRAY_SIZE(kinds) % EVENTS;
	enum result result;

	*used = false;
	if (!possible(which, event))
		event = QUIET;
	this = (struct round){ .number = number, .kind = kind, .of_user = which == OF_USER, .event = event,
			       .damaged = draw(number, 4, 8) };
	/* Most damaged images are mounted whatever their checksum is. */
	this.unchecked = this.damaged && draw(number, 5, 4);
	/* Half of the kinds of memory, and the others after the next CYCLE. */
	this.lazy = !this.damaged && (slot + slot / CYCLE) % 2 == 0;
	result = run_round();
	if (result == ROUND_FAILED) {
		printf("# %s%s: %s\n", this.of_user ? "a user's " : "", kind->name, event_names[event]);
		return false;
	}
	if (result == ROUND_REFUSED) {
		figures->refused++;
		return true;
	}
	*used = true;
	figures->lazy += this.lazy;
	figures->used[which][event]++;
	return true;
}

/* Print the figures of @images rounds and @seconds. */
static void print_figures(u64 images, double seconds)
{
	printf("# figures: %llu images in %.0f s, %llu refused, %llu with verify=lazy, %llu shortages, %llu allocations failed\n",
	       images, seconds, figures->refused, figures->lazy, figures->shortages, allocations_failed());
	fflush(stdout);
}

static u64 number_of(const char *name)
{
	return strtoull(getenv(name) ?: "0", NULL, 0);
}

/* Check that each round's events have happened. */
static void check_figures(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		for (int event = 0; event < EVENTS; event++) {
			if (!CHECK(figures->used[i][event] || !possible(i, event)))
				printf("# never: kind %zu, %s: %s\n", i, kinds[i]->name, event_names[event]);
		}
	}
	CHECK(figures->shortages);
	CHECK(allocations_failed() || !can_starve);
}

POINT(soak, "nothing goes wrong")
{
	u64 images = number_of("DAXFS_MOUNTS"), number = number_of("DAXFS_SEED") * 1000000000;
	double start = now(), seconds = number_of("DAXFS_SECONDS"), said = start;
	u64 slot = 0, done = 0;
	bool passed = true, used;

	/* Fewer would omit some events that check_figures() looks for. */
	if (images < CYCLE)
		images = CYCLE;
	while (passed && (now() < start + seconds || slot < images)) {
		/* An image that was refused proves nothing. */
		passed = one_round(number++, slot, &used) && CHECK(figures->refused < 3 * slot + 40);
		slot += used;
		done++;
		if (now() > said + 60) {
			said = now();
			print_figures(done, said - start);
		}
	}
	print_figures(done, now() - start);
	if (CHECK(passed))
		check_figures();
}

int main(void)
{
	static const char *const names[] = { "NVDIMM", "udmabuf", "memfd", "memfd" };
	struct image image;
	char path[PATH_MAX];

	setlinebuf(stdout);
	device = fixture_device("soak");
	snprintf(path, sizeof(path), "%s/soak.daxfs", work_dir());
	image = image_load(path);
	mnt = private_mount_point();
	good.size = (image.size + 2 * HUGE_SIZE - 1) & ~(HUGE_SIZE - 1);
	good.bytes = malloc(good.size);
	good.super = (struct superblock *)good.bytes;
	memcpy(good.bytes, image.bytes, image.size);
	marker_fill(good.bytes + image.size, good.size - image.size);
	damage_init(&good);
	device_init();
	figures = shared_memory(sizeof(*figures));
	ktap_start();
	write_start(good.bytes, good.size);
	can_starve = prepare_starvation();
	REQUIRE(write_text("/sys/module/daxfs/parameters/user_memory", "1000000000"));
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		kinds[i] = source_named(names[i]);
		if (!kinds[i]->key && kinds[i]->make(kinds[i], &image) < 0)
			ktap_skip_all(source_missing);
	}
	return ktap_run();
}
