// SPDX-License-Identifier: GPL-2.0-only
/*
 * Damaged images on every kind of memory, for a given time, while the memory is written to, fails, is removed, or runs
 * short. For qemu/soak, which makes the machine and may start a second one that writes to the same memory.
 */
#include "device.h"
#include "mapped.h"
#include "mutator.h"
#include "round.h"

#define STEPS 60
/* The size of the file "large" of the image. */
#define LARGE_SIZE (5 << 20)
#define BLOCK 4096
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
/* The device through which the memory of the others can be written to. */
static const char *door;
static struct kind *kind;
static bool can_starve, can_inject;

static bool set(const char *directory, const char *file, const char *text)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", directory, file);
	return write_text(path, "%s", text);
}

/* ---- events of the memory ---------------------------------------------------------------------- */

static void remove_device(const struct round *round)
{
	rest(draw(round->number, 3, 200) / 1000.0);
	CHECK(device_unbind(&kind->device));
	figures->removals++;
}

/* Make a page of the large file fail. Loads from a damaged image may end this process. */
static void fail_a_page(const struct round *round)
{
	size_t at = draw(round->number, 3, LARGE_SIZE / BLOCK) * BLOCK;
	char path[PATH_MAX], *address;
	struct stat stat;
	int fd;

	snprintf(path, sizeof(path), "%s/large", round_mnt);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &stat) || stat.st_size != LARGE_SIZE)
		return;
	address = mmap(NULL, LARGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	REQUIRE(address != MAP_FAILED);
	if (!page_inject(kind->source, address + at, false))
		figures->pages_failed++;
	/* All processes that read the page now find out. */
	usleep(1000);
	pread(fd, path, sizeof(path), at);
}

/* Take nearly all memory, for a moment, so that the kernel reclaims some. */
static void press(const struct round *round)
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

/* Return true if @event can happen to @kind, and its name has DAXFS_EVENTS in it. */
static bool possible(const struct kind *kind, enum event event)
{
	if (!strstr(event_names[event], getenv("DAXFS_EVENTS") ?: ""))
		return false;
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
	struct round round = {
		.number = number,
		.steps = STEPS,
		.counts = figures->walkers,
	};
	enum event event;
	enum round_result result;
	/* The second device has the same memory. */
	bool shown;

	*used = false;
	kind = &kinds[slot % ARRAY_SIZE(kinds)];
	event = slot / ARRAY_SIZE(kinds) % EVENTS;
	for (int tries = 0; tries < EVENTS && !possible(kind, event); tries++)
		event = (event + 1) % EVENTS;
	if (!possible(kind, event))
		event = QUIET;
	round.source = kind->source;
	shown = !kind->source->key;
	round.door = shown ? door : NULL;
	round.damaged = event != POISONED && draw(number, 4, 8);
	/* The other machine may change the memory between the checksum and the mount. */
	round.unchecked = shown && draw(number, 5, 4);
	/* Half of the kinds of memory, and the others after the next CYCLE. */
	round.lazy = !round.damaged && (slot + slot / CYCLE) % 2 == 0 && !(shown && getenv("DAXFS_WRITER"));
	round.written = event == WRITTEN;
	round.starving = event == STARVED;
	/*
	 * To mount a range, the kernel adds its memory (memremap_pages()). Code of x86 uses the page tables that it
	 * allocates for it without checking the allocation (phys_pud_init()), and warns if another allocation fails
	 * (add_pages()). To mount a dma-buf, the kernel maps it, and warns if that fails (dma_buf_vmap()). The driver
	 * can prevent none of these, so ignore their messages.
	 */
	round.fed_mount = !source_is_device(kind->source);
	round.deadly = event == PRESSED || event == STARVED || event == POISONED;
	if (event == REMOVED)
		round.disturb = remove_device;
	if (event == POISONED)
		round.disturb = fail_a_page;
	if (event == PRESSED)
		round.disturb = press;
	result = round_run(&round);
	if (result == ROUND_FAILED) {
		printf("# %s: %s\n", kind->source->name, event_names[event]);
		return false;
	}
	if (result == ROUND_REFUSED) {
		figures->refused++;
		return true;
	}
	*used = true;
	figures->lazy += round.lazy;
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

static u64 used_of(size_t i)
{
	u64 sum = 0;

	for (int event = 0; event < EVENTS; event++)
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
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		printf("# figures: %s: %llu mounts\n", kinds[i].source->name, used_of(i));
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
	bool good = true, used;

	/* Fewer would omit some events that check_figures() looks for. */
	if (images < CYCLE)
		images = CYCLE;
	while (good && (now() < start + seconds || slot < images)) {
		/* An image that was refused proves nothing. The other machine may damage one before it is mounted. */
		good = one_round(number++, slot, &used) && CHECK(figures->refused < 3 * slot + 40);
		slot += used;
		done++;
		if (now() > said + 60) {
			said = now();
			print_figures(done, said - start);
		}
	}
	print_figures(done, now() - start);
	if (!CHECK(good))
		return;
	check_figures();
	if (getenv("DAXFS_WRITER")) {
		round_fill(door);
		CHECK(round_changes(door, WRITER_LIMIT));
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
		ktap_skip_all("needs DAXFS_DOOR, see qemu/soak");
	snprintf(path, sizeof(path), "%s/soak.daxfs", work_dir());
	image = image_load(path);
	round_init(&image);
	device_init();
	figures = shared_memory(sizeof(*figures));
	ktap_start();
	round_fill(door);
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
			round_fill(door);
		}
		if (source_is_device(kinds[i].source))
			device_find(kinds[i].source, &kinds[i].device);
	}
	return ktap_run();
}
