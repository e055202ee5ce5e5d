// SPDX-License-Identifier: GPL-2.0-only
/*
 * Damaged images on every kind of memory, for a given time, while the memory is written to, fails, is removed, or runs
 * short. For tests/soak_machines, which makes the machine and may start a second one that writes to the same memory.
 */
#include <sched.h>
#include <sys/prctl.h>

#include "device.h"
#include "mapped.h"
#include "mutator.h"
#include "walker.h"

#define WALKERS 3
/* The size of the file "large" of the image. */
#define LARGE_SIZE (5 << 20)
#define BLOCK 4096
/* The exit status of a process if its mount was refused. */
#define REFUSED 9
/* A round ends within so many times the limit of one call. */
#define LIMITS 20
/* Share of allocations that fail, in percent, and how many fail at most. */
#define STARVED_PERCENT "2"
#define STARVED_MAX 1000000000

enum event { QUIET, WRITTEN, REMOVED, POISONED, PRESSED, STARVED, EVENTS };

static const char *const event_names[EVENTS] = {
	"left alone", "written to by a thread", "removed under load", "a page fails",
	"memory is short", "allocations fail",
};

/* In so many mounts, each of these happens to each kind of memory. */
#define CYCLE (ARRAY_SIZE(kinds) * EVENTS)
/* The seconds within which a change by the other machine must be seen at the end. It may still be starting. */
#define WRITER_LIMIT 300

/* One kind of memory. */
struct kind {
	const struct source *source;
	/* With a driver that can be unbound, unless it is a range or a buffer. */
	struct device device;
};

static struct kind kinds[4];

/* Counts of events, in shared memory. */
struct figures {
	struct walk_counts walkers[WALKERS];
	u64 pages_failed, removals, shortages, lazy;
	u64 used[ARRAY_SIZE(kinds)][EVENTS], refused;
};

static struct figures *figures;
/* The device through which the memory of all kinds but buffers can be written to. */
static const char *door;
static bool can_starve, can_inject;

/* Where images are mounted, and the image before any damage, with memory after it that belongs to no file. */
static const char *mnt;
static struct image good;

/* An image that may be damaged is mounted, used by several processes, and unmounted. */
static struct round {
	/* All that is random depends on this. */
	u64 number;
	struct kind *kind;
	enum event event;
	/* The other device has the same memory. */
	bool shown;
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

static void fill_memory(void)
{
	write_start(door, good.bytes, good.size);
}

/* After fill_memory(): return true if someone else changes the tables within @seconds. */
static bool memory_changes(double seconds)
{
	static char block[BLOCK] __attribute__((aligned(BLOCK)));
	int fd = open(door, O_RDONLY | O_DIRECT | O_CLOEXEC);
	double end = now() + seconds;
	bool changed = false;

	REQUIRE(fd >= 0);
	while (!changed && now() < end) {
		for (size_t at = 0; !changed && at < good.super->data.offset; at += BLOCK) {
			REQUIRE(pread(fd, block, BLOCK, at) == BLOCK);
			changed = memcmp(block, good.bytes + at, BLOCK);
		}
		usleep(10000);
	}
	close(fd);
	return changed;
}

/* Put @image into memory. Return what source_context() takes. *@bytes is where the memory can be written to, or NULL. */
static int make_memory(const struct image *image, char **bytes)
{
	struct superblock all = { .total_size = image->size };
	/* Make room for the whole image, whatever its superblock says. */
	const struct image whole = { .bytes = image->bytes, .size = image->size, .super = &all };
	int fd, owner;

	*bytes = NULL;
	if (this.shown) {
		/* Nothing changes the data. */
		write_start(door, image->bytes, good.super->data.offset);
		return 0;
	}
	fd = source_make_owned(this.kind->source, &whole, &owner);
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
	int context = source_context(this.kind->source, memory);

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
	 * To mount a range, the kernel adds its memory (memremap_pages()). Code of x86 uses the page tables that it
	 * allocates for it without checking the allocation (phys_pud_init()), and warns if another allocation fails
	 * (add_pages()). To mount a dma-buf, the kernel maps it, and warns if that fails (dma_buf_vmap()). The driver
	 * can prevent none of these, so spare these mounts.
	 */
	if (this.event == STARVED && source_is_device(this.kind->source))
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
			write_start(door, image.bytes, length);
		usleep(50);
	}
	return 0;
}

static int remove_device(void *argument)
{
	rest(draw(this.number, 3, 200) / 1000.0);
	CHECK(device_unbind(&this.kind->device));
	figures->removals++;
	return 0;
}

