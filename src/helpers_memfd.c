// SPDX-License-Identifier: GPL-2.0-only
/* Functions for CONFIG_DAXFS_FS_MEMFD, see helpers.c. */
#include "bindings.h"

void *daxfs_helper_vmap_ro(struct page **pages, unsigned int count)
{
	return vmap(pages, count, VM_MAP, PAGE_KERNEL_RO);
}

/* Return the seals of a readable file that memfd_create() makes, or -1 of any other one. */
int daxfs_helper_file_seals(struct file *file)
{
	if (!(file->f_mode & FMODE_READ) || !S_ISREG(file_inode(file)->i_mode))
		return -1;
	if (shmem_file(file))
		return SHMEM_I(file_inode(file))->seals;
#ifdef CONFIG_HUGETLBFS
	if (is_file_hugepages(file))
		return HUGETLBFS_I(file_inode(file))->seals;
#endif
	return -1;
}

/* Return the address space of the folio of a page frame, if it has one. */
struct address_space *daxfs_helper_frame_mapping(unsigned long pfn)
{
	return pfn_valid(pfn) ? READ_ONCE(pfn_folio(pfn)->mapping) : NULL;
}
