// SPDX-License-Identifier: GPL-2.0-only
/*
 * Macros of the kernel, and what differs between its versions, as functions that Rust can call,
 * with hardly any logic. bindgen reads this file without the bodies of functions, and Kbuild drops
 * the prefix from the names. Inline functions need nothing here: bindgen writes functions that call
 * them.
 */
#include "bindings.h"
#ifdef CONFIG_X86
#include <asm/memtype.h>
#endif
#ifdef DAXFS_VERSION
/* Outside the kernel's tree: the prototypes of helpers.h as the kernel's BTF has them. */
#include "prototypes_generated.h"
#endif

/* Kernels from 7.4 on take the function itself. */
#ifdef DAXFS_DAX_TAKES_NEXT
static DEFINE_IOMAP_ITER_NEXT(daxfs_iomap, daxfs_iomap_begin);
#endif

vm_fault_t daxfs_helper_dax_iomap_fault(struct vm_fault *vmf, unsigned int order)
{
#ifndef DAXFS_DAX_TAKES_NEXT
	static const struct iomap_ops daxfs_iomap[] = { { .iomap_begin = daxfs_iomap_begin } };

#endif
	return dax_iomap_fault(vmf, order, NULL, NULL, daxfs_iomap);
}

/* Pages of DAX in this address space may be pinned for long, because files never lose them. */
void daxfs_helper_mapping_set_dax_longterm(struct address_space *mapping)
{
#ifdef DAXFS_DAX_LONGTERM
	mapping_set_dax_longterm(mapping);
#endif
}

void *daxfs_helper_alloc_inode_sb(struct super_block *sb, struct kmem_cache *cache, gfp_t flags)
{
	return alloc_inode_sb(sb, cache, flags);
}

static unsigned long daxfs_user_memory;
module_param_named(user_memory, daxfs_user_memory, ulong, 0644);
MODULE_PARM_DESC(user_memory,
		 "Bytes of memfds that mounts of one ordinary user keep pinned; 0: only root mounts");

/* Return the memory that one ordinary user's mounts may keep pinned, in bytes. */
unsigned long daxfs_helper_user_memory(void)
{
	return READ_ONCE(daxfs_user_memory);
}

/*
 * Root mounts; so does root of another user namespace where the parameter allows it, who is not
 * asked for root's rights: security modules log that.
 */
bool daxfs_helper_may_mount(struct fs_context *fc)
{
	bool is_root = fc->user_ns == &init_user_ns || !daxfs_helper_user_memory();

	return is_root ? capable(CAP_SYS_ADMIN) : ns_capable(fc->user_ns, CAP_SYS_ADMIN);
}

/*
 * Return false for the initial user namespace. Otherwise, get the number of the namespace, and the
 * user who pays for all that happens in it: users own namespaces below the initial one, and make
 * as many inside them as they like.
 */
bool daxfs_helper_user_of(struct user_namespace *ns, u32 *uid, u32 *number)
{
	if (ns == &init_user_ns)
		return false;
	*number = ns->ns.inum;
	while (ns->parent != &init_user_ns)
		ns = ns->parent;
	*uid = __kuid_val(ns->owner);
	return true;
}

/*
 * Set attributes of a new inode. In the initial user namespace all owners stand for themselves, and
 * mapping them costs as much as setting up the rest of the inode.
 */
void daxfs_helper_inode_init_attributes(struct inode *inode, u32 uid, u32 gid, u32 nlink,
					loff_t size, s64 sec, u32 nsec)
{
	if (i_user_ns(inode) == &init_user_ns) {
		inode->i_uid = KUIDT_INIT(uid);
		inode->i_gid = KGIDT_INIT(gid);
	} else {
		i_uid_write(inode, uid);
		i_gid_write(inode, gid);
	}
	inode_set_mtime(inode, sec, nsec);
	inode_set_ctime(inode, sec, nsec);
	inode_set_atime(inode, sec, nsec);
	i_size_write(inode, size);
	set_nlink(inode, nlink);
}

