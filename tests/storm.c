// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads of ordinary users do any memory call with mapped files, on every source, while the memory fails or goes
 * away. They read the files' content or their own writes; each call ends.
 *
 * A thread's calls depend only on the seed, which is printed with its last calls after an error:
 * DAXFS_SEED=N DAXFS_SOURCE=NAME storm repeats them.
 *
 * Group: storm
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,reserve=storm.daxfs drm share
 */
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/swap.h>

#include "lib/device.h"
#include "lib/mapped.h"
#include "lib/storm.h"

/* Seconds that a mount is used at most, and the part of them before its memory fails or is removed. */
#define ROUND 6.0
#define CALM 0.6
/* Mounts of a source that keeps its memory after its pages failed. */
#define KEPT 20
#define SWAP "/dev/ram0"
#define SWAP_SIZE (64UL << 20)

enum event { QUIET, REMOVED, FAILED, EVENTS };

static const char *const event_names[EVENTS] = { "left alone", "removed", "with pages that fail" };

static const struct source *source;
static struct image image;
static const char *mnt, *wanted_source;
static u64 base_seed;
/* For all sources, and for each. */
static double seconds, share;
static char *arena;

/* ---- processes ---------------------------------------------------------------------------------------- */

/* Become an ordinary user that may lock any memory. */
static void drop_rights(uid_t user)
{
	struct rlimit none = {}, unlimited = { RLIM_INFINITY, RLIM_INFINITY };

	REQUIRE(!setrlimit(RLIMIT_CORE, &none) && !setrlimit(RLIMIT_MEMLOCK, &unlimited));
	become_user(user);
}

static struct storm_thread *new_thread(int process, int number, u64 round)
{
	struct storm_thread *thread = calloc(1, sizeof(*thread));

	thread->process = process;
	thread->number = number;
	thread->random = base_seed * 1000003 + ((u64)(source - sources) * 1000 + round) * 64 + process * 8 + number;
	for (int i = 0; i < STORM_SLOTS; i++)
		thread->slots[i].address = arena + (number * STORM_SLOTS + i) * STORM_STRIDE;
	for (int i = 0; i < STORM_FILES; i++)
		thread->files[i] = open_in(mnt, storm_files[i].name, O_RDONLY);
	REQUIRE(!pipe2(thread->pipe, O_CLOEXEC | O_NONBLOCK) && !pipe2(thread->other, O_CLOEXEC | O_NONBLOCK));
	thread->memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	thread->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	thread->scratch = memfd_create("storm", MFD_CLOEXEC);
	REQUIRE(thread->memory >= 0 && thread->pagemap >= 0 && thread->scratch >= 0);
	thread->ring = ring_open();
	return thread;
}

static void *run_thread(void *argument)
{
	struct storm_thread *thread = argument;

	storm->progress[thread->process][thread->number].task = gettid();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (u64 i = 1; !storm->stop; i++) {
		if (storm_pick(thread, 2))
			storm_change(thread);
		else
			storm_use(thread);
		for (int checks = 0; checks < 8; checks++)
			storm_check(thread, &thread->slots[storm_pick(thread, STORM_SLOTS)],
				    storm_pick(thread, STORM_PAGES), !storm_pick(thread, 8));
		if (i % 64 == 0)
			storm_check_all(thread);
	}
	return NULL;
}

static pid_t start_process(int process, u64 round)
{
	struct storm_thread *threads[STORM_THREADS];
	pthread_t second;
	pid_t pid = fork();

	REQUIRE(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	drop_rights(1000 + process % 2);
	for (int i = 0; i < STORM_THREADS; i++)
		threads[i] = new_thread(process, i, round);
	storm_handle_signals();
	REQUIRE(!pthread_create(&second, NULL, run_thread, threads[1]));
	run_thread(threads[0]);
	pthread_join(second, NULL);
	_exit(0);
}

/* ---- what happens to the memory -------------------------------------------------------------------------- */

/* Disturb the storm in ways that it must not notice. */
static int do_nuisance(void *argument)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned int i = 0; !storm->stop; i++) {
		switch (i % 5) {
		case 0:
			shrink_caches(1 + i / 5 % 3);
			break;
		case 1:
			write_text("/proc/sys/vm/compact_memory", "1");
			break;
		case 2:
			counter_of(mnt, "faults_pte");
			break;
		default:
			context_remount(mnt, "");
		}
		rest(0.03 + i % 7 / 50.0);
	}
	return 0;
}

/* An event that a separate process causes. */
struct disaster {
	enum event event;
	struct device *device;
	u64 random;
};

