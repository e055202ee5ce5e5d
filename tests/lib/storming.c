// SPDX-License-Identifier: GPL-2.0-only
/*
 * storming DIR SEED: threads of ordinary users do any memory call with mapped files of the image
 * storm.daxfs on DIR, until SIGTERM. They read the files' content or their own writes; each call ends.
 * With SIGUSR1 the memory may go away, with SIGUSR2 its pages may fail, which may end a process. Prints
 * figures, and the last calls if something is wrong.
 *
 * A thread's calls depend only on the seed.
 */
#include <err.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "storm.h"

/* The seconds after which a call that should not block is taken for stuck. */
#define LIMIT 60

static const char *mnt;
static u64 base_seed;
static char *arena;
static bool deadly;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

/* Become an ordinary user who may lock any memory, and is root of a user namespace. */
static void drop_rights(uid_t user)
{
	struct rlimit none = {}, unlimited = { RLIM_INFINITY, RLIM_INFINITY };

	REQUIRE(!setrlimit(RLIMIT_CORE, &none) && !setrlimit(RLIMIT_MEMLOCK, &unlimited));
	REQUIRE(!setgroups(0, NULL) && !setresgid(user, user, user) && !setresuid(user, user, user));
	REQUIRE(!prctl(PR_SET_DUMPABLE, 1) && !unshare(CLONE_NEWUSER));
	REQUIRE(write_text("/proc/self/setgroups", "deny"));
	REQUIRE(write_text("/proc/self/uid_map", "0 %u 1", user));
	REQUIRE(write_text("/proc/self/gid_map", "0 %u 1", user));
}

static struct storm_thread *new_thread(int process, int number)
{
	struct storm_thread *thread = calloc(1, sizeof(*thread));

	thread->process = process;
	thread->number = number;
	thread->random = base_seed * 64 + process * 8 + number;
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

static pid_t start_process(int process)
{
	struct storm_thread *threads[STORM_THREADS];
	pthread_t second;
	pid_t pid = fork();

	REQUIRE(pid >= 0);
	if (pid)
		return pid;
	drop_rights(1000 + process % 2);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGTERM, SIG_DFL);
	for (int i = 0; i < STORM_THREADS; i++)
		threads[i] = new_thread(process, i);
	storm_handle_signals();
	REQUIRE(!pthread_create(&second, NULL, run_thread, threads[1]));
	run_thread(threads[0]);
	pthread_join(second, NULL);
	_exit(0);
}

static void print_calls(void)
{
	for (int i = 0; i < STORM_PROCESSES * STORM_THREADS; i++) {
		const struct storm_progress *progress = &storm->progress[i / STORM_THREADS][i % STORM_THREADS];

		printf("# last calls of process %d, thread %d, task %d:\n", i / STORM_THREADS, i % STORM_THREADS, progress->task);
		for (u64 j = 0; j < STORM_CALLS; j++) {
			const struct storm_call *call = &progress->calls[(progress->done + j) % STORM_CALLS];

			if (call->name)
				printf("#   %llu %s(%#llx, %#llx, %#llx, %#llx) = %lld\n", call->number, call->name,
				       call->arguments[0], call->arguments[1], call->arguments[2], call->arguments[3],
				       call->result);
		}
	}
}

/* Wait for a process of users that has ended; return false if it goes on, or if it ended as none may. */
static bool ends(pid_t pid, double limit, bool *good)
{
	int status = 0;
	pid_t got;

	while (!(got = waitpid(pid, &status, WNOHANG)) && now() < limit)
		usleep(1000);
	*good = got == pid && (!status || (deadly && WIFSIGNALED(status) && (WTERMSIG(status) == SIGBUS || WTERMSIG(status) == SIGKILL)));
	if (got == pid && !*good)
		printf("# a process ended with wait status %#x\n", status);
	return got == pid;
}

/* Check that each thread begins a call again and again. */
static void look_at_progress(void)
{
	static double since[STORM_PROCESSES * STORM_THREADS];
	static u64 done[STORM_PROCESSES * STORM_THREADS];

	for (int i = 0; i < STORM_PROCESSES * STORM_THREADS; i++) {
		u64 current = __atomic_load_n(&storm->progress[i / STORM_THREADS][i % STORM_THREADS].done, __ATOMIC_ACQUIRE);

		if (!since[i] || current != done[i] || deadly) {
			since[i] = now();
			done[i] = current;
		} else if (now() - since[i] > LIMIT) {
			printf("# thread %d has not ended its call\n", i);
			storm->failed = true;
			storm->stop = true;
		}
	}
}

static void on_signal(int signal)
{
	if (signal == SIGTERM)
		storm->stop = true;
	else
		storm->disturbed = true;
	if (signal == SIGUSR2)
		__atomic_store_n(&deadly, true, __ATOMIC_SEQ_CST);
}

int main(int argc, char **argv)
{
	size_t size = STORM_THREADS * STORM_SLOTS * STORM_STRIDE;
	pid_t pids[STORM_PROCESSES];
	bool good = true, one;
	u64 calls = 0;

	if (argc != 3)
		errx(2, "expected DIR SEED");
	ktap_start();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	mnt = argv[1];
	base_seed = strtoull(argv[2], NULL, 0);
	storm_load_files();
	arena = mmap(NULL, size + STORM_STRIDE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	arena = (char *)(((uintptr_t)arena + STORM_STRIDE - 1) & ~(STORM_STRIDE - 1));
	storm = mmap(NULL, sizeof(*storm), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	signal(SIGTERM, on_signal);
	signal(SIGUSR1, on_signal);
	signal(SIGUSR2, on_signal);
	for (int i = 0; i < STORM_PROCESSES; i++)
		pids[i] = start_process(i);
	while (!storm->stop) {
		look_at_progress();
		usleep(20000);
	}
	for (int i = 0; i < STORM_PROCESSES; i++) {
		if (!ends(pids[i], now() + 2 * LIMIT, &one))
			printf("# process %d has not ended\n", pids[i]);
		good &= one;
	}
	for (int i = 0; i < STORM_PROCESSES * STORM_THREADS; i++)
		calls += storm->progress[i / STORM_THREADS][i % STORM_THREADS].done;
	if (!good || storm->failed)
		print_calls();
	printf("%llu %llu %llu %llu\n", calls, storm->children, storm->loads, storm->signals);
	return !good || storm->failed;
}
