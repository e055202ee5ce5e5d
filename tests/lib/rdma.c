// SPDX-License-Identifier: GPL-2.0-only
/* Registers memory for RDMA by the commands of /dev/infiniband/uverbs0, of a device that rdma_rxe makes. */
#include <linux/netlink.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_netlink.h>
#include <sys/socket.h>

#include "rdma.h"

#define VERBS "/dev/infiniband/uverbs0"

/* Add an attribute with a text to a message. */
static void add_text(struct nlmsghdr *message, int type, const char *text)
{
	struct nlattr *attribute = (void *)message + message->nlmsg_len;

	attribute->nla_type = type;
	attribute->nla_len = NLA_HDRLEN + strlen(text) + 1;
	memcpy((char *)attribute + NLA_HDRLEN, text, strlen(text) + 1);
	message->nlmsg_len += NLA_ALIGN(attribute->nla_len);
}

/* Make a device of type rxe on the loopback interface. */
static void make_device(void)
{
	union {
		struct nlmsghdr header;
		char bytes[512];
	} message = { .header = {
		.nlmsg_len = NLMSG_HDRLEN,
		.nlmsg_type = RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, RDMA_NLDEV_CMD_NEWLINK),
		.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
	} };
	struct nlmsgerr *answer = NLMSG_DATA(&message.header);
	int link = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_RDMA);

	if (link < 0 || system("modprobe -q -a ib_uverbs rdma_rxe && ip link set lo up"))
		SKIP("needs rdma_rxe");
	add_text(&message.header, RDMA_NLDEV_ATTR_DEV_NAME, "rxe0");
	add_text(&message.header, RDMA_NLDEV_ATTR_LINK_TYPE, "rxe");
	add_text(&message.header, RDMA_NLDEV_ATTR_NDEV_NAME, "lo");
	REQUIRE(send(link, &message, message.header.nlmsg_len, 0) > 0);
	REQUIRE(recv(link, &message, sizeof(message), 0) > 0);
	CHECK_EQ(answer->error, 0);
	close(link);
}

/* Call a command that has the address of its @answer in its first 8 bytes. Return 0, or -1 with the errno. */
static int verb(int device, u32 number, void *command, size_t length, void *answer, size_t room)
{
	char request[256];
	struct ib_uverbs_cmd_hdr header = {
		.command = number,
		.in_words = (sizeof(header) + length) / 4,
		.out_words = room / 4,
	};

	*(u64 *)command = (uintptr_t)answer;
	memcpy(request, &header, sizeof(header));
	memcpy(request + sizeof(header), command, length);
	return write(device, request, sizeof(header) + length) < 0 ? -1 : 0;
}

int rdma_register(void *address, size_t length)
{
	struct ib_uverbs_get_context context = {};
	struct ib_uverbs_get_context_resp new_context;
	struct ib_uverbs_alloc_pd domain = {};
	struct ib_uverbs_alloc_pd_resp new_domain;
	struct ib_uverbs_reg_mr memory = { .start = (uintptr_t)address, .length = length, .hca_va = (uintptr_t)address };
	struct ib_uverbs_reg_mr_resp new_memory;
	int device;

	if (access(VERBS, F_OK))
		make_device();
	device = open(VERBS, O_RDWR | O_CLOEXEC);
	REQUIRE(device >= 0);
	REQUIRE(!verb(device, IB_USER_VERBS_CMD_GET_CONTEXT, &context, sizeof(context), &new_context, sizeof(new_context)));
	REQUIRE(!verb(device, IB_USER_VERBS_CMD_ALLOC_PD, &domain, sizeof(domain), &new_domain, sizeof(new_domain)));
	memory.pd_handle = new_domain.pd_handle;
	return verb(device, IB_USER_VERBS_CMD_REG_MR, &memory, sizeof(memory), &new_memory, sizeof(new_memory));
}
