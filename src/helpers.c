// SPDX-License-Identifier: GPL-2.0
#include <linux/blkdev.h>
#include <linux/capability.h>
#include <linux/cdev.h>
#include <linux/dax.h>
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/file.h>
#include <linux/huge_mm.h>
#include <linux/hugetlb.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/memremap.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/numa.h>
#include <linux/percpu.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/ratelimit.h>
#include <linux/security.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/tracepoint.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

#include "helpers.h"

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "trace.h"

long daxfs_helper_direct_access(struct dax_device *device, pgoff_t page, long count,
				enum dax_access_mode mode, void **address, unsigned long *frame)
{
	return daxfs_direct_access(device, page, count, address, frame);
}

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

bool daxfs_helper_capable_sys_admin(void)
{
	return capable(CAP_SYS_ADMIN);
}

/*
 * Makes the access control list that getxattr(2) shows as @value; NULL for one without entries.
 */
int daxfs_helper_acl(struct super_block *sb, const void *value, size_t size,
		     struct posix_acl **acl)
{
#ifdef CONFIG_FS_POSIX_ACL
	struct posix_acl *made = posix_acl_from_xattr(sb->s_user_ns, value, size);

	if (IS_ERR(made))
		return PTR_ERR(made);
	/* What an image says need not have gone through setxattr(2). */
	if (made && posix_acl_valid(sb->s_user_ns, made)) {
		posix_acl_release(made);
		return -EINVAL;
	}
	*acl = made;
#endif
	return 0;
}

u64 __percpu *daxfs_helper_tally_alloc(unsigned int count)
{
	return __alloc_percpu(count * sizeof(u64), sizeof(u64));
}

void daxfs_helper_tally_free(u64 __percpu *numbers)
{
	free_percpu(numbers);
}

void daxfs_helper_tally_add(u64 __percpu *pair, u64 amount)
{
	this_cpu_inc(pair[0]);
	this_cpu_add(pair[1], amount);
}

u64 daxfs_helper_tally_sum(u64 __percpu *number)
{
	unsigned int cpu;
	u64 sum = 0;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(number, cpu));
	return sum;
}

void daxfs_helper_super_identify(struct super_block *sb, const u8 *uuid, const char *name)
{
	super_set_uuid(sb, uuid, UUID_SIZE);
	super_set_sysfs_name_generic(sb, "%s", name);
}

void daxfs_helper_mmap_prepare(struct vm_area_desc *desc, const struct vm_operations_struct *ops,
			       bool mixed)
{
	desc->vm_ops = ops;
	/* Huge entries cost nothing here, so have them with thp=madvise too. */
	vma_desc_set_flags(desc, VMA_HUGEPAGE_BIT);
	if (mixed)
		/* No struct pages to be had here: get_user_pages() keeps away from I/O only. */
		vma_desc_set_flags(desc, VMA_MIXEDMAP_BIT, VMA_IO_BIT);
	else if (!IS_DAX(file_inode(desc->file)))
		/* The folios are not this file's: khugepaged must not look for them there. */
		vma_desc_set_flags(desc, VMA_DONTEXPAND_BIT);
}

void daxfs_helper_mmap_writecombine(struct vm_area_desc *desc)
{
	desc->page_prot = pgprot_writecombine(desc->page_prot);
}

void daxfs_helper_mmap_noncached(struct vm_area_desc *desc)
{
	desc->page_prot = pgprot_noncached(desc->page_prot);
}

#ifdef CONFIG_X86_64
u64 daxfs_helper_pte_cache(pte_t *pte)
{
	return pte_flags(ptep_get(pte)) & (_PAGE_PWT | _PAGE_PCD);
}

u64 daxfs_helper_cache_writecombine(void)
{
	return pgprot_val(pgprot_writecombine(PAGE_KERNEL)) & (_PAGE_PWT | _PAGE_PCD);
}

size_t daxfs_helper_level_size(unsigned int level)
{
	return page_level_size(level);
}
#endif

struct page *daxfs_helper_new_page(void)
{
	return alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
}

void daxfs_helper_get_page(struct page *page)
{
	get_page(page);
}

void daxfs_helper_put_page(struct page *page)
{
	put_page(page);
}

void *daxfs_helper_page_address(struct page *page)
{
	return page_address(page);
}

struct inode *daxfs_helper_folio_host(struct folio *folio)
{
	return folio->mapping->host;
}

u64 daxfs_helper_folio_offset(struct folio *folio)
{
	return folio_pos(folio);
}

void daxfs_helper_folio_end_read(struct folio *folio, bool success)
{
	folio_end_read(folio, success);
}

int daxfs_helper_readers_init(struct srcu_struct *readers)
{
	return init_srcu_struct_fast(readers);
}

struct srcu_ctr __percpu *daxfs_helper_readers_enter(struct srcu_struct *readers)
{
	return srcu_read_lock_fast(readers);
}

