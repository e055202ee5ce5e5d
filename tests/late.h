/* SPDX-License-Identifier: GPL-2.0-only */
/* A function in a later piece of 2 MiB of the program late. */
#ifndef LATE_H
#define LATE_H

void late(void);

#endif
