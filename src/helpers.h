/* SPDX-License-Identifier: GPL-2.0 */
/*
 * C inline functions and macros of the kernel, as functions that Rust can call. Differences between
 * kernel versions belong here.
 */
#ifndef DAXFS_HELPERS_H
#define DAXFS_HELPERS_H

#include <crypto/sha2.h>
#include <linux/fs.h>
#include <linux/mm.h>

struct kmem_cache *daxfs_helper_inode_cache_create(const char *name, unsigned int size,
						   unsigned int align, void (*ctor)(void *object));
void *daxfs_helper_alloc_inode(struct super_block *sb, struct kmem_cache *cache);
bool daxfs_helper_inode_is_new(struct inode *inode);
void daxfs_helper_inode_set_owner(struct inode *inode, u32 uid, u32 gid);
void daxfs_helper_inode_set_times(struct inode *inode, s64 sec, u32 nsec);
void daxfs_helper_inode_set_size(struct inode *inode, loff_t size);
void daxfs_helper_inode_set_link(struct inode *inode, char *target, int length);
void daxfs_helper_inode_set_no_acl(struct inode *inode);
void daxfs_helper_super_set_uuid(struct super_block *sb, const u8 *uuid);
void daxfs_helper_mmap_prepare(struct vm_area_desc *desc, const struct vm_operations_struct *ops);
unsigned long daxfs_helper_copy_mc(void *to, const void *from, unsigned int length);
size_t daxfs_helper_copy_mc_to_iter(const void *from, size_t length, struct iov_iter *to);
u64 daxfs_helper_bdev_bytes(struct block_device *bdev);
bool daxfs_helper_dir_emit(struct dir_context *context, const char *name, int length, u64 ino,
			   unsigned int type);
size_t daxfs_helper_iov_iter_count(const struct iov_iter *iter);
void daxfs_helper_sha256_update(struct sha256_ctx *context, const u8 *data, size_t length);
bool daxfs_helper_log_allowed(void);

#endif /* DAXFS_HELPERS_H */