void daxfs_helper_super_set_identity(struct super_block *sb, const u8 *uuid)
{
	super_set_uuid(sb, uuid, UUID_SIZE);
	if (sb->s_user_ns != &init_user_ns)
		sb->s_iflags |= SB_I_UNTRUSTED_MOUNTER;
	super_set_sysfs_name_generic(sb, "%u:%u", MAJOR(sb->s_dev), MINOR(sb->s_dev));
	/* A superblock of a whole block device has its name already. */
	if (!MAJOR(sb->s_dev))
		scnprintf(sb->s_id, sizeof(sb->s_id), "0:%u", MINOR(sb->s_dev));
}

/*
 * Set the fields that setup_bdev_super() would set. s_bdev stays NULL, as on MTD: the device was
 * opened before the superblock existed, and its holder is another object.
 */
void daxfs_helper_super_set_bdev(struct super_block *sb, struct block_device *bdev)
{
	sb->s_bdi = bdi_get(bdev->bd_disk->bdi);
	scnprintf(sb->s_id, sizeof(sb->s_id), "%pg", bdev);
}

void daxfs_helper_kill_super(struct super_block *sb)
{
	if (MAJOR(sb->s_dev))
		generic_shutdown_super(sb);
	else
		kill_anon_super(sb);
}

bool daxfs_helper_bdev_has_dax(struct block_device *bdev)
{
	return blk_queue_dax(bdev_get_queue(bdev));
}

/* Look up a path. Fail for a device that cannot be opened there. */
int daxfs_helper_look_up(const char *name, umode_t *mode, dev_t *device)
{
	struct inode *inode;
	struct path path;
	int error = kern_path(name, LOOKUP_FOLLOW, &path);

	if (error)
		return error;
	inode = d_backing_inode(path.dentry);
	*mode = inode->i_mode;
	*device = inode->i_rdev;
	if ((S_ISBLK(*mode) || S_ISCHR(*mode)) &&
	    (path.mnt->mnt_flags & MNT_NODEV || inode->i_sb->s_iflags & SB_I_NODEV))
		error = -EACCES;
	path_put(&path);
	return error;
}

/*
 * Make a file with the path and inode of @file, and @mapping as its address space. It was never
 * opened (FMODE_OPENED), so it is not announced to watchers, neither now nor when it is freed.
 */
struct file *daxfs_helper_open_backing_file(struct file *file, struct address_space *mapping)
{
	/*
	 * A security module labels the new file for the current credentials, and compares both: so
	 * use the open file's credentials, not the process's.
	 */
	const struct cred *current_cred = override_creds(file->f_cred);
	struct file *new = alloc_empty_backing_file(O_RDONLY, file->f_cred, file);

	revert_creds(current_cred);
	if (IS_ERR(new))
		return new;
	/* The path that is shown, and that is put when the file is freed. */
	path_get(&file->f_path);
	backing_file_set_user_path(new, &file->f_path);
	/* The same path again. Nothing puts it, as the file was never opened. */
	new->__f_path = file->f_path;
	new->f_inode = file->f_inode;
	new->f_op = file->f_op;
	new->f_mapping = mapping;
	/*
	 * The kernel reads build IDs through the file of an area, which watchers see unless they
	 * opened the file themselves.
	 */
	new->f_mode &= ~FMODE_FSNOTIFY_MASK;
	new->f_mode |= FMODE_CAN_READ | FMODE_PREAD;
	new->f_mode |= READ_ONCE(file->f_mode) & FMODE_FSNOTIFY_MASK;
	return new;
}

/* As for a user of the file, who need not be allowed to read it: the content is ours. */
ssize_t daxfs_helper_splice_from(struct file *file, loff_t *position, struct pipe_inode_info *pipe,
				 size_t length, unsigned int flags)
{
	if (!file->f_op->splice_read)
		return -EOPNOTSUPP;
	return file->f_op->splice_read(file, position, pipe, length, flags);
}

struct page *daxfs_helper_alloc_page(gfp_t flags)
{
	return alloc_page(flags);
}

unsigned long daxfs_helper_address_to_pfn(const void *address)
{
	return is_vmalloc_addr(address) ? vmalloc_to_pfn(address) :
					  PHYS_PFN(virt_to_phys((void *)address));
}

struct page *daxfs_helper_pfn_to_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}

/* A poisoned page frame, which need not have a struct page. hugetlb marks the folio only. */
bool daxfs_helper_pfn_hwpoison(unsigned long pfn)
{
	struct page *page = pfn_valid(pfn) ? pfn_to_page(pfn) : NULL;
	struct folio *folio;

	if (!page)
		return false;
	folio = page_folio(page);
	return PageHWPoison(page) || (folio_test_hugetlb(folio) && folio_test_hwpoison(folio));
}

