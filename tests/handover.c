// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hand a file from one process to another without a copy: send its descriptor over a socket, and
 * map the same memory on both sides.
 *
 * Group: files
 */
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "descriptor.h"

static const char *mnt;

#define RECEIVERS 8

/* A receiver's report on its descriptor. */
struct findings {
	bool right; /* size and content */
	size_t count; /* page frames, and a digest of their numbers in order */
	u64 first, frames;
	long long rss, pss, anonymous, private; /* of the mapping, in KiB */
	long long grown_anon, grown_file; /* of the process, in KiB */
	long long bytes_read; /* by system calls */
};

/* The mapping's figures in /proc/self/smaps. */
static long long of_mapping(const char *address, const char *key)
{
	FILE *stream = fopen("/proc/self/smaps", "re");
	char line[512], start[32];
	long long number = -1;
	bool here = false;

	snprintf(start, sizeof(start), "%lx-", (unsigned long)address);
	while (stream && fgets(line, sizeof(line), stream)) {
		if (strchr(line, '-') && strspn(line, "0123456789abcdef") > 4)
			here = !strncmp(line, start, strlen(start));
		else if (here && !strncmp(line, key, strlen(key)))
			number = strtoll(line + strlen(key), NULL, 10);
	}
	if (stream)
		fclose(stream);
	return number;
}

static size_t pages(size_t size)
{
	return page_round(size) / page_size();
}

/* Look up the frames of @size bytes at @address. */
static void find_frames(const char *address, size_t size, struct findings *findings)
{
	u64 *frames = malloc(pages(size) * sizeof(*frames));

	page_frames(address, pages(size), frames);
	findings->count = 0;
	findings->frames = 0;
	for (size_t i = 0; i < pages(size); i++) {
		if (!frames[i])
			continue;
		if (!findings->count++)
			findings->first = frames[i];
		findings->frames = (findings->frames ^ frames[i]) * 0x100000001b3ULL;
	}
	free(frames);
}

/* Map @file, look at all of it, and return the cost. */
static struct findings look_at(int file, size_t size)
{
	struct findings findings = {};
	long long anon = number_in("/proc/self/status", "RssAnon:");
	long long mapped = number_in("/proc/self/status", "RssFile:");
	long long bytes = number_in("/proc/self/io", "rchar:");
	char *address = mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0);

	REQUIRE(address != MAP_FAILED);
	findings.right = lseek(file, 0, SEEK_END) == (off_t)size &&
			 pattern_matches(address, size, size, 0);
	/* Reading /proc counts as well: this file is some 1,500 bytes. */
	findings.bytes_read = number_in("/proc/self/io", "rchar:") - bytes;
	findings.grown_anon = number_in("/proc/self/status", "RssAnon:") - anon;
	findings.grown_file = number_in("/proc/self/status", "RssFile:") - mapped;
	findings.rss = of_mapping(address, "Rss:");
	findings.pss = of_mapping(address, "Pss:");
	findings.anonymous = of_mapping(address, "Anonymous:");
	findings.private = of_mapping(address, "Private_Clean:") +
			   of_mapping(address, "Private_Dirty:");
	find_frames(address, size, &findings);
	return findings;
}

/* The receiving process: gets one descriptor, reports, waits for the other side to go. */
static void receive(int socket, size_t size)
{
	struct findings findings;
	char byte;
	int file;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Count once in advance, so that the memory for counting is not counted. */
	number_in("/proc/self/status", "RssAnon:");
	file = descriptor_receive(socket);
	REQUIRE(file >= 0);
	findings = look_at(file, size);
	REQUIRE(send(socket, &findings, sizeof(findings), 0) == sizeof(findings));
	recv(socket, &byte, 1, 0);
	_exit(0);
}

