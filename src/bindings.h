/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Input of bindgen: the kernel's headers that the module needs, the shims of helpers.c, and constants
 * that bindgen cannot evaluate by itself.
 */
#include <crypto/sha2.h>
#include <linux/blkdev.h>
#include <linux/crc32c.h>
#include <linux/dax.h>
#include <linux/dcache.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/huge_mm.h>
#include <linux/iomap.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rcupdate.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/statfs.h>
#include <linux/uio.h>

#include "helpers.h"

static const unsigned long DAXFS_SB_RDONLY = SB_RDONLY;
static const unsigned long DAXFS_SB_NOATIME = SB_NOATIME;
static const int DAXFS_FS_REQUIRES_DEV = FS_REQUIRES_DEV;
static const unsigned int DAXFS_S_DAX = S_DAX;
static const fmode_t DAXFS_FMODE_NOWAIT = FMODE_NOWAIT;
static const u64 DAXFS_PAGE_SIZE = PAGE_SIZE;
static const unsigned int DAXFS_PAGE_SHIFT = PAGE_SHIFT;
static const loff_t DAXFS_MAX_LFS_FILESIZE = MAX_LFS_FILESIZE;
static const int DAXFS_EUCLEAN = EUCLEAN;
static const int DAXFS_EBADMSG = EBADMSG;
static const long DAXFS_EHWPOISON = EHWPOISON;
static const int DAXFS_ENAMETOOLONG = ENAMETOOLONG;
static const int DAXFS_EOPNOTSUPP = EOPNOTSUPP;
static const u16 DAXFS_IOMAP_MAPPED = IOMAP_MAPPED;