void daxfs_helper_pfn_set_hwpoison(unsigned long pfn, bool failed)
{
	if (!pfn_valid(pfn))
		return;
	if (failed)
		SetPageHWPoison(pfn_to_page(pfn));
	else
		ClearPageHWPoison(pfn_to_page(pfn));
}

/* Return the first page frame of the folio of one that keeps its struct page, if it has one. */
unsigned long daxfs_helper_pfn_folio(unsigned long pfn)
{
	return pfn_valid(pfn) ? folio_pfn(pfn_folio(pfn)) : pfn;
}

/*
 * Clear a userfaultfd(2) marker in the entry that a fault found, unless it has changed since. This
 * is pte_offset_map_lock(), which is not exported. The MM clears all other markers itself.
 */
void daxfs_helper_vmf_clear_marker(struct vm_fault *vmf)
{
	pmd_t pmd;
	pte_t *pte;
	spinlock_t *lock; /* of the page table */

	if (!(vmf->flags & FAULT_FLAG_ORIG_PTE_VALID) || pte_none(vmf->orig_pte))
		return;
	rcu_read_lock();
	pmd = pmdp_get_lockless(vmf->pmd);
	if (!pmd_none(pmd) && pmd_present(pmd) && !pmd_leaf(pmd)) {
		pte = pte_offset_kernel(&pmd, vmf->address);
		lock = pte_lockptr(vmf->vma->vm_mm, &pmd);
		spin_lock(lock);
		if (pmd_same(pmd, pmdp_get_lockless(vmf->pmd)) &&
		    pte_same(vmf->orig_pte, ptep_get(pte)))
			pte_clear(vmf->vma->vm_mm, vmf->address, pte);
		spin_unlock(lock);
	}
	rcu_read_unlock();
}

/* Return true if another thread has set a PMD entry since the MM looked. */
bool daxfs_helper_vmf_pmd_is_huge(struct vm_fault *vmf)
{
	return pmd_trans_huge(pmdp_get_lockless(vmf->pmd));
}

/*
 * Insert pages into page tables until an entry is set already (-EBUSY). vm_insert_pages() would
 * need VM_MIXEDMAP, see "Fault-around" in Documentation/design.rst. Otherwise, each page is
 * inserted as by vmf_insert_page_mkwrite().
 */
int daxfs_helper_map_kernel_pages(struct vm_area_struct *vma, unsigned long address,
				  struct page **pages, unsigned long count)
{
	struct mmap_action action = {
		.map_kernel = { .start = address, .pages = pages, .nr_pages = count },
	};

	if (!range_in_vma(vma, address, address + count * PAGE_SIZE))
		return -EFAULT;
	return map_kernel_pages_complete(vma, &action);
}

/* Number of pages that one fault maps at most. */
static const unsigned int DAXFS_AROUND = 16;

/* The struct pages of contiguous frames are contiguous: the next function and Rust rely on that. */
static_assert(IS_ENABLED(CONFIG_SPARSEMEM_VMEMMAP));

/*
 * Return a bit for each of count pages from page on, number index of an address space, that belongs
 * to the space as a single page. The DAX code sets the owner of a page and stores its entry under
 * the lock. If all of DAXFS_AROUND pages belong to it, mark the first entry: other processes that
 * map the same pages take no lock then. The DAX code uses this mark for writes only. It deletes
 * entries in ascending order, and their marks with them.
 */
u32 daxfs_helper_dax_single_pages(struct address_space *mapping, pgoff_t index, struct page *page,
				  unsigned int count)
{
	const u32 all = GENMASK(DAXFS_AROUND - 1, 0);
	u32 bits = 0;

	if (count == DAXFS_AROUND && xa_get_mark(&mapping->i_pages, index, PAGECACHE_TAG_TOWRITE))
		return all;
	xa_lock_irq(&mapping->i_pages);
	for (unsigned int n = 0; n < count; n++) {
		if (!PageCompound(page + n) && page_folio(page + n)->mapping == mapping)
			bits |= BIT(n);
	}
	if (count == DAXFS_AROUND && bits == all)
		__xa_set_mark(&mapping->i_pages, index, PAGECACHE_TAG_TOWRITE);
	xa_unlock_irq(&mapping->i_pages);
	return bits;
}