/* Loads from pages that fail may end this process. */
static int do_disaster(void *argument)
{
	const struct disaster *disaster = argument;
	char *address;

	if (disaster->event == REMOVED)
		return !device_unbind(disaster->device);
	for (int i = 0; i < 3; i++) {
		u64 file = disaster->random >> i & 1 ? 0 : 1 + (disaster->random >> i) % (STORM_FILES - 2);
		size_t size = storm_files[file].size, at = (disaster->random >> i * 8) % size & ~4095UL;

		address = mmap(NULL, size, PROT_READ, MAP_SHARED, open_in(mnt, storm_files[file].name, O_RDONLY), 0);
		if (address == MAP_FAILED)
			return 1;
		page_inject(source, address + at, true);
	}
	return 0;
}

static bool possible(enum event event)
{
	if (event == REMOVED)
		return source_is_device(source);
	return event != FAILED || source->pages || !access("/sys/kernel/debug/hwpoison/corrupt-pfn", F_OK);
}

/* ---- rounds ------------------------------------------------------------------------------------------------- */

static void print_calls(void)
{
	for (int i = 0; i < STORM_PROCESSES * STORM_THREADS; i++) {
		const struct storm_progress *progress = &storm->progress[i / STORM_THREADS][i % STORM_THREADS];

		printf("# last calls of process %d, thread %d:\n", i / STORM_THREADS, i % STORM_THREADS);
		for (u64 j = 0; j < STORM_CALLS; j++) {
			const struct storm_call *call = &progress->calls[(progress->done + j) % STORM_CALLS];

			if (call->name)
				printf("#   %llu %s(%#llx, %#llx, %#llx, %#llx) = %lld\n", call->number, call->name,
				       call->arguments[0], call->arguments[1], call->arguments[2], call->arguments[3],
				       call->result);
		}
	}
}

/* Print where a thread is that has not ended. It may be running. */
static void print_task(int process, int number)
{
	int task = storm->progress[process][number].task;
	char path[64], line[300] = "";
	FILE *file;

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", task, i ? "syscall" : "stat");
		file = fopen(path, "re");
		if (file && fgets(line, sizeof(line), file))
			printf("# process %d, thread %d: %s: %s", process, number, path, line);
		if (file)
			fclose(file);
	}
	print_stack(task);
}

/* Return true if each thread begins a call again and again. */
static bool alive(double since[STORM_PROCESSES][STORM_THREADS], u64 done[STORM_PROCESSES][STORM_THREADS])
{
	double time = now();

	for (int i = 0; i < STORM_PROCESSES * STORM_THREADS; i++) {
		int process = i / STORM_THREADS, number = i % STORM_THREADS;
		const struct storm_progress *progress = &storm->progress[process][number];
		u64 current = __atomic_load_n(&progress->done, __ATOMIC_ACQUIRE);

		if (!since[process][number] || current != done[process][number]) {
			since[process][number] = time;
			done[process][number] = current;
		} else if (time - since[process][number] > 2 * limit()) {
			print_task(process, number);
			return false;
		}
	}
	return true;
}

/* Wait for a process of users. Memory that fails may end it. */
static void end_process(int process, pid_t pid, bool deadly)
{
	int status = ends_within(pid, 2 * limit());

	if (status == -1) {
		CHECK(!"a process ends");
		for (int i = 0; i < STORM_THREADS; i++)
			print_task(process, i);
		kill(pid, SIGKILL);
		reaped("a killed process", pid);
	} else if (!(deadly && WIFSIGNALED(status) && (WTERMSIG(status) == SIGBUS || WTERMSIG(status) == SIGKILL))) {
		CHECK_EQ(status, 0);
	}
}

/*
 * Keep memory until the machine ends, for at most KEPT mounts of a source. When a huge folio that could not be split is
 * freed, the kernel gives its failed page to the next process that needs one.
 */
static void keep(int memory)
{
	pid_t pid = fork();

	REQUIRE(pid >= 0);
	if (pid)
		return;
	setsid();
	/* Its output and this mount namespace end with the test. */
	if (dup2(memory, 0) || close_range(1, ~0U, 0) || setns(open("/proc/1/ns/mnt", O_RDONLY), CLONE_NEWNS))
		_exit(1);
	for (;;)
		pause();
}

static bool is_kept(enum event event)
{
	return event == FAILED && strstr(source->name, "huge folios");
}

static int new_context(int memory, bool lazy)
{
	int context = source_context(source, memory);

	REQUIRE(!lazy || !context_options(context, "digest=%s,verify=lazy", image_digest(&image)));
	return context;
}

