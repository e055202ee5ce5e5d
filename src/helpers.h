/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * C inline functions and macros of the kernel, as functions that Rust can call, with hardly any
 * logic. Kbuild drops the prefix from the names. Differences between kernel versions
 * belong here.
 */
#ifndef DAXFS_HELPERS_H
#define DAXFS_HELPERS_H

#include <crypto/sha2.h>
#include <linux/dax.h>
#include <linux/fs.h>
#include <linux/kobject.h>
#include <linux/mm.h>
#include <linux/srcu.h>

struct dax_device;
struct dev_pagemap;
struct device;
struct dma_buf;
struct iomap;
struct resource;
struct tracepoint;

/* Exported, but declared in a header that is private to drivers/dax. */
struct inode *dax_inode(struct dax_device *dax_dev);

/* A probe of the tracepoint memory_failure_event. Its header is not the same in all kernels. */
typedef void (*btf_trace_memory_failure_event)(void *data, unsigned long pfn, int type,
					       int result);

/* src/linux/mm/iomap.rs implements these for the kernel's DAX code. */
int daxfs_iomap_begin(struct inode *inode, loff_t pos, loff_t length, unsigned int flags,
		      struct iomap *iomap, struct iomap *srcmap);
vm_fault_t daxfs_helper_dax_iomap_fault(struct vm_fault *vmf, unsigned int order);

/* The memory of a DAX device of this module. */
struct daxfs_range {
	void *base;
	unsigned long frame;
	unsigned long pages;
};

struct dax_device *daxfs_helper_alloc_range_dax(struct daxfs_range *range);

/* Block devices. */
void daxfs_helper_bdev_holder_unlock(struct block_device *bdev);

/* Inodes and superblocks. */
struct dentry *daxfs_helper_dget(struct dentry *dentry);
struct kmem_cache *daxfs_helper_kmem_cache_create(const char *name, unsigned int size,
						  unsigned int align, slab_flags_t flags,
						  void (*ctor)(void *object));
void *daxfs_helper_alloc_inode_sb(struct super_block *sb, struct kmem_cache *cache, gfp_t flags);
u32 daxfs_helper_inode_state_read_once(struct inode *inode);
void daxfs_helper_inode_init_attributes(struct inode *inode, u32 uid, u32 gid, u32 nlink,
					loff_t size, s64 sec, u32 nsec);
void daxfs_helper_i_size_write(struct inode *inode, loff_t size);
void daxfs_helper_inode_set_cached_link(struct inode *inode, char *link, int linklen);
void daxfs_helper_cache_no_acl(struct inode *inode);
void daxfs_helper_super_set_identity(struct super_block *sb, const u8 *uuid, const char *name);
void daxfs_helper_kill_super(struct super_block *sb);
int daxfs_helper_look_up(const char *name, umode_t *mode, dev_t *device);
bool daxfs_helper_dir_emit(struct dir_context *ctx, const char *name, int namelen, u64 ino,
			   unsigned int type);
void daxfs_helper_posix_acl_release(struct posix_acl *acl);

/* Mappings of files. */
#if __has_include("../internal.h")
#include "../internal.h"
#else
/* Exported functions, which only a header of the kernel's own tree declares. */
struct file *alloc_empty_backing_file(int flags, const struct cred *cred,
				      const struct file *user_file);
void backing_file_set_user_path(struct file *f, const struct path *path);
#endif
struct file *daxfs_helper_open_backing_file(struct file *file, struct address_space *mapping);
int daxfs_helper_security_mmap_backing_file(struct vm_area_struct *vma, struct file *backing,
					    struct file *user);
void daxfs_helper_vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags);
void daxfs_helper_vma_set_writecombine(struct vm_area_struct *vma);
void daxfs_helper_vma_set_noncached(struct vm_area_struct *vma);
static const int DAXFS_CACHE_WRITEBACK = 1;
static const int DAXFS_CACHE_WRITECOMBINE = 2;
static const int DAXFS_CACHE_UNCACHED = 3;
int daxfs_helper_cache_mode(unsigned long address, size_t *size);
bool daxfs_helper_uffd_disable_fault_around(struct vm_area_struct *vma);

/* Pages and folios. */
struct page *daxfs_helper_alloc_page(gfp_t flags);
void daxfs_helper_get_page(struct page *page);
void daxfs_helper_put_page(struct page *page);
void *daxfs_helper_page_address(struct page *page);
unsigned long daxfs_helper_address_to_pfn(const void *address);
bool daxfs_helper_pfn_valid(unsigned long pfn);
struct page *daxfs_helper_pfn_to_page(unsigned long pfn);
bool daxfs_helper_pfn_hwpoison(unsigned long pfn);
void daxfs_helper_pfn_set_hwpoison(unsigned long pfn, bool failed);
unsigned long daxfs_helper_pfn_folio(unsigned long pfn, unsigned long *hugetlb);
unsigned long daxfs_helper_pfn_pgoff(unsigned long pfn);
bool daxfs_helper_page_hwpoison(struct page *page);
struct folio *daxfs_helper_page_folio(struct page *page);
bool daxfs_helper_vmf_pmd_is_huge(struct vm_fault *vmf);
void daxfs_helper_vmf_clear_marker(struct vm_fault *vmf);
int daxfs_helper_map_kernel_pages(struct vm_area_struct *vma, unsigned long address,
				  struct page **pages, unsigned long count);
