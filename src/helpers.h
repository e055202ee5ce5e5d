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

/* Exported, but declared in a header that is private to drivers/dax. */
struct dax_device;
struct iomap_ops;
struct inode *dax_inode(struct dax_device *dax_dev);

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
			       bool mixed, bool io);
vm_fault_t daxfs_helper_dax_fault(struct vm_fault *vmf, unsigned int order,
				  const struct iomap_ops *ops);
struct page *daxfs_helper_new_page(void);
void daxfs_helper_get_page(struct page *page);
void daxfs_helper_put_page(struct page *page);
void *daxfs_helper_page_address(struct page *page);
struct inode *daxfs_helper_folio_host(struct folio *folio);
u64 daxfs_helper_folio_offset(struct folio *folio);
void daxfs_helper_folio_end_read(struct folio *folio, bool success);
void daxfs_helper_holders_lock(void);
void daxfs_helper_holders_unlock(void);
void daxfs_helper_forget_pages(struct super_block *sb);
void daxfs_helper_page_failed(struct super_block *sb, struct page *page, int flags);
u64 daxfs_helper_sound_bytes(const void *from, u64 length);
struct page *daxfs_helper_frame_page(unsigned long frame);
bool daxfs_helper_pages_countable(void *from, u64 length);
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
struct file *daxfs_helper_get_file(struct file *file);
u64 daxfs_helper_file_size(struct file *file);
bool daxfs_helper_memfd_seals(struct file *file, unsigned int *seals);
unsigned int daxfs_helper_folio_pages(struct folio *folio);
struct page *daxfs_helper_folio_page(struct folio *folio, unsigned int number);
void *daxfs_helper_map_pages(struct page **pages, unsigned int count);
bool daxfs_helper_may_map_physical(void);
bool daxfs_helper_locked_down(void);
bool daxfs_helper_physical_valid(u64 address);
int daxfs_helper_physical_node(u64 address);
bool daxfs_helper_is_ram(u64 start, u64 size);
bool daxfs_helper_claim(u64 start, u64 size);
void daxfs_helper_unclaim(u64 start, u64 size);
void daxfs_helper_sha256_update(struct sha256_ctx *context, const u8 *data, size_t length);
bool daxfs_helper_log_allowed(void);

#endif /* DAXFS_HELPERS_H */
