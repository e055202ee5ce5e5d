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

#include "util.h"

static const char *mnt;

/* A message of one byte with room for one descriptor. */
struct message {
	struct msghdr header;
	struct iovec vector;
	char byte;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
};

static struct cmsghdr *message_init(struct message *message)
{
	*message = (struct message){ .byte = 'f' };
	message->vector = (struct iovec){ &message->byte, 1 };
	message->header = (struct msghdr){
		.msg_iov = &message->vector,
		.msg_iovlen = 1,
		.msg_control = &message->control,
		.msg_controllen = sizeof(message->control),
	};
	return CMSG_FIRSTHDR(&message->header);
}

static void send_file(int socket, int file)
{
	struct message message;
	struct cmsghdr *control = message_init(&message);

	control->cmsg_level = SOL_SOCKET;
	control->cmsg_type = SCM_RIGHTS;
	control->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(control), &file, sizeof(int));
	REQUIRE(sendmsg(socket, &message.header, 0) == 1);
}

static int receive_file(int socket)
{
	struct message message;
	struct cmsghdr *control = message_init(&message);
	int file;

	REQUIRE(recvmsg(socket, &message.header, MSG_CMSG_CLOEXEC) == 1);
	REQUIRE(control->cmsg_type == SCM_RIGHTS && control->cmsg_len == CMSG_LEN(sizeof(int)));
	memcpy(&file, CMSG_DATA(control), sizeof(int));
	return file;
}

/* Map @file, check its content, and return its page frames as one number. No memory may be taken for it. */
static u64 look_at(int file, size_t size)
{
	long long anon = number_in("/proc/self/status", "RssAnon:");
	char *address = mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0);
	size_t count = page_round(size) / page_size();
	u64 *frames = malloc(count * sizeof(*frames)), all = 0;

	REQUIRE(address != MAP_FAILED && frames);
	CHECK(pattern_matches(address, size, size, 0));
	page_frames(address, count, frames);
	for (size_t i = 0; i < count; i++) {
		CHECK(frames[i]);
		all = (all ^ frames[i]) * 0x100000001b3ULL;
	}
	free(frames);
	CHECK(number_in("/proc/self/status", "RssAnon:") - anon <= 64);
	return all;
}

/* See no mount, and have another root directory. */
static void become_stranger(void)
{
	REQUIRE(!unshare(CLONE_NEWNS) && !umount2(mnt, MNT_DETACH));
	REQUIRE(!chroot(work_dir()) && !chdir("/"));
	REQUIRE(!mkdir("proc", 0755) || errno == EEXIST);
	REQUIRE(!mount("proc", "/proc", "proc", 0, NULL));
	CHECK_FAILS(open("/mnt/sizes/4096", O_RDONLY), ENOENT);
}

static void hand_over(size_t size)
{
	int file = open_size(mnt, size, O_RDONLY), pair[2], status;
	long long cached = number_in("/proc/meminfo", "Cached:");
	u64 theirs;
	pid_t pid;

	REQUIRE(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	pid = fork();
	REQUIRE(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(file);
		become_stranger();
		theirs = look_at(receive_file(pair[1]), size);
		REQUIRE(send(pair[1], &theirs, sizeof(theirs), 0) == sizeof(theirs));
		_exit(ktap_point->failed);
	}
	close(pair[1]);
	send_file(pair[0], file);
	REQUIRE(recv(pair[0], &theirs, sizeof(theirs), 0) == sizeof(theirs));
	CHECK(theirs == look_at(file, size));
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	CHECK(number_in("/proc/meminfo", "Cached:") - cached < 512);
}

POINT(small_file, "small pages: the same frames in another root without the mount")
{
	hand_over(MIDDLE);
}

POINT(large_file, "huge pages: the same frames in another root without the mount")
{
	hand_over(LARGE);
}

/* The receiver's mapping outlives the sender and the mount. */
POINT(sender_goes, "sender and mount may go")
{
	int pair[2], status;
	pid_t pid;

	REQUIRE(!unshare(CLONE_NEWNS));
	REQUIRE(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	pid = fork();
	if (!pid) {
		send_file(pair[1], open_size(mnt, LARGE, O_RDONLY));
		_exit(0);
	}
	waitpid(pid, &status, 0);
	REQUIRE(!status);
	CHECK(!umount2(mnt, MNT_DETACH));
	look_at(receive_file(pair[0]), LARGE);
}

/* A descriptor gives no more rights than reading: the receiver need not be trusted. */
POINT(receiver_cannot_write, "a receiver cannot write")
{
	char path[64], *address;
	int pair[2], file;

	REQUIRE(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	send_file(pair[0], open_size(mnt, LARGE, O_RDONLY));
	file = receive_file(pair[1]);
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

int main(void)
{
	mnt = fixture_mount("tree");
	return ktap_run();
}
