// SPDX-License-Identifier: GPL-2.0-only
/* Functions for CONFIG_DAXFS_FS_FRAMES, see helpers.c. */
#include "bindings.h"
#ifdef CONFIG_X86
#include <asm/memtype.h>
#endif

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
