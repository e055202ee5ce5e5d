// SPDX-License-Identifier: GPL-2.0-only
/*
 * racing FILE SECONDS CALL CALL: threads of one process read the first 2 MiB of a private mapping of
 * FILE, by loads and by a system call, forbid huge pages, and do both CALLs, all at once: writes, reads,
 * drops (its pages), maps (the file again). Fails if a byte was wrong.
 */
#include <err.h>
#include <pthread.h>
#include <sys/prctl.h>

#include "util.h"

static const char *path;
static char *address, *content;
static double end;
static bool wrong;

static bool more(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9 < end;
}

/* Return a random offset. All threads use the same 2 MiB, most of them the same few pages. */
static size_t place(unsigned int *seed)
{
	return (size_t)rand_r(seed) % (rand_r(seed) % 4 ? 16 * 4096 : HUGE_SIZE);
}

static void *writes(void *argument)
{
	for (unsigned int seed = 1; more();) {
		size_t at = place(&seed);

		address[at] = content[at];
	}
	return NULL;
}

static void *reads(void *argument)
{
	for (unsigned int seed = (uintptr_t)&seed; more();) {
		size_t at = place(&seed);

		wrong |= __atomic_load_n(address + at, __ATOMIC_RELAXED) != content[at];
	}
	return NULL;
}

/* A system call reports a page that could not be mapped, because another thread dropped it at once. */
static void *calls(void *argument)
{
	int ends[2];
	char byte;

	wrong |= pipe(ends);
	for (unsigned int seed = 2; more();)
		wrong |= write(ends[1], address + place(&seed), 1) != 1 || read(ends[0], &byte, 1) != 1;
	return NULL;
}

/*
 * The second call frees the page table, which the first leaves behind. If that happens after a fault
 * has made the table, this also looks like a lack of memory.
 */
static void *drops(void *argument)
{
	while (more()) {
		madvise(address, HUGE_SIZE, MADV_DONTNEED);
		madvise(address, 2 * HUGE_SIZE, MADV_DONTNEED);
	}
	return NULL;
}

static void *maps(void *argument)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	while (more())
		mmap(address, 2 * HUGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0);
	return NULL;
}

static void *forbids(void *argument)
{
	for (unsigned int on = 0; more(); on = !on)
		prctl(PR_SET_THP_DISABLE, on, 0, 0, 0);
	return NULL;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void *(*run)(void *argument);
	} known[] = { { "writes", writes }, { "reads", reads }, { "drops", drops }, { "maps", maps } };
	void *(*run[5])(void *) = { reads, calls, forbids };
	struct timespec time;
	pthread_t ids[5];
	int fd;

	if (argc != 5)
		errx(2, "expected FILE SECONDS CALL CALL");
	path = argv[1];
	fd = open(path, O_RDONLY | O_CLOEXEC);
	content = malloc(HUGE_SIZE);
	if (pread(fd, content, HUGE_SIZE, 0) != HUGE_SIZE)
		err(2, "%s", path);
	address = mmap(NULL, lseek(fd, 0, SEEK_END), PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	for (int i = 0; i < 2; i++)
		for (size_t j = 0; j < ARRAY_SIZE(known); j++)
			if (!strcmp(argv[3 + i], known[j].name))
				run[3 + i] = known[j].run;
	clock_gettime(CLOCK_MONOTONIC, &time);
	end = time.tv_sec + time.tv_nsec / 1e9 + strtod(argv[2], NULL);
	for (int i = 0; i < 5; i++)
		if (pthread_create(&ids[i], NULL, run[i], NULL))
			err(2, "thread");
	for (int i = 0; i < 5; i++)
		pthread_join(ids[i], NULL);
	return wrong || memcmp(address, content, HUGE_SIZE);
}
