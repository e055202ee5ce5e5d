// SPDX-License-Identifier: GPL-2.0
#include <linux/blkdev.h>
#include <linux/capability.h>
#include <linux/dax.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/huge_mm.h>
#include <linux/hugetlb.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/mutex.h>
#include <linux/namei.h>
#include <linux/numa.h>
#include <linux/percpu.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/ratelimit.h>
#include <linux/security.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>

#include "helpers.h"

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "trace.h"

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
			       bool mixed, bool io)
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
	if (io)
		desc->page_prot = pgprot_writecombine(desc->page_prot);
}

vm_fault_t daxfs_helper_dax_fault(struct vm_fault *vmf, unsigned int order,
				  const struct iomap_ops *ops)
{
	struct address_space *mapping = vmf->vma->vm_file->f_mapping;
	vm_fault_t result;

	/* Keeps daxfs_helper_forget_pages() from overlooking the page. */
	filemap_invalidate_lock_shared(mapping);
	result = dax_iomap_fault(vmf, order, NULL, NULL, ops);
	filemap_invalidate_unlock_shared(mapping);
	return result;
}

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

static DEFINE_MUTEX(holders);

void daxfs_helper_holders_lock(void)
{
	mutex_lock(&holders);
}

void daxfs_helper_holders_unlock(void)
{
	mutex_unlock(&holders);
}

/*
 * Makes all files of @sb forget the pages of their DAX device, and waits for those that have pinned
 * some. The caller has seen to it that no more are mapped.
 */
void daxfs_helper_forget_pages(struct super_block *sb)
{
	struct inode *inode, *previous = NULL;

	/* Keeps an unmount away, or waits for it, after which there is no root and no inode. */
	down_read(&sb->s_umount);
restart:
	spin_lock(&sb->s_inode_list_lock);
	list_for_each_entry(inode, &sb->s_inodes, i_sb_list) {
		/* Those that share another inode's pages have none of their own. */
		struct address_space *mapping = &inode->i_data;
		unsigned int state;

		spin_lock(&inode->i_lock);
		state = inode_state_read(inode);
		if (!IS_DAX(inode) || mapping_empty(mapping) || state & I_NEW) {
			spin_unlock(&inode->i_lock);
			continue;
		}
		if (state & (I_FREEING | I_WILL_FREE)) {
			/* Somebody else is evicting it. */
			spin_unlock(&inode->i_lock);
			spin_unlock(&sb->s_inode_list_lock);
			msleep(20);
			goto restart;
		}
		__iget(inode);
		spin_unlock(&inode->i_lock);
		spin_unlock(&sb->s_inode_list_lock);

		filemap_invalidate_lock(mapping);
		unmap_mapping_range(mapping, 0, 0, 0);
		dax_break_layout_final(inode);
		filemap_invalidate_unlock(mapping);

		iput(previous);
		previous = inode;
		cond_resched();
		spin_lock(&sb->s_inode_list_lock);
	}
	spin_unlock(&sb->s_inode_list_lock);
	iput(previous);
	up_read(&sb->s_umount);
}

static unsigned long frame_at(void *address)
{
	if (is_vmalloc_addr(address))
		return vmalloc_to_pfn(address);
	return PHYS_PFN(virt_to_phys(address));
}

#ifdef CONFIG_MEMORY_FAILURE
/*
 * Notes that the memory of @page failed, which belongs to that of @sb, and tells the processes that
 * map it.
 */
void daxfs_helper_page_failed(struct super_block *sb, struct page *page, int flags)
{
	struct folio *folio = page_folio(page);
	struct address_space *mapping;
	bool head = PageHWPoison(&folio->page);
	struct inode *inode = NULL;
	pgoff_t index;

	SetPageHWPoison(page);
	/* Keeps an unmount away, or waits for it. */
	down_read(&sb->s_umount);
	rcu_read_lock();
	mapping = READ_ONCE(folio->mapping);
	if (mapping) {
		index = READ_ONCE(folio->index) + folio_page_idx(folio, page);
		inode = igrab(mapping->host);
	}
	rcu_read_unlock();
	/* No two mappings ever have the page, so this finds all. */
	if (inode) {
		mf_dax_kill_procs(mapping, index, 1, flags);
		/* Others, whom it left alone, are to find out when they use it. */
		unmap_mapping_pages(mapping, index, 1, false);
		/* It takes the first page of an entry of 2 MiB for all of them. */
		if (!head && page != &folio->page)
			ClearPageHWPoison(&folio->page);
	}
	iput(inode);
	up_read(&sb->s_umount);
}
#else
void daxfs_helper_page_failed(struct super_block *sb, struct page *page, int flags)
{
}
#endif

struct page *daxfs_helper_frame_page(unsigned long frame)
{
	return pfn_to_page(frame);
}

/* How many of the @length bytes at @from there are in front of a page whose memory failed. */
u64 daxfs_helper_sound_bytes(const void *from, u64 length)
{
	u64 offset = offset_in_page(from), sound = 0;

	while (sound < length) {
		unsigned long frame = frame_at((void *)from + sound);

		if (pfn_valid(frame) && PageHWPoison(pfn_to_page(frame)))
			break;
		sound += PAGE_SIZE - offset;
		offset = 0;
	}
	return min(sound, length);
}

bool daxfs_helper_pages_countable(void *from, u64 length)
{
	void *end = from + length;

	for (; from < end; from += PAGE_SIZE) {
		unsigned long frame = frame_at(from);
		struct page *page;

		if (!pfn_valid(frame))
			return false;
		page = pfn_to_page(frame);
		if (!folio_ref_count(page_folio(page)) || PageAnon(page) || page_has_type(page))
			return false;
	}
	return true;
}

static vm_fault_t insert_page_at(struct vm_fault *vmf, unsigned long address, void *from,
				 bool frames)
{
	struct vm_fault here = { .vma = vmf->vma, .address = address };
	unsigned long frame = frame_at(from);

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
	unsigned long frame = frame_at(from);
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
		if (frame_at(from + i * PAGE_SIZE) != frame + i)
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

size_t daxfs_helper_copy_mc_to_iter(const void *from, size_t length, struct iov_iter *to)
{
	return _copy_mc_to_iter(from, length, to);
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

struct page *daxfs_helper_folio_page(struct folio *folio, unsigned int number)
{
	return folio_page(folio, number);
}

void *daxfs_helper_map_pages(struct page **pages, unsigned int count)
{
	return vmap(pages, count, VM_MAP, PAGE_KERNEL_RO);
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

bool daxfs_helper_claim(u64 start, u64 size)
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