void daxfs_helper_release_fault_lock(struct vm_fault *vmf);
vm_fault_t daxfs_helper_filemap_fault_at_once(struct vm_fault *vmf, bool at_once);
struct file *daxfs_helper_get_file(struct file *file);
void daxfs_helper_folio_ref_inc(struct folio *folio);
void daxfs_helper_folio_put(struct folio *folio);
unsigned int daxfs_helper_folio_order(struct folio *folio);
void daxfs_helper_cond_resched(void);
bool daxfs_helper_may_sleep(void);
u32 daxfs_helper_dax_single_pages(struct address_space *mapping, struct page *page,
				  unsigned int count);
unsigned int *daxfs_helper_disk_badblocks_sequence(struct block_device *bdev);
unsigned long daxfs_helper_folio_nr_pages(struct folio *folio);
struct page *daxfs_helper_folio_page(struct folio *folio, unsigned long n);
bool daxfs_helper_folio_test_hugetlb(struct folio *folio);
struct inode *daxfs_helper_folio_inode(struct folio *folio);
loff_t daxfs_helper_folio_pos(struct folio *folio);
void *daxfs_helper_vmap_ro(struct page **pages, unsigned int count);
bool daxfs_helper_node_online(int node);
unsigned long daxfs_helper_node_failures(int node);

/* Copies. */
#ifndef CONFIG_ARCH_HAS_COPY_MC
unsigned long daxfs_helper_copy_mc_to_kernel(void *to, const void *from, unsigned int len);
#endif
size_t daxfs_helper_copy_mc_to_iter_nofault(const void *from, size_t bytes, struct iov_iter *to);
void daxfs_helper_memcpy_fromio(void *to, const void *from, size_t count);

/* Sources of memory. */
u64 daxfs_helper_bdev_nr_bytes(struct block_device *bdev);
void daxfs_helper_put_dev_pagemap(struct dev_pagemap *pgmap);
struct device *daxfs_helper_cdev_parent(struct inode *inode);
loff_t daxfs_helper_file_size(struct file *file);
int daxfs_helper_file_seals(struct file *file);
void daxfs_helper_get_dma_buf(struct dma_buf *buffer);
void daxfs_helper_dma_buf_lock(struct dma_buf *buffer);
int daxfs_helper_dma_buf_lock_interruptible(struct dma_buf *buffer);
void daxfs_helper_dma_buf_unlock(struct dma_buf *buffer);
int daxfs_helper_dma_buf_wait(struct dma_buf *buffer);
struct faux_device *daxfs_helper_faux_device_for_dma(const char *name);
int daxfs_helper_security_locked_down(unsigned int what);
bool daxfs_helper_is_in_one_resource(u64 start, u64 last);
bool daxfs_helper_is_soft_reserved(u64 start, u64 last);
u64 daxfs_helper_last_address(void);
unsigned long daxfs_helper_available_pages(void);
void *daxfs_helper_memremap_range(struct dev_pagemap *map, u64 start, u64 size);
struct resource *daxfs_helper_request_mem_region(u64 start, u64 size, const char *name);
void daxfs_helper_release_mem_region(u64 start, u64 size);

/* Directories in sysfs. */
struct kobject *daxfs_helper_fs_kobj(void);
void daxfs_helper_kobj_attribute_init(struct kobj_attribute *attribute, const char *name,
				      umode_t mode,
				      ssize_t (*show)(struct kobject *kobject,
						      struct kobj_attribute *attribute,
						      char *buffer));
int daxfs_helper_kobj_attribute_add(struct kobject *kobject,
				    const struct kobj_attribute *attribute);

/* Everything else. */
int daxfs_helper_init_srcu_struct_fast(struct srcu_struct *ssp);
struct srcu_ctr __percpu *daxfs_helper_srcu_read_lock_fast(struct srcu_struct *ssp);
void daxfs_helper_srcu_read_unlock_fast(struct srcu_struct *ssp, struct srcu_ctr __percpu *scp);
struct workqueue_struct *daxfs_helper_alloc_workqueue(const char *name, unsigned int flags);
bool daxfs_helper_mod_delayed_work(struct workqueue_struct *queue, struct delayed_work *work,
				   unsigned long delay);
void daxfs_helper_trace_daxfs_fault(dev_t dev, u64 ino, u64 offset, unsigned int order,
				    unsigned long address, unsigned long result);
void daxfs_helper_trace_daxfs_error(dev_t dev, u64 ino, const u8 *problem, size_t length,
				    u64 offset, u64 value);
struct tracepoint *daxfs_helper_memory_failure_tracepoint(void);
void daxfs_helper_tracepoint_synchronize_unregister(void);
void __percpu *daxfs_helper_alloc_percpu(size_t size, size_t align);
void daxfs_helper_this_cpu_add(u64 __percpu *number, u64 amount);
u64 *daxfs_helper_per_cpu_ptr(u64 __percpu *number, unsigned int cpu);
bool daxfs_helper_cpu_possible(unsigned int cpu);
unsigned int daxfs_helper_num_online_cpus(void);
void daxfs_helper_sha256_update(struct sha256_ctx *ctx, const u8 *data, size_t len);
struct key *daxfs_helper_keyring_alloc(const char *name);
int daxfs_helper_verify_pkcs7(const void *data, size_t length, const void *pkcs7,
			      size_t pkcs7_length, struct key *keyring);
void daxfs_helper_key_put(struct key *key);
#ifdef CONFIG_PCI
bool daxfs_helper_pci_range_is_memory(u64 start, u64 size);
bool daxfs_helper_pci_device_has_range(struct device *device, u64 start, u64 size);
#endif
bool daxfs_helper_capable(int cap);
bool daxfs_helper_fatal_signal_pending(void);
bool daxfs_helper_ratelimit(void);

#endif /* DAXFS_HELPERS_H */
