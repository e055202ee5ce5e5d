/* SPDX-License-Identifier: GPL-2.0-only */
/* Programs that are debugged, on each architecture that the tests know. */
#ifndef BREAKPOINT_H
#define BREAKPOINT_H

#include "util.h"

/* Start the helper at @path below @mount. It stops before its first instruction. */
pid_t traced_helper(const char *mount, const char *path);

/* Put a breakpoint there, reach it and remove it. Return false if the program's text cannot be read. */
bool reach_breakpoint(pid_t pid);

/* Let the helper continue to its end. */
void traced_end(pid_t pid);

#endif