/* Make a page of the large file fail. Loads from a damaged image may end this process. */
static int fail_a_page(void *argument)
{
	size_t at = draw(this.number, 3, LARGE_SIZE / BLOCK) * BLOCK;
	char path[PATH_MAX], *address;
	struct stat stat;
	int fd;

	snprintf(path, sizeof(path), "%s/large", mnt);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &stat) || stat.st_size != LARGE_SIZE)
		return 0;
	address = mmap(NULL, LARGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	REQUIRE(address != MAP_FAILED);
	if (!page_inject(this.kind->source, address + at, false))
		figures->pages_failed++;
	/* All processes that read the page now find out. */
	usleep(1000);
	pread(fd, path, sizeof(path), at);
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

/* Disturbances of the memory. Each is a separate process next to the walkers, and ends before the unmount. */
static int (*const disturbances[EVENTS])(void *argument) = {
	[REMOVED] = remove_device,
	[POISONED] = fail_a_page,
	[PRESSED] = press,
};

/* Return true if a walker may end like this, for example because memory is short. */
static bool may_end(int status)
{
	int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	return (this.event == PRESSED || this.event == STARVED || this.event == POISONED) &&
	       (signal == SIGKILL || signal == SIGSEGV || signal == SIGBUS);
}

static void use_in_child(const struct image *image)
{
	struct walk walk = {
		.dir = mnt,
		.starving = this.event == STARVED,
		.counts = figures->walkers,
	};
	pid_t pids[WALKERS], writer = -1, disturbance = -1;
	char *bytes;

	REQUIRE(!unshare(CLONE_NEWNS));
	if (!mount_damaged(image, &bytes))
		_exit(ktap_point->failed ? KTAP_FAIL : REFUSED);
	if (this.event == WRITTEN)
		writer = background(write_memory, bytes);
	for (int i = 0; i < WALKERS; i++) {
		walk.seed = this.number * WALKERS + i;
		pids[i] = walker_start(&walk, i);
	}
	if (disturbances[this.event])
		disturbance = background(disturbances[this.event], NULL);
	for (int i = 0; i < WALKERS; i++) {
		int status = walker_end(&walk, i, pids[i]);

		if (status && !may_end(status))
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

/* Return true if @event can happen to @kind. */
static bool possible(const struct kind *kind, enum event event)
{
	switch (event) {
	case REMOVED:
		return source_is_device(kind->source);
	case POISONED:
		return kind->source->pages || can_inject;
	case STARVED:
		return can_starve;
	default:
		return true;
	}
}

/*
 * Do a round with the kind of memory and the event of @slot: each event with each kind, then again.
 * All else that is random depends on @number. Set *@used if the image was mounted.
 */
static bool one_round(u64 number, u64 slot, bool *used)
{
	struct kind *kind = &kinds[slot % ARRAY_SIZE(kinds)];
	enum event event = slot / ARRAY_SIZE(kinds) % EVENTS;
	enum result result;

	*used = false;
	for (int tries = 0; tries < EVENTS && !possible(kind, event); tries++)
		event = (event + 1) % EVENTS;
	if (!possible(kind, event))
		event = QUIET;
	this = (struct round){ .number = number, .kind = kind, .event = event, .shown = !kind->source->key };
	this.damaged = event != POISONED && draw(number, 4, 8);
	/* The other machine may change the memory between the checksum and the mount. */
	this.unchecked = this.shown && draw(number, 5, 4);
	/* Half of the kinds of memory, and the others after the next CYCLE. */
	this.lazy = !this.damaged && (slot + slot / CYCLE) % 2 == 0 && !(this.shown && getenv("DAXFS_WRITER"));
	result = run_round();
	if (result == ROUND_FAILED) {
		printf("# %s: %s\n", kind->source->name, event_names[event]);
		return false;
	}
	if (result == ROUND_REFUSED) {
		figures->refused++;
		return true;
	}
	*used = true;
	figures->lazy += this.lazy;
	figures->used[kind - kinds][event]++;
	if (event == REMOVED || event == POISONED)
		bring_back(kind->source, &kind->device, event == POISONED);
	return true;
}

static u64 used_with(enum event event)
{
	u64 sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		sum += figures->used[i][event];
	return sum;
}

/* Print the figures of @images rounds and @seconds. */
static void print_figures(u64 images, double seconds)
{
	struct walk_counts all = {};

	for (int i = 0; i < WALKERS; i++) {
		const struct walk_counts *counts = &figures->walkers[i];

		all.reads += counts->reads;
		all.ring_reads += counts->ring_reads;
		all.loads += counts->loads;
		all.faults += counts->faults;
		all.execs += counts->execs;
		all.handles += counts->handles;
		all.errors += counts->errors;
	}
	printf("# figures: %llu images in %.0f s, %llu mounts, %llu refused\n", images, seconds,
	       images - figures->refused, figures->refused);
	printf("# figures: %llu reads (%llu by io_uring), %llu loads, %llu execs, %llu handles\n",
	       all.reads, all.ring_reads, all.loads, all.execs, all.handles);
	printf("# figures: seen by processes: %llu errors, %llu SIGBUS\n", all.errors, all.faults);
	printf("# figures: %llu allocations failed, %llu pages failed, %llu removals, %llu shortages\n",
	       allocations_failed(), figures->pages_failed, figures->removals, figures->shortages);
	printf("# figures: %llu mounts with verify=lazy\n", figures->lazy);
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
			if (!CHECK(figures->used[i][event] || !possible(&kinds[i], event)))
				printf("# never: %s: %s\n", kinds[i].source->name, event_names[event]);
		}
	}
	CHECK_EQ(figures->removals, used_with(REMOVED));
	CHECK(figures->lazy || !used_with(POISONED) || getenv("DAXFS_WRITER"));
	CHECK(figures->pages_failed || !used_with(POISONED));
	CHECK(figures->shortages || !used_with(PRESSED));
	CHECK(allocations_failed() || !used_with(STARVED));
}

POINT(soak, "nothing goes wrong")
{
	u64 images = number_of("DAXFS_IMAGES_WANTED"), number = number_of("DAXFS_SEED") * 1000000000;
	double start = now(), seconds = number_of("DAXFS_SECONDS"), said = start;
	u64 slot = 0, done = 0;
	bool passed = true, used;

	/* Fewer would omit some events that check_figures() looks for. */
	if (images < CYCLE)
		images = CYCLE;
	while (passed && (now() < start + seconds || slot < images)) {
		/* An image that was refused proves nothing. The other machine may damage one before it is mounted. */
		passed = one_round(number++, slot, &used) && CHECK(figures->refused < 3 * slot + 40);
		slot += used;
		done++;
		if (now() > said + 60) {
			said = now();
			print_figures(done, said - start);
		}
	}
	print_figures(done, now() - start);
	if (!CHECK(passed))
		return;
	check_figures();
	if (getenv("DAXFS_WRITER")) {
		fill_memory();
		CHECK(memory_changes(WRITER_LIMIT));
	}
}

/*
 * Damage the memory of @device, in which another machine mounts images, until /run/soak/stop exists.
 * Half of the blocks are restored.
 */
static int write_to(const char *device)
{
	static char block[BLOCK] __attribute__((aligned(BLOCK))), before[BLOCK];
	struct superblock all = { .total_size = BLOCK };
	struct image image = { .bytes = block, .super = &all };
	int fd = open(device, O_RDWR | O_DIRECT | O_CLOEXEC);
	u64 writes = 0, blocks = 8;

	damage_init(&image);
	for (u64 number = 0; access("/run/soak/stop", F_OK); number++) {
		const struct superblock *super = (void *)block;
		u64 at = draw(number, 2, blocks) * BLOCK;

		if (pread(fd, block, BLOCK, at) != BLOCK)
			return KTAP_FAIL;
		/* The tables end where the data starts. */
		if (!at && super->data.offset <= 64 * BLOCK && super->data.offset > BLOCK)
			blocks = super->data.offset / BLOCK;
		memcpy(before, block, BLOCK);
		damage_anywhere(&image, number, 3, 0, BLOCK);
		if (pwrite(fd, block, BLOCK, at) != BLOCK)
			return KTAP_FAIL;
		writes++;
		usleep(50000);
		memcpy(block, before, BLOCK);
		if (number % 2 && pwrite(fd, block, BLOCK, at) == BLOCK)
			writes++;
	}
	printf("# figures: %llu writes by another machine\n", writes);
	close(fd);
	return writes ? KTAP_PASS : KTAP_FAIL;
}

int main(int argc, char **argv)
{
	struct image image;
	char path[PATH_MAX];

	setlinebuf(stdout);
	if (argc == 3 && !strcmp(argv[1], "--write"))
		return write_to(argv[2]);
	fixture_device("soak");
	door = getenv("DAXFS_DOOR");
	if (!door)
		ktap_skip_all("needs DAXFS_DOOR, see tests/soak_machines");
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
	fill_memory();
	can_starve = prepare_starvation();
	can_inject = !system("modprobe -q hwpoison_inject") ||
		     !access("/sys/kernel/debug/hwpoison/corrupt-pfn", F_OK);
	kinds[0].source = source_named("virtio-pmem");
	kinds[1].source = source_named("CXL (fsdev)");
	kinds[2].source = source_named("phys");
	kinds[3].source = source_named("udmabuf");
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		/* The other machine may have written to the label, by which a device is found. */
		for (int tries = 0; !kinds[i].source->key && kinds[i].source->make(kinds[i].source, &image) < 0; tries++) {
			if (tries == 10)
				ktap_skip_all(source_missing);
			fill_memory();
		}
		if (source_is_device(kinds[i].source))
			device_find(kinds[i].source, &kinds[i].device);
	}
	return ktap_run();
}
