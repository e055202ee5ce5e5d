// SPDX-License-Identifier: GPL-2.0-only
/* Ways of handing an open file to another process. */
#include <sys/socket.h>

#include "descriptor.h"

/* The slot in the target's table for a file that is passed. */
#define SLOT 0

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

static void message_init(struct message *message)
{
	*message = (struct message){ .byte = 'f' };
	message->vector = (struct iovec){ &message->byte, 1 };
	message->header = (struct msghdr){
		.msg_iov = &message->vector,
		.msg_iovlen = 1,
		.msg_control = &message->control,
		.msg_controllen = sizeof(message->control),
	};
}

static void message_put(struct message *message, int file)
{
	struct cmsghdr *control;

	message_init(message);
	control = CMSG_FIRSTHDR(&message->header);
	control->cmsg_level = SOL_SOCKET;
	control->cmsg_type = SCM_RIGHTS;
	control->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(control), &file, sizeof(int));
}

/* The descriptor in a message that was received with @result. */
static int message_get(struct message *message, ssize_t result)
{
	struct cmsghdr *control = CMSG_FIRSTHDR(&message->header);
	int file;

	if (result != 1 || message->header.msg_flags & (MSG_CTRUNC | MSG_TRUNC) || !control ||
	    control->cmsg_type != SCM_RIGHTS || control->cmsg_len != CMSG_LEN(sizeof(int)))
		return -1;
	memcpy(&file, CMSG_DATA(control), sizeof(int));
	return file;
}

int descriptor_send(int socket, int file)
{
	struct message message;

	message_put(&message, file);
	return sendmsg(socket, &message.header, 0) == 1 ? 0 : -1;
}

int descriptor_receive(int socket)
{
	struct message message;

	message_init(&message);
	return message_get(&message, recvmsg(socket, &message.header, MSG_CMSG_CLOEXEC));
}

static int ring_message(struct ring *ring, int opcode, int socket, struct message *message)
{
	struct io_uring_sqe request = {
		.opcode = opcode,
		.fd = socket,
		.addr = (uintptr_t)&message->header,
		.len = 1,
	};

	return ring_do(ring, &request);
}

int ring_descriptor_send(struct ring *ring, int socket, int file)
{
	struct message message;

	message_put(&message, file);
	return ring_message(ring, IORING_OP_SENDMSG, socket, &message) == 1 ? 0 : -1;
}

int ring_descriptor_receive(struct ring *ring, int socket)
{
	struct message message;

	message_init(&message);
	return message_get(&message, ring_message(ring, IORING_OP_RECVMSG, socket, &message));
}

int ring_make_room(struct ring *ring, unsigned int count)
{
	int none[count];

	memset(none, -1, sizeof(none));
	return syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_FILES, none, count);
}

int ring_descriptor_pass(struct ring *ring, int target, int file)
{
	struct io_uring_files_update own = { .offset = SLOT, .fds = (uintptr_t)&file };
	struct io_uring_sqe request = {
		.opcode = IORING_OP_MSG_RING,
		.fd = target,
		.addr = IORING_MSG_SEND_FD,
		.addr3 = SLOT,
		.file_index = SLOT + 1,
	};

	/* A file must be in our own table to be passed. */
	if (syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_FILES_UPDATE, &own, 1) != 1)
		return -1;
	return ring_do(ring, &request) < 0 ? -1 : 0;
}

int ring_descriptor_wait(struct ring *ring)
{
	struct io_uring_sqe install = {
		.opcode = IORING_OP_FIXED_FD_INSTALL,
		.fd = SLOT,
		.flags = IOSQE_FIXED_FILE,
	};

	if (ring_wait(ring) < 0)
		return -1;
	return ring_do(ring, &install);
}