void daxfs_helper_readers_leave(struct srcu_struct *readers, struct srcu_ctr __percpu *counter)
{
	srcu_read_unlock_fast(readers, counter);
}

struct workqueue_struct *daxfs_helper_alloc_workqueue(void)
{
	return alloc_workqueue("daxfs", WQ_UNBOUND, 0);
}

void daxfs_helper_put_page_map(struct dev_pagemap *map)
{
	put_dev_pagemap(map);
}

unsigned long daxfs_helper_frame_at(const void *address)
{
	return is_vmalloc_addr(address) ? vmalloc_to_pfn(address) :
					  PHYS_PFN(virt_to_phys((void *)address));
}

/* hugetlb marks the folio, everybody else the page. */
bool daxfs_helper_frame_failed(unsigned long frame)
{
	struct page *page = pfn_valid(frame) ? pfn_to_page(frame) : NULL;

	return page && (PageHWPoison(page) ||
			(PageHuge(page) && folio_test_hwpoison(page_folio(page))));
}

void daxfs_helper_mark_failed(unsigned long frame)
{
	SetPageHWPoison(pfn_to_page(frame));
}

void daxfs_helper_unmark_failed(unsigned long frame)
{
	ClearPageHWPoison(pfn_to_page(frame));
}

unsigned long daxfs_helper_folio_frame(unsigned long frame)
{
	return folio_pfn(page_folio(pfn_to_page(frame)));
}

/* The number of failures that the machine has counted. */
unsigned long daxfs_helper_failures(void)
{
	unsigned long sum = 0;
#ifdef CONFIG_MEMORY_FAILURE
	int node;

	for_each_online_node(node)
		sum += READ_ONCE(NODE_DATA(node)->mf_stats.total);
#endif
	return sum;
}

void daxfs_helper_tracepoint_synchronize(void)
{
	tracepoint_synchronize_unregister();
}

static vm_fault_t insert_page_at(struct vm_fault *vmf, unsigned long address, void *from,
				 bool frames)
{
	struct vm_fault here = { .vma = vmf->vma, .address = address };
	unsigned long frame = daxfs_helper_frame_at(from);

	if (frames)
		return vmf_insert_mixed(vmf->vma, address, frame);
	return vmf_insert_page_mkwrite(&here, pfn_to_page(frame), false);
}

vm_fault_t daxfs_helper_insert_pages(struct vm_fault *vmf, void *from, unsigned int count,
				     bool frames)
{
	unsigned long address = vmf->address & PAGE_MASK;
	unsigned long end = pmd_addr_end(address, vmf->vma->vm_end);
	vm_fault_t result = insert_page_at(vmf, address, from, frames);

	/* A write is going to copy its page; its neighbours may wait. */
	if (vmf->flags & FAULT_FLAG_WRITE)
		return result;
	while (result == VM_FAULT_NOPAGE && --count) {
		address += PAGE_SIZE;
		from += PAGE_SIZE;
		if (address >= end ||
		    insert_page_at(vmf, address, from, frames) != VM_FAULT_NOPAGE)
			break;
	}
	return result;
}

#ifdef CONFIG_TRANSPARENT_HUGEPAGE
vm_fault_t daxfs_helper_insert_pmd(struct vm_fault *vmf, void *from, bool frames)
{
	unsigned long address = vmf->address & PMD_MASK;
	unsigned long frame = daxfs_helper_frame_at(from);
	unsigned int i;

	/* A private mapping copies what it writes, page by page. */
	if (vmf->flags & FAULT_FLAG_WRITE || address < vmf->vma->vm_start ||
	    address + PMD_SIZE > vmf->vma->vm_end || !IS_ALIGNED(frame, HPAGE_PMD_NR))
		return VM_FAULT_FALLBACK;
	/* /proc/PID/pagemap looks for the struct page of every such entry. */
	if (!pfn_valid(frame))
		return VM_FAULT_FALLBACK;
	/* A buffer may be put together of any pages, also of those of huge folios. */
	for (i = 1; i < HPAGE_PMD_NR; i++) {
		if (daxfs_helper_frame_at(from + i * PAGE_SIZE) != frame + i)
			return VM_FAULT_FALLBACK;
	}
	if (!frames) {
		struct folio *folio = page_folio(pfn_to_page(frame));

		if (folio_order(folio) != PMD_ORDER)
			return VM_FAULT_FALLBACK;
		return vmf_insert_folio_pmd(vmf, folio, false);
	}
	return vmf_insert_pfn_pmd(vmf, frame, false);
}
#else
vm_fault_t daxfs_helper_insert_pmd(struct vm_fault *vmf, void *from, bool frames)
{
	return VM_FAULT_FALLBACK;
}
#endif

unsigned long daxfs_helper_copy_mc(void *to, const void *from, unsigned int length)
{
	return copy_mc_to_kernel(to, from, length);
}

/* Copies no further than the destination is present. */
size_t daxfs_helper_copy_mc_to_iter(const void *from, size_t length, struct iov_iter *to)
{
	size_t copied;

	pagefault_disable();
	copied = _copy_mc_to_iter(from, length, to);
	pagefault_enable();
	return copied;
}

