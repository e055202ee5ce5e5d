// SPDX-License-Identifier: GPL-2.0-only
/* Functions for CONFIG_DAXFS_FS_PHYS, see helpers.c. */
#include "bindings.h"

/* The memory of a DAX device of this module. */
struct daxfs_range {
	void *base;
	unsigned long frame;
	unsigned long pages;
};

static long daxfs_range_direct_access(struct dax_device *device, pgoff_t page, long count,
				      enum dax_access_mode mode, void **address,
				      unsigned long *frame)
{
	const struct daxfs_range *range = dax_get_private(device);

	/* It is being killed. */
	if (!range)
		return -ENXIO;
	if (page >= range->pages)
		return -ERANGE;
	if (address)
		*address = range->base + (page << PAGE_SHIFT);
	if (frame)
		*frame = range->frame + page;
	return min_t(unsigned long, count, range->pages - page);
}

/* The DAX core requires this function, but does not call it for a read-only filesystem. */
static int daxfs_range_zero_page_range(struct dax_device *device, pgoff_t page, size_t count)
{
	return -EROFS;
}

struct dax_device *daxfs_helper_alloc_range_dax(struct daxfs_range *range)
{
	static const struct dax_operations operations = {
		.direct_access = daxfs_range_direct_access,
		.zero_page_range = daxfs_range_zero_page_range,
	};

	return alloc_dax(range, &operations);
}

static int daxfs_is_whole(struct resource *resource, void *range)
{
	const struct range *wanted = range;

	/* The walk clips resources to the range. */
	return resource->start == wanted->start && resource->end == wanted->end;
}

/* Return true if the whole range is in one resource. */
bool daxfs_helper_is_in_one_resource(u64 start, u64 last)
{
	struct range range = { start, last };

	return walk_iomem_res_desc(IORES_DESC_NONE, IORESOURCE_MEM, start, last, &range,
				   daxfs_is_whole) == 1;
}

bool daxfs_helper_is_soft_reserved(u64 start, u64 last)
{
	struct range range = { start, last };

	return walk_soft_reserve_res(start, last, &range, daxfs_is_whole) == 1;
}

u64 daxfs_helper_last_address(void)
{
#ifdef CONFIG_ARM64
	/* The resource has all 64-bit addresses. */
	return PHYS_MASK;
#else
	return iomem_resource.end;
#endif
}

/* Return how many pages the kernel could get for itself, which may not be movable memory. */
unsigned long daxfs_helper_available_pages(void)
{
	return min_t(unsigned long, max(si_mem_available(), 0L), nr_free_buffer_pages());
}

void *daxfs_helper_memremap_range(struct dev_pagemap *map, u64 start, u64 size)
{
	map->type = MEMORY_DEVICE_FS_DAX;
	map->nr_range = 1;
	map->range = (struct range){ start, start + size - 1 };
	return memremap_pages(map, phys_to_target_node(start));
}

const struct bus_type *daxfs_helper_pci_bus(void)
{
#ifdef CONFIG_PCI
	return &pci_bus_type;
#else
	return NULL;
#endif
}

/*
 * Return true if the range is in a prefetchable region of a device that has memory there, by its
 * class. A device that is being removed has lost its entry in /proc/bus/pci before the notifiers of
 * the bus are called.
 */
bool daxfs_helper_pci_range_is_memory(u64 start, u64 size)
{
	struct resource *region, range = DEFINE_RES_MEM(start, size);
	struct pci_dev *dev = NULL;
	bool found = false;

	for_each_pci_dev(dev) {
		region = pci_find_resource(dev, &range);
		if (!region)
			continue;
		switch (dev->class >> 16) {
		case PCI_BASE_CLASS_MEMORY:
		case PCI_BASE_CLASS_DISPLAY:
		case PCI_BASE_CLASS_ACCELERATOR:
			found = region->flags & IORESOURCE_PREFETCH && dev->procent;
		}
		pci_dev_put(dev);
		break;
	}
	return found;
}

bool daxfs_helper_pci_device_has_range(struct device *device, u64 start, u64 size)
{
	struct resource range = DEFINE_RES_MEM(start, size);

	return dev_is_pci(device) && pci_find_resource(to_pci_dev(device), &range);
}
