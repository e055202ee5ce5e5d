/* SPDX-License-Identifier: GPL-2.0-only */
/* Ways of handing an open file to another process. */
#ifndef DESCRIPTOR_H
#define DESCRIPTOR_H

#include "uring.h"

/* Send @file over a Unix socket, with a message of one byte. Return 0 or -1. */
int descriptor_send(int socket, int file);

/* Receive a file. Return its descriptor or -1. */
int descriptor_receive(int socket);

/* descriptor_send() and descriptor_receive() as requests to @ring. */
int ring_descriptor_send(struct ring *ring, int socket, int file);
int ring_descriptor_receive(struct ring *ring, int socket);

/* Make room for @count files that other rings pass. Return 0 or -1. */
int ring_make_room(struct ring *ring, unsigned int count);

/* Pass @file from @ring to another process's ring, @target. Return 0 or -1. */
int ring_descriptor_pass(struct ring *ring, int target, int file);

/* Wait for a file that is passed to @ring. Return a descriptor of it or -1. */
int ring_descriptor_wait(struct ring *ring);

#endif
