/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Declarations that helpers.c needs and no public header has. scripts/prototypes compares the
 * functions and the type of the probe with the BTF of the kernel.
 */
#ifndef DAXFS_HELPERS_H
#define DAXFS_HELPERS_H

#include <linux/fs.h>

struct dax_device;
struct iomap;

/* Exported, but declared in a header that is private to drivers/dax. */
struct inode *dax_inode(struct dax_device *dax_dev);

#if __has_include("../internal.h")
#include "../internal.h"
#else
/* Exported, but declared in a header of the kernel's own tree. */
struct file *alloc_empty_backing_file(int flags, const struct cred *cred,
				      const struct file *user_file);
void backing_file_set_user_path(struct file *f, const struct path *path);
#endif

/* A probe of the tracepoint memory_failure_event. Its header is not the same in all kernels. */
typedef void (*btf_trace_memory_failure_event)(void *data, unsigned long pfn, int type,
					       int result);

/* src/linux/mm/space.rs implements this for the kernel's DAX code. */
int daxfs_iomap_begin(struct inode *inode, loff_t pos, loff_t length, unsigned int flags,
		      struct iomap *iomap, struct iomap *srcmap);

#endif /* DAXFS_HELPERS_H */
