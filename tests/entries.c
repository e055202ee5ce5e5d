// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads of an ordinary user write to a private mapping, read it, also by system calls, drop its pages and forbid
 * huge pages, or map the file again, all at once. No page may be inserted over an entry of 2 MiB: a kernel with
 * CONFIG_DEBUG_VM crashes then, others report a lack of memory.
 *
 * Group: memory
 * Order: 6
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,reserve,pci=sources.daxfs drm share
 */
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "lib/device.h"

/* Some hundred faults of two threads at once. One in a hundred finds an entry of 2 MiB. */
#define SECONDS (getenv("DAXFS_SLOW") ? 2 : 1)

static const struct source *source;
static const char *mnt;
static struct image image;

#define TRACEFS "/sys/kernel/tracing"
#define PROBES TRACEFS "/events/daxfs_entries"

/* Functions that insert pages. Over an entry of 2 MiB they return VM_FAULT_OOM or ENOMEM. */
static const struct {
	const char *function, *result;
} inserts[] = {
	{ "vmf_insert_page_mkwrite", "ret == 1" },
	{ "vmf_insert_mixed", "ret == 1" },
	{ "map_kernel_pages_complete", "ret == -12" },
};

static bool probed;

/* Trace calls of these functions that find an entry of 2 MiB. Return false if the kernel cannot. */
static bool probe(void)
{
	char path[200];

	mount("tracefs", TRACEFS, "tracefs", 0, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(inserts); i++) {
		if (!write_text(TRACEFS "/kprobe_events", "r:daxfs_entries/%s %s ret=$retval:s32\n", inserts[i].function,
				inserts[i].function))
			return false;
		snprintf(path, sizeof(path), PROBES "/%s/filter", inserts[i].function);
		if (!write_text(path, "%s", inserts[i].result))
			return false;
	}
	return write_text(PROBES "/enable", "1");
}

/* Return the number of lines of the trace, which is then empty. */
static int traced(void)
{
	FILE *trace = fopen(TRACEFS "/trace", "re");
	char line[500];
	int count = 0;

	while (trace && fgets(line, sizeof(line), trace))
		count += line[0] != '#';
	fclose(trace);
	close(open(TRACEFS "/trace", O_WRONLY | O_TRUNC | O_CLOEXEC));
	return count;
}

struct threads {
	int fd;
	char *address;
	double end;
	bool wrong;
};

/* Return a random offset. All threads use the same 2 MiB, most of them the same few pages. */
static size_t place(unsigned int *seed)
{
	return (size_t)rand_r(seed) % (rand_r(seed) % 4 ? 16 * 4096 : HUGE_SIZE);
}

static void *writes(void *argument)
{
	struct threads *threads = argument;
	unsigned int seed = 1;

	while (now() < threads->end) {
		size_t at = place(&seed);

		threads->address[at] = pattern_byte(LARGE, at);
	}
	return NULL;
}

static void *reads(void *argument)
{
	struct threads *threads = argument;
	unsigned int seed = (uintptr_t)&seed;

	while (now() < threads->end) {
		size_t at = place(&seed);

		if (!pattern_matches(threads->address + at, 1, LARGE, at))
			threads->wrong = true;
	}
	return NULL;
}

/* A system call reports a page that could not be mapped, because another thread dropped it at once. */
static void *calls(void *argument)
{
	struct threads *threads = argument;
	unsigned int seed = 2;
	int ends[2];
	char byte;

	if (pipe(ends))
		threads->wrong = true;
	while (now() < threads->end) {
		size_t at = place(&seed);

		if (write(ends[1], threads->address + at, 1) != 1 || read(ends[0], &byte, 1) != 1)
			threads->wrong = true;
	}
	return NULL;
}

/*
 * The second call frees the page table, which the first leaves behind. If that happens after a fault
 * has made the table, this also looks like a lack of memory.
 */
static void *drops(void *argument)
{
	struct threads *threads = argument;

	while (now() < threads->end) {
		madvise(threads->address, HUGE_SIZE, MADV_DONTNEED);
		madvise(threads->address, 2 * HUGE_SIZE, MADV_DONTNEED);
	}
	return NULL;
}

static void *maps_again(void *argument)
{
	struct threads *threads = argument;

	while (now() < threads->end)
		mmap(threads->address, 2 * HUGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
		     threads->fd, 0);
	return NULL;
}

static void *forbids(void *argument)
{
	struct threads *threads = argument;

	while (now() < threads->end) {
		prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
		prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
	}
	return NULL;
}

/* A pair of threads and their calls. */
struct race {
	void *(*first)(void *argument), *(*last)(void *argument);
};

/* Run the threads. Return 0 if no byte was wrong. */
static int race(void *argument)
{
	const struct race *race = argument;
	void *(*const run[])(void *) = { race->first, reads, calls, forbids, race->last };
	struct threads threads = { .end = now() + SECONDS };
	pthread_t ids[ARRAY_SIZE(run)];
	struct rusage usage;

	threads.fd = open_size(mnt, LARGE, O_RDONLY);
	threads.address = map_size(mnt, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	for (size_t i = 0; i < ARRAY_SIZE(run); i++)
		if (pthread_create(&ids[i], NULL, run[i], &threads))
			return 2;
	for (size_t i = 0; i < ARRAY_SIZE(run); i++)
		pthread_join(ids[i], NULL);
	getrusage(RUSAGE_SELF, &usage);
	printf("# %ld faults\n", usage.ru_minflt);
	return threads.wrong || !pattern_matches(threads.address, HUGE_SIZE, LARGE, 0) ? 3 : 0;
}

static void together(struct race run)
{
	skip_if_stuck();
	REQUIRE(source_mount(source, &image, mnt));
	if (probed)
		traced();
	CHECK_EQ(reaped("the threads", background_user(race, &run)), 0);
	if (probed && run.last == maps_again)
		CHECK_EQ(traced(), 0);
	CHECK_EQ(bounded_umount(mnt), 0);
}

POINT(write_and_map, "threads that read, write and map")
{
	together((struct race){ writes, maps_again });
}

POINT(read_and_map, "threads that read and map")
{
	together((struct race){ reads, maps_again });
}

POINT(write_and_drop, "threads that read, write and drop pages")
{
	together((struct race){ writes, drops });
}

static bool has_huge_entries(const struct source *source)
{
	/* Devices and ranges have the faults of DAX. */
	return source->huge && (source->key || !strcmp(source->name, "NVDIMM"));
}

int main(void)
{
	int result;

	mnt = private_mount_point();
	image = sources_image();
	probed = probe();
	if (!probed)
		printf("# no probes: only a kernel with CONFIG_DEBUG_VM sees the error\n");
	result = run_on_sources(has_huge_entries, &image, &source);
	write_text(PROBES "/enable", "0");
	for (size_t i = 0; i < ARRAY_SIZE(inserts); i++)
		write_text(TRACEFS "/kprobe_events", "-:daxfs_entries/%s\n", inserts[i].function);
	return result;
}