/*
 * Get a page if it belongs to an address space, alone or in a huge page. It may have no user yet.
 * The kernel marks the first page of a huge page for a moment when another one fails, and the MM,
 * which looks at the mark, would send SIGBUS.
 */
bool daxfs_helper_dax_get_page(struct address_space *mapping, struct page *page)
{
	struct folio *folio;
	bool known;

	xa_lock_irq(&mapping->i_pages);
	folio = page_folio(page);
	known = folio->mapping == mapping &&
		(page != &folio->page || !folio_test_large(folio));
	if (known)
		folio_ref_inc(folio);
	xa_unlock_irq(&mapping->i_pages);
	return known;
}

unsigned int *daxfs_helper_disk_badblocks_sequence(struct block_device *bdev)
{
	struct badblocks *list = bdev->bd_disk->bb;

	/* Every change of the list takes its lock for writing, which counts. */
	return list ? &list->lock.seqcount.seqcount.sequence : NULL;
}

bool daxfs_helper_memory_failed_before(void)
{
#ifdef CONFIG_MEMORY_FAILURE
	int node;

	for_each_online_node(node) {
		if (READ_ONCE(NODE_DATA(node)->mf_stats.total))
			return true;
	}
#endif
	return false;
}

#ifndef CONFIG_ARCH_HAS_COPY_MC
unsigned long daxfs_helper_copy_mc_to_kernel(void *to, const void *from, unsigned int len)
{
	return copy_mc_to_kernel(to, from, len);
}
#endif

/* Copy bytes to the present pages of a destination. Faults and machine checks end the copy. */
size_t daxfs_helper_copy_mc_to_iter_nofault(const void *from, size_t bytes, struct iov_iter *to)
{
	size_t copied;

	pagefault_disable();
	copied = _copy_mc_to_iter(from, bytes, to);
	pagefault_enable();
	return copied;
}

struct device *daxfs_helper_cdev_parent(struct inode *inode)
{
	return kobj_to_dev(inode->i_cdev->kobj.parent);
}

/* Readers of all values that can be revoked, see linux/srcu.rs. */
DEFINE_STATIC_SRCU_FAST(daxfs_readers);

/* bindgen does not know __percpu. */
struct srcu_ctr __percpu *daxfs_helper_readers_enter(void)
{
	return srcu_read_lock_fast(&daxfs_readers);
}

void daxfs_helper_readers_leave(struct srcu_ctr __percpu *scp)
{
	srcu_read_unlock_fast(&daxfs_readers, scp);
}

void daxfs_helper_readers_wait(void)
{
	synchronize_srcu_expedited(&daxfs_readers);
}

/* Return the grace period that ends after all readers of now have left. */
unsigned long daxfs_helper_readers_period(void)
{
	return get_state_synchronize_srcu(&daxfs_readers);
}

bool daxfs_helper_readers_gone(unsigned long period)
{
	return poll_state_synchronize_srcu(&daxfs_readers, period);
}

struct workqueue_struct *daxfs_helper_alloc_workqueue(const char *name, unsigned int flags)
{
	return alloc_workqueue("%s", flags, 0, name);
}

static void daxfs_find_failures(struct tracepoint *tracepoint, void *found)
{
	if (!strcmp(tracepoint->name, "memory_failure_event"))
		*(struct tracepoint **)found = tracepoint;
}

struct tracepoint *daxfs_helper_memory_failure_tracepoint(void)
{
	struct tracepoint *found = NULL;

	if (IS_ENABLED(CONFIG_TRACEPOINTS))
		for_each_kernel_tracepoint(daxfs_find_failures, &found);
	return found;
}

static DEFINE_RATELIMIT_STATE(daxfs_log, DEFAULT_RATELIMIT_INTERVAL, DEFAULT_RATELIMIT_BURST);

bool daxfs_helper_ratelimit(void)
{
	return ___ratelimit(&daxfs_log, "daxfs");
}

/*
 * Make a list of the value of an extended attribute, and check it as setxattr(2) does. Fail with
 * EACCES if it is valid, but names owners that the namespace does not have: root of the namespace
 * has access by its capabilities then, and nobody by the list. The list stays with the inode, so a
 * user pays for it.
 */
