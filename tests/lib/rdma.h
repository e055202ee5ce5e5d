/* SPDX-License-Identifier: GPL-2.0-only */
/* A software device for RDMA that pins memory. */
#ifndef RDMA_H
#define RDMA_H

#include "util.h"

/* Register memory for reading. Return 0, or -1 with the errno. End the point as skipped without such a device. */
int rdma_register(void *address, size_t length);

#endif
