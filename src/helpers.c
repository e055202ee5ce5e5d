// SPDX-License-Identifier: GPL-2.0
#include <linux/blkdev.h>
#include <linux/posix_acl.h>
#include <linux/ratelimit.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#include "helpers.h"

struct kmem_cache *daxfs_helper_inode_cache_create(const char *name, unsigned int size,
						   unsigned int align, void (*ctor)(void *object))
{
	return kmem_cache_create(name, size, align, SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT, ctor);
}

void *daxfs_helper_alloc_inode(struct super_block *sb, struct kmem_cache *cache)
{
	return alloc_inode_sb(sb, cache, GFP_KERNEL);
}

bool daxfs_helper_inode_is_new(struct inode *inode)
{
	return inode_state_read_once(inode) & I_NEW;
}

void daxfs_helper_inode_set_owner(struct inode *inode, u32 uid, u32 gid)
{
	i_uid_write(inode, uid);
	i_gid_write(inode, gid);
}

void daxfs_helper_inode_set_times(struct inode *inode, s64 sec, u32 nsec)
{
	inode_set_mtime(inode, sec, nsec);
	inode_set_ctime(inode, sec, nsec);
	inode_set_atime(inode, sec, nsec);
}

void daxfs_helper_inode_set_size(struct inode *inode, loff_t size)
{
	i_size_write(inode, size);
}

void daxfs_helper_inode_set_link(struct inode *inode, char *target, int length)
{
	inode_set_cached_link(inode, target, length);
}

void daxfs_helper_inode_set_no_acl(struct inode *inode)
{
	cache_no_acl(inode);
}

void daxfs_helper_super_set_uuid(struct super_block *sb, const u8 *uuid)
{
	super_set_uuid(sb, uuid, UUID_SIZE);
}

void daxfs_helper_mmap_prepare(struct vm_area_desc *desc, const struct vm_operations_struct *ops)
{
	desc->vm_ops = ops;
	/* Huge entries cost nothing here, so have them with thp=madvise too. */
	vma_desc_set_flags(desc, VMA_HUGEPAGE_BIT);
}

unsigned long daxfs_helper_copy_mc(void *to, const void *from, unsigned int length)
{
	return copy_mc_to_kernel(to, from, length);
}

size_t daxfs_helper_copy_mc_to_iter(const void *from, size_t length, struct iov_iter *to)
{
	return _copy_mc_to_iter(from, length, to);
}

u64 daxfs_helper_bdev_bytes(struct block_device *bdev)
{
	return bdev_nr_bytes(bdev);
}

bool daxfs_helper_dir_emit(struct dir_context *context, const char *name, int length, u64 ino,
			   unsigned int type)
{
	return dir_emit(context, name, length, ino, type);
}

size_t daxfs_helper_iov_iter_count(const struct iov_iter *iter)
{
	return iov_iter_count(iter);
}

void daxfs_helper_sha256_update(struct sha256_ctx *context, const u8 *data, size_t length)
{
	sha256_update(context, data, length);
}

bool daxfs_helper_log_allowed(void)
{
	static DEFINE_RATELIMIT_STATE(limit, DEFAULT_RATELIMIT_INTERVAL, DEFAULT_RATELIMIT_BURST);

	return ___ratelimit(&limit, "daxfs");
}