void daxfs_helper_copy_from_io(void *to, const void *from, unsigned int length)
{
	memcpy_fromio(to, (const void __iomem *)from, length);
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

/* What lookup_bdev() does, for any device. */
int daxfs_helper_lookup_device(const char *name, umode_t *mode, dev_t *number)
{
	struct inode *inode;
	struct path path;
	int error = kern_path(name, LOOKUP_FOLLOW, &path);

	if (error)
		return error;
	inode = d_backing_inode(path.dentry);
	*mode = inode->i_mode;
	*number = inode->i_rdev;
	if ((S_ISBLK(*mode) || S_ISCHR(*mode)) &&
	    (path.mnt->mnt_flags & MNT_NODEV || inode->i_sb->s_iflags & SB_I_NODEV))
		error = -EACCES;
	path_put(&path);
	return error;
}

struct file *daxfs_helper_open(const char *name)
{
	return filp_open(name, O_RDONLY | O_LARGEFILE, 0);
}

dev_t daxfs_helper_file_device(struct file *file)
{
	return file_inode(file)->i_rdev;
}

struct device *daxfs_helper_file_parent(struct file *file)
{
	return kobj_to_dev(file_inode(file)->i_cdev->kobj.parent);
}

struct file *daxfs_helper_get_file(struct file *file)
{
	return get_file(file);
}

u64 daxfs_helper_file_size(struct file *file)
{
	return i_size_read(file_inode(file));
}

/* Whether @file is readable shared memory that can have seals, and if so, which it has. */
bool daxfs_helper_memfd_seals(struct file *file, unsigned int *seals)
{
	struct inode *inode = file_inode(file);

	if (!(file->f_mode & FMODE_READ) || !S_ISREG(inode->i_mode))
		return false;
	if (shmem_mapping(file->f_mapping))
		*seals = SHMEM_I(inode)->seals;
#ifdef CONFIG_HUGETLBFS
	else if (is_file_hugepages(file))
		*seals = HUGETLBFS_I(inode)->seals;
#endif
	else
		return false;
	return true;
}

unsigned int daxfs_helper_folio_pages(struct folio *folio)
{
	return folio_nr_pages(folio);
}

bool daxfs_helper_folio_is_hugetlb(struct folio *folio)
{
	return folio_test_hugetlb(folio);
}

struct page *daxfs_helper_folio_page(struct folio *folio, unsigned int number)
{
	return folio_page(folio, number);
}

void *daxfs_helper_map_pages(struct page **pages, unsigned int count)
{
	return vmap(pages, count, VM_MAP, PAGE_KERNEL_RO);
}

void daxfs_helper_dma_buf_lock(struct dma_buf *buffer)
{
	dma_resv_lock(buffer->resv, NULL);
}

int daxfs_helper_dma_buf_lock_interruptible(struct dma_buf *buffer)
{
	return dma_resv_lock_interruptible(buffer->resv, NULL);
}

void daxfs_helper_dma_buf_unlock(struct dma_buf *buffer)
{
	dma_resv_unlock(buffer->resv);
}

int daxfs_helper_dma_all_memory(struct device *device)
{
	return dma_coerce_mask_and_coherent(device, DMA_BIT_MASK(64));
}

bool daxfs_helper_may_map_physical(void)
{
	return capable(CAP_SYS_RAWIO);
}

bool daxfs_helper_locked_down(void)
{
	return security_locked_down(LOCKDOWN_DEV_MEM);
}

bool daxfs_helper_physical_valid(u64 address)
{
	return address <= iomem_resource.end;
}

int daxfs_helper_physical_node(u64 address)
{
	return phys_to_target_node(address);
}

bool daxfs_helper_is_ram(u64 start, u64 size)
{
	return region_intersects(start, size, IORESOURCE_SYSTEM_RAM, IORES_DESC_NONE) !=
	       REGION_DISJOINT;
}

int daxfs_helper_walk_prefetchable(u64 start, u64 end, void *arg, daxfs_resource_visitor visit)
{
	return walk_iomem_res_desc(IORES_DESC_NONE, IORESOURCE_MEM | IORESOURCE_PREFETCH, start,
				   end, arg, visit);
}

int daxfs_helper_walk_memory(u64 start, u64 end, void *arg, daxfs_resource_visitor visit)
{
	return walk_iomem_res_desc(IORES_DESC_NONE, IORESOURCE_MEM, start, end, arg, visit);
}

bool daxfs_helper_frame_valid(u64 frame)
{
	return pfn_valid(frame);
}

struct resource *daxfs_helper_claim(u64 start, u64 size)
{
	return request_mem_region(start, size, "daxfs");
}

void daxfs_helper_unclaim(u64 start, u64 size)
{
	release_mem_region(start, size);
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

MODULE_IMPORT_NS("DMA_BUF");
