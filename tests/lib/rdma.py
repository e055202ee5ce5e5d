# SPDX-License-Identifier: GPL-2.0-only
"""Registers memory for RDMA by the commands of /dev/infiniband/uverbs0, of a device that rdma_rxe makes."""
import ctypes
import os
import socket
import struct

from lib.ktap import Skip, ended, equal

VERBS, NETLINK_RDMA, NEWLINK = "/dev/infiniband/uverbs0", 20, 5 << 10 | 3
GET_CONTEXT, ALLOC_PD, REG_MR = 0, 3, 9


def make_device():
    """Make a device of type rxe on the loopback interface."""
    if ended("modprobe -q -a ib_uverbs rdma_rxe && ip link set lo up")[0]:
        raise Skip("needs rdma_rxe")
    message = b""
    # RDMA_NLDEV_ATTR_DEV_NAME, _LINK_TYPE, _NDEV_NAME
    for kind, text in (2, b"rxe0\0"), (65, b"rxe\0"), (51, b"lo\0"):
        message += struct.pack("HH", 4 + len(text), kind) + text.ljust(-(-len(text) // 4) * 4, b"\0")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_RDMA) as link:
        link.send(struct.pack("IHHII", 16 + len(message), NEWLINK, 5, 0, 0) + message)
        equal(struct.unpack_from("i", link.recv(512), 16)[0], 0)


def verb(device, number, command=b"", room=8):
    """Call a command, which follows the address of its answer; return the first number of that."""
    answer = ctypes.create_string_buffer(room)
    command = struct.pack("Q", ctypes.addressof(answer)) + command
    os.write(device, struct.pack("IHH", number, (8 + len(command)) // 4, room // 4) + command)
    return struct.unpack_from("I", answer)[0]


def register(address, length):
    """Register memory for reading."""
    if not os.path.exists(VERBS):
        make_device()
    device = os.open(VERBS, os.O_RDWR)
    verb(device, GET_CONTEXT)
    verb(device, REG_MR, struct.pack("QQQII", address, length, address, verb(device, ALLOC_PD), 0), room=12)