/* Use one mount for @length seconds. */
static bool one_round(u64 round, double length, bool lazy, enum event event)
{
	double since[STORM_PROCESSES][STORM_THREADS] = {}, start;
	u64 done[STORM_PROCESSES][STORM_THREADS] = {};
	struct device device;
	struct disaster disaster = { event, &device, base_seed * 77 + round * 0x9e3779b97f4a7c15 };
	pid_t pids[STORM_PROCESSES], nuisance, deadly = 0;
	int memory = source->make(source, &image);

	REQUIRE(memory >= 0);
	if (source_is_device(source))
		device_find(source, &device);
	memset(storm, 0, sizeof(*storm));
	REQUIRE(context_mount(new_context(memory, lazy), mnt));
	if (is_kept(event))
		keep(memory);
	if (memory)
		close(memory);
	for (int i = 0; i < STORM_PROCESSES; i++)
		pids[i] = start_process(i, round);
	nuisance = background(do_nuisance, NULL);
	start = now();
	while (!storm->stop && now() < start + length) {
		if (!deadly && event != QUIET && now() > start + CALM * length) {
			storm->disturbed = true;
			deadly = background(do_disaster, &disaster);
		}
		if (!CHECK(alive(since, done)))
			break;
		usleep(20000);
	}
	storm->stop = true;
	for (int i = 0; i < STORM_PROCESSES; i++)
		end_process(i, pids[i], event == FAILED);
	CHECK_EQ(reaped("a disturbance", nuisance), 0);
	if (deadly) {
		int status = reaped(event_names[event], deadly);

		if (!(event == FAILED && WIFSIGNALED(status)))
			CHECK_EQ(status, 0);
	}
	if (ktap_point->failed || storm->failed) {
		printf("# DAXFS_SEED=%llu DAXFS_SOURCE='%s' storm, round %llu, %s%s\n", base_seed, source->name, round,
		       event_names[event], lazy ? ", verify=lazy" : "");
		print_calls();
	}
	CHECK_EQ(bounded_umount_when_free(mnt), 0);
	if (deadly)
		bring_back(source, &device, event == FAILED);
	return !ktap_point->failed;
}

/* Every other mount verifies pieces before their first use. The events that hit the memory also take turns. */
POINT(run_storm, "a storm of memory calls")
{
	u64 shift = base_seed + (source - sources), mounts[EVENTS] = {}, round = 0, calls = 0;
	u64 loads = 0, signals = 0, children = 0;
	double end = now() + share;
	enum event event;

	skip_if_stuck();
	storm = shared_memory(sizeof(*storm));
	do {
		double left = end - now();

		/* Devices are removed first, which a short run has time for. */
		event = (source_is_device(source) ? REMOVED + round : shift + round) % EVENTS;
		while (!possible(event))
			event = (event + 1) % EVENTS;
		if (is_kept(event) && mounts[event] >= KEPT)
			event = QUIET;
		if (!one_round(round, left < ROUND ? left < 1 ? 1 : left : ROUND, (shift + round) % 2, event))
			break;
		mounts[event]++;
		loads += storm->loads;
		signals += storm->signals;
		children += storm->children;
		for (int i = 0; i < STORM_PROCESSES * STORM_THREADS; i++)
			calls += storm->progress[i / STORM_THREADS][i % STORM_THREADS].done;
		round++;
	} while (now() < end - 1);
	printf("# figures: %s: %llu calls, %llu children, %llu loads, %llu signals", source->name, calls, children,
	       loads, signals);
	for (int i = 0; i < EVENTS; i++)
		printf(", %llu %s", mounts[i], event_names[i]);
	printf("\n");
}

static bool is_wanted(const struct source *source)
{
	if (wanted_source)
		return !strcmp(source->name, wanted_source);
	/* In a long run all of them. */
	return seconds >= 600 || source_is_distinct(source);
}

/* Have pages of private mappings swapped out, to a disk in memory. */
static void prepare_swap(void)
{
	if (run_command("modprobe -q brd rd_nr=1 rd_size=%lu; mkswap %s >&2 && swapon %s", SWAP_SIZE / 1024, SWAP, SWAP))
		printf("# figures: no swap\n");
}

static void make_arena(void)
{
	size_t size = STORM_THREADS * STORM_SLOTS * STORM_STRIDE;
	char *room = mmap(NULL, size + STORM_STRIDE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	REQUIRE(room != MAP_FAILED);
	arena = (char *)(((uintptr_t)room + STORM_STRIDE - 1) & ~(STORM_STRIDE - 1));
}

int main(void)
{
	int result, count = 0;

	ktap_start();
	base_seed = strtoull(getenv("DAXFS_SEED") ?: "0", NULL, 0);
	seconds = strtod(getenv("DAXFS_SECONDS") ?: getenv("DAXFS_SLOW") ? "40" : "30", NULL);
	wanted_source = getenv("DAXFS_SOURCE");
	if (page_size() != 4096)
		ktap_skip_all("needs pages of 4 KiB");
	mnt = private_mount_point();
	image = image_named("storm", "--tails=all --sums");
	storm_load_files();
	make_arena();
	prepare_swap();
	write_text("/sys/kernel/mm/ksm/run", "1");
	system("modprobe -q hwpoison_inject");
	for (size_t i = 0; i < source_count; i++)
		count += is_wanted(&sources[i]);
	share = seconds / (count ?: 1);
	result = run_on_sources(is_wanted, &image, &source);
	swapoff(SWAP);
	return result;
}