/* Start a receiver, which calls @prepare first. */
static int start_receiver(size_t size, void (*prepare)(void))
{
	int pair[2];
	pid_t pid;

	REQUIRE(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	pid = fork();
	REQUIRE(pid >= 0);
	if (!pid) {
		close(pair[0]);
		if (prepare)
			prepare();
		receive(pair[1], size);
	}
	close(pair[1]);
	return pair[0];
}

static struct findings answer(int socket)
{
	struct findings findings = {};

	CHECK_EQ(recv(socket, &findings, sizeof(findings), 0), sizeof(findings));
	return findings;
}

/* Check that both ends map all pages, the same ones, and no private ones. */
static void check_shared(const struct findings *ours, const struct findings *theirs, size_t size)
{
	const struct findings *const both[] = { ours, theirs };
	size_t kib = pages(size) * page_size() / 1024;

	for (int i = 0; i < 2; i++) {
		CHECK(both[i]->right);
		CHECK_EQ(both[i]->count, pages(size));
		CHECK_EQ(both[i]->rss, kib);
		CHECK_EQ(both[i]->anonymous, 0);
		CHECK(both[i]->grown_anon <= 64);
		CHECK(both[i]->grown_file >= (long long)kib);
		CHECK(both[i]->bytes_read < 8192);
	}
	CHECK_EQ(theirs->first, ours->first);
	CHECK(theirs->frames == ours->frames);
}

static void hand_over(size_t size)
{
	int socket = start_receiver(size, NULL), file = open_size(mnt, size, O_RDONLY);
	struct findings ours = look_at(file, size), theirs;
	long long cached = number_in("/proc/meminfo", "Cached:");

	REQUIRE(!descriptor_send(socket, file));
	close(file);
	theirs = answer(socket);
	check_shared(&ours, &theirs, size);
	/* The second to map it sees that it is one of two. */
	CHECK_EQ(theirs.pss, theirs.rss / 2);
	CHECK_EQ(theirs.private, 0);
	CHECK(number_in("/proc/meminfo", "Cached:") - cached < 512);
}

POINT(small_file, "small pages: the same frames on both sides")
{
	hand_over(MIDDLE);
}

POINT(large_file, "huge pages: the same frames on both sides")
{
	hand_over(LARGE);
}

POINT(many_receivers, "eight receivers share one copy")
{
	int sockets[RECEIVERS], file = open_size(mnt, LARGE, O_RDONLY);
	long long before = number_in("/proc/meminfo", "MemAvailable:"), pss = 0;
	struct findings ours = look_at(file, LARGE), theirs;

	for (int i = 0; i < RECEIVERS; i++)
		sockets[i] = start_receiver(LARGE, NULL);
	for (int i = 0; i < RECEIVERS; i++) {
		REQUIRE(!descriptor_send(sockets[i], file));
		theirs = answer(sockets[i]);
		check_shared(&ours, &theirs, LARGE);
		/* Each is one more who shares it: the parent has it mapped in each child, too. */
		CHECK(theirs.pss < theirs.rss / (i + 1));
		pss = theirs.pss;
	}
	/* The last one sees its fair share. */
	CHECK(pss <= (long long)(LARGE / 1024 / (RECEIVERS + 1)));
	/* Eight processes have 16 MiB each; all together took page tables and stacks. */
	CHECK(before - number_in("/proc/meminfo", "MemAvailable:") < 65536);
}

/* The receiver does not see the mount, is another user, and has another root directory. */
static void become_stranger(void)
{
	REQUIRE(!unshare(CLONE_NEWNS) && !umount2(mnt, MNT_DETACH));
	/* Page frames are for root to see: only the user namespace's capabilities go. */
	REQUIRE(!chroot(work_dir()) && !chdir("/"));
	REQUIRE(!mkdir("proc", 0755) || errno == EEXIST);
	REQUIRE(!mount("proc", "/proc", "proc", 0, NULL));
	CHECK_FAILS(open("/mnt/sizes/4096", O_RDONLY), ENOENT);
}

POINT(other_namespace, "a receiver in another root without the mount")
{
	int socket = start_receiver(LARGE, become_stranger), file = open_size(mnt, LARGE, O_RDONLY);
	struct findings ours = look_at(file, LARGE), theirs;

	REQUIRE(!descriptor_send(socket, file));
	theirs = answer(socket);
	check_shared(&ours, &theirs, LARGE);
}

/* The receiver's mapping outlives the sender and the mount. */
POINT(sender_goes, "sender and mount may go")
{
	int pair[2], status, file;
	char *address;
	pid_t pid;

	REQUIRE(!unshare(CLONE_NEWNS));
	REQUIRE(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	pid = fork();
	if (!pid) {
		file = open_size(mnt, LARGE, O_RDONLY);
		_exit(descriptor_send(pair[1], file) != 0);
	}
	waitpid(pid, &status, 0);
	REQUIRE(!status);
	CHECK(!umount2(mnt, MNT_DETACH));
	file = descriptor_receive(pair[0]);
	REQUIRE(file >= 0);
	address = mmap(NULL, LARGE, PROT_READ, MAP_SHARED, file, 0);
	REQUIRE(address != MAP_FAILED);
	close(file);
	CHECK(pattern_matches(address, LARGE, LARGE, 0));
}

/* A descriptor gives no more rights than reading: the receiver need not be trusted. */
POINT(receiver_cannot_write, "a receiver cannot write")
{
	char path[64], *address;
	int pair[2], file;

	REQUIRE(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	REQUIRE(!descriptor_send(pair[0], open_size(mnt, LARGE, O_RDONLY)));
	file = descriptor_receive(pair[1]);
	CHECK(mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) == MAP_FAILED);
	CHECK_EQ(errno, EACCES);
	address = mmap(NULL, LARGE, PROT_READ, MAP_SHARED, file, 0);
	CHECK_FAILS(mprotect(address, LARGE, PROT_READ | PROT_WRITE), EACCES);
	CHECK_FAILS(write(file, "x", 1), EBADF);
	CHECK_FAILS(ftruncate(file, 0), EINVAL);
	CHECK_FAILS(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), EBADF);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	CHECK_FAILS(open(path, O_RDWR), EROFS);
}

/* Descriptor @number of another process (pidfd_getfd(2)). */
static int take(pid_t owner, int number)
{
	int pidfd = syscall(SYS_pidfd_open, owner, 0);
	int taken = syscall(SYS_pidfd_getfd, pidfd, number, 0);

	REQUIRE(taken >= 0);
	close(pidfd);
	return taken;
}

/* Without a message: one process takes a descriptor out of another. */
POINT(taken, "taken with pidfd_getfd")
{
	int file = open_size(mnt, LARGE, O_RDONLY), pair[2];
	struct findings ours = look_at(file, LARGE), theirs;
	pid_t sender = getpid(), receiver;

	REQUIRE(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	receiver = fork();
	if (!receiver) {
		close(file);
		theirs = look_at(take(sender, file), LARGE);
		_exit(send(pair[1], &theirs, sizeof(theirs), 0) != sizeof(theirs));
	}
	close(pair[1]);
	theirs = answer(pair[0]);
	check_shared(&ours, &theirs, LARGE);
	waitpid(receiver, NULL, 0);
}

/* The same through rings: the kernel is given the messages instead of being called. */
POINT(ring_messages, "io_uring: sent in a message")
{
	int socket = start_receiver(LARGE, NULL), file = open_size(mnt, LARGE, O_RDONLY);
	struct findings ours = look_at(file, LARGE), theirs;
	struct ring ring = ring_open();

	REQUIRE(!ring_descriptor_send(&ring, socket, file));
	theirs = answer(socket);
	check_shared(&ours, &theirs, LARGE);
}

/*
 * Files go from ring to ring, without any socket. The sender takes the receiver's ring once: sockets do
 * not carry rings.
 */
POINT(ring_to_ring, "io_uring: passed from ring to ring")
{
	int pair[2], file = open_size(mnt, LARGE, O_RDONLY), number, status;
	struct findings ours = look_at(file, LARGE), theirs;
	struct ring ring = ring_open();
	pid_t receiver;

	REQUIRE(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	receiver = fork();
	if (!receiver) {
		struct ring mine = ring_open();
		int got;

		REQUIRE(!ring_make_room(&mine, 4));
		REQUIRE(send(pair[1], &mine.fd, sizeof(mine.fd), 0) == sizeof(mine.fd));
		got = ring_descriptor_wait(&mine);
		REQUIRE(got >= 0);
		theirs = look_at(got, LARGE);
		_exit(send(pair[1], &theirs, sizeof(theirs), 0) != sizeof(theirs));
	}
	close(pair[1]);
	REQUIRE(recv(pair[0], &number, sizeof(number), 0) == sizeof(number));
	REQUIRE(!ring_make_room(&ring, 1));
	CHECK(!ring_descriptor_pass(&ring, take(receiver, number), file));
	theirs = answer(pair[0]);
	check_shared(&ours, &theirs, LARGE);
	waitpid(receiver, &status, 0);
	CHECK_EQ(status, 0);
}

int main(void)
{
	mnt = fixture_mount("tree");
	return ktap_run();
}