struct posix_acl *daxfs_helper_valid_posix_acl(struct user_namespace *namespace, const void *value,
					       size_t length)
{
#ifdef CONFIG_FS_POSIX_ACL
	struct posix_acl *acl = posix_acl_from_xattr(namespace, value, length);
	int error = IS_ERR(acl) ? PTR_ERR(acl) : acl ? posix_acl_valid(namespace, acl) : 0;

	if (!error && (namespace == &init_user_ns || !acl))
		return acl;
	if (!error) {
		struct posix_acl *charged = posix_acl_clone(acl, GFP_KERNEL_ACCOUNT);

		posix_acl_release(acl);
		return charged ?: ERR_PTR(-ENOMEM);
	}
	if (!IS_ERR(acl))
		posix_acl_release(acl);
	if (namespace == &init_user_ns || error == -ENOMEM)
		return ERR_PTR(error);
	acl = daxfs_helper_valid_posix_acl(&init_user_ns, value, length);
	if (IS_ERR(acl))
		return acl;
	posix_acl_release(acl);
	return ERR_PTR(-EACCES);
#else
	return NULL;
#endif
}

void daxfs_helper_attr_init(struct attribute *attribute)
{
	sysfs_attr_init(attribute);
}

void __percpu *daxfs_helper_alloc_percpu(size_t size, size_t align)
{
	return __alloc_percpu_gfp(size, align, GFP_KERNEL_ACCOUNT);
}

void daxfs_helper_this_cpu_add(u64 __percpu *number, u64 amount)
{
	this_cpu_add(*number, amount);
}

u64 daxfs_helper_per_cpu_sum(u64 __percpu *number)
{
	unsigned int cpu;
	u64 sum = 0;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(number, cpu));
	return sum;
}

static const int DAXFS_CACHE_WRITEBACK = 1;
static const int DAXFS_CACHE_WRITECOMBINE = 2;
static const int DAXFS_CACHE_UNCACHED = 3;

/*
 * Return true if the kernel gives each frame that it inserts its own cache mode: x86 looks it up.
 * In vm_page_prot, it would also be the mode of copies of pages.
 */
bool daxfs_helper_cache_mode_is_per_frame(void)
{
#ifdef CONFIG_X86
	return pat_enabled();
#else
	return false;
#endif
}

/* Return the cache attributes of the kernel's mapping of a page, and the size of its entry. */
int daxfs_helper_cache_mode(unsigned long address, bool io, size_t *size)
{
#ifdef CONFIG_X86_64
	const pteval_t mask = _PAGE_PWT | _PAGE_PCD;
	unsigned int level;
	pte_t *pte = lookup_address(address, &level);
	pteval_t entry, cache;

	if (!pte)
		return -ENXIO;
	entry = pte_val(ptep_get(pte));
	/* Processes map all memory as encrypted. */
	if (cc_platform_has(CC_ATTR_MEM_ENCRYPT) && cc_mkdec(entry) == entry)
		return -EOPNOTSUPP;
	*size = page_level_size(level);
	cache = entry & mask;
	if (!cache)
		return DAXFS_CACHE_WRITEBACK;
	if (cache == (pgprot_val(pgprot_writecombine(PAGE_KERNEL)) & mask))
		return DAXFS_CACHE_WRITECOMBINE;
	return DAXFS_CACHE_UNCACHED;
#else
	/*
	 * A guess: this architecture exports no function that looks them up. Most exporters map
	 * device memory write-combined and other memory cached. Whether it is encrypted is unknown.
	 */
	if (cc_platform_has(CC_ATTR_MEM_ENCRYPT))
		return -EOPNOTSUPP;
	*size = PMD_SIZE;
	return io ? DAXFS_CACHE_WRITECOMBINE : DAXFS_CACHE_WRITEBACK;
#endif
}

/* Return the folio of a page if it has that order, or NULL. */
struct folio *daxfs_helper_folio_of_order(struct page *page, unsigned int order)
{
	struct folio *folio = page_folio(page);

	return folio_order(folio) == order ? folio : NULL;
}

#ifdef DAXFS_VERSION
MODULE_VERSION(DAXFS_VERSION);
#endif
