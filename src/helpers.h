/* SPDX-License-Identifier: GPL-2.0 */
/*
 * C inline functions and macros of the kernel, as functions that Rust can call. Differences between
 * kernel versions belong here.
 */
#ifndef DAXFS_HELPERS_H
#define DAXFS_HELPERS_H

#include <crypto/sha2.h>
#include <linux/dax.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/srcu.h>

/* Exported, but declared in a header that is private to drivers/dax. */
struct dax_device;
struct dev_pagemap;
struct device;
struct dma_buf;
struct iomap_ops;
struct resource;
struct inode *dax_inode(struct dax_device *dax_dev);

typedef int (*daxfs_resource_visitor)(struct resource *resource, void *arg);

/* In Rust, which cannot name the type of the operation: it has an enum, of which kCFI knows. */
long daxfs_direct_access(struct dax_device *device, pgoff_t page, long count, void **address,
			 unsigned long *frame);
long daxfs_helper_direct_access(struct dax_device *device, pgoff_t page, long count,
				enum dax_access_mode mode, void **address, unsigned long *frame);

struct kmem_cache *daxfs_helper_inode_cache_create(const char *name, unsigned int size,
						   unsigned int align, void (*ctor)(void *object));
void *daxfs_helper_alloc_inode(struct super_block *sb, struct kmem_cache *cache);
bool daxfs_helper_inode_is_new(struct inode *inode);
void daxfs_helper_inode_set_owner(struct inode *inode, u32 uid, u32 gid);
void daxfs_helper_inode_set_times(struct inode *inode, s64 sec, u32 nsec);
void daxfs_helper_inode_set_size(struct inode *inode, loff_t size);
void daxfs_helper_inode_set_link(struct inode *inode, char *target, int length);
void daxfs_helper_inode_set_no_acl(struct inode *inode);
bool daxfs_helper_capable_sys_admin(void);
int daxfs_helper_acl(struct super_block *sb, const void *value, size_t size,
		     struct posix_acl **acl);
u64 __percpu *daxfs_helper_tally_alloc(unsigned int count);
void daxfs_helper_tally_free(u64 __percpu *numbers);
void daxfs_helper_tally_add(u64 __percpu *pair, u64 amount);
u64 daxfs_helper_tally_sum(u64 __percpu *number);
void daxfs_helper_super_identify(struct super_block *sb, const u8 *uuid, const char *name);
void daxfs_helper_mmap_prepare(struct vm_area_desc *desc, const struct vm_operations_struct *ops,
			       bool mixed);
void daxfs_helper_mmap_writecombine(struct vm_area_desc *desc);
void daxfs_helper_mmap_noncached(struct vm_area_desc *desc);
u64 daxfs_helper_pte_cache(pte_t *pte);
u64 daxfs_helper_cache_writecombine(void);
size_t daxfs_helper_level_size(unsigned int level);
struct page *daxfs_helper_new_page(void);
void daxfs_helper_get_page(struct page *page);
void daxfs_helper_put_page(struct page *page);
void *daxfs_helper_page_address(struct page *page);
struct inode *daxfs_helper_folio_host(struct folio *folio);
u64 daxfs_helper_folio_offset(struct folio *folio);
void daxfs_helper_folio_end_read(struct folio *folio, bool success);
int daxfs_helper_readers_init(struct srcu_struct *readers);
struct srcu_ctr __percpu *daxfs_helper_readers_enter(struct srcu_struct *readers);
void daxfs_helper_readers_leave(struct srcu_struct *readers, struct srcu_ctr __percpu *counter);
struct workqueue_struct *daxfs_helper_alloc_workqueue(void);
void daxfs_helper_put_page_map(struct dev_pagemap *map);
unsigned long daxfs_helper_frame_at(const void *address);
bool daxfs_helper_frame_failed(unsigned long frame);
void daxfs_helper_mark_failed(unsigned long frame);
void daxfs_helper_unmark_failed(unsigned long frame);
unsigned long daxfs_helper_folio_frame(unsigned long frame);
unsigned long daxfs_helper_failures(void);
void daxfs_helper_tracepoint_synchronize(void);
vm_fault_t daxfs_helper_insert_pages(struct vm_fault *vmf, void *from, unsigned int count,
				     bool frames);
vm_fault_t daxfs_helper_insert_pmd(struct vm_fault *vmf, void *from, bool frames);
unsigned long daxfs_helper_copy_mc(void *to, const void *from, unsigned int length);
size_t daxfs_helper_copy_mc_to_iter(const void *from, size_t length, struct iov_iter *to);
void daxfs_helper_copy_from_io(void *to, const void *from, unsigned int length);
u64 daxfs_helper_bdev_bytes(struct block_device *bdev);
bool daxfs_helper_dir_emit(struct dir_context *context, const char *name, int length, u64 ino,
			   unsigned int type);
size_t daxfs_helper_iov_iter_count(const struct iov_iter *iter);
int daxfs_helper_lookup_device(const char *name, umode_t *mode, dev_t *number);
struct file *daxfs_helper_open(const char *name);
dev_t daxfs_helper_file_device(struct file *file);
struct device *daxfs_helper_file_parent(struct file *file);
struct file *daxfs_helper_get_file(struct file *file);
u64 daxfs_helper_file_size(struct file *file);
bool daxfs_helper_memfd_seals(struct file *file, unsigned int *seals);
unsigned int daxfs_helper_folio_pages(struct folio *folio);
bool daxfs_helper_folio_is_hugetlb(struct folio *folio);
struct page *daxfs_helper_folio_page(struct folio *folio, unsigned int number);
void *daxfs_helper_map_pages(struct page **pages, unsigned int count);
void daxfs_helper_dma_buf_lock(struct dma_buf *buffer);
int daxfs_helper_dma_buf_lock_interruptible(struct dma_buf *buffer);
void daxfs_helper_dma_buf_unlock(struct dma_buf *buffer);
int daxfs_helper_dma_all_memory(struct device *device);
bool daxfs_helper_may_map_physical(void);
bool daxfs_helper_locked_down(void);
bool daxfs_helper_physical_valid(u64 address);
int daxfs_helper_physical_node(u64 address);
bool daxfs_helper_is_ram(u64 start, u64 size);
int daxfs_helper_walk_prefetchable(u64 start, u64 end, void *arg, daxfs_resource_visitor visit);
int daxfs_helper_walk_memory(u64 start, u64 end, void *arg, daxfs_resource_visitor visit);
bool daxfs_helper_frame_valid(u64 frame);
struct resource *daxfs_helper_claim(u64 start, u64 size);
void daxfs_helper_unclaim(u64 start, u64 size);
void daxfs_helper_sha256_update(struct sha256_ctx *context, const u8 *data, size_t length);
bool daxfs_helper_log_allowed(void);

#endif /* DAXFS_HELPERS_H */
