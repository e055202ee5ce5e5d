// SPDX-License-Identifier: GPL-2.0-only
/* Functions for CONFIG_DAXFS_FS_DMABUF, see helpers.c. */
#include "bindings.h"

/* Register a device that can access all memory, and for which exporters may allocate memory. */
struct faux_device *daxfs_helper_faux_device_for_dma(const char *name)
{
	struct faux_device *device = faux_device_create(name, NULL, NULL);
	int error;

	if (!device)
		return ERR_PTR(-ENODEV);
	error = dma_coerce_mask_and_coherent(&device->dev, DMA_BIT_MASK(64));
	if (error) {
		faux_device_destroy(device);
		return ERR_PTR(error);
	}
	return device;
}

MODULE_IMPORT_NS("DMA_BUF");
