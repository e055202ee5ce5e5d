/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Input of bindgen: the kernel's headers that the module needs, the shims of helpers.c, and
 * constants that bindgen cannot evaluate by itself.
 */
#include <crypto/sha2.h>
#include <linux/blkdev.h>
#include <linux/crc32c.h>
#include <linux/dax.h>
#include <linux/dcache.h>
#include <linux/delay.h>
#include <linux/device/bus.h>
#include <linux/device/faux.h>
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/exportfs.h>
#include <linux/fiemap.h>
#include <linux/file.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/huge_mm.h>
#include <linux/iomap.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/posix_acl.h>
#include <linux/pseudo_fs.h>
#include <linux/rcupdate.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/stat.h>
#include <linux/statfs.h>
#include <linux/tracepoint.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include <linux/xattr.h>
#include <uapi/linux/fcntl.h>

#include "helpers.h"
#include "trace.h"

static const unsigned long DAXFS_SB_RDONLY = SB_RDONLY;
static const unsigned long DAXFS_SB_NOATIME = SB_NOATIME;
/* 0 where the kernel knows no access control lists. */
static const unsigned long DAXFS_SB_POSIXACL = IS_ENABLED(CONFIG_FS_POSIX_ACL) ? SB_POSIXACL : 0;
static const int DAXFS_FS_ALLOW_IDMAP = FS_ALLOW_IDMAP;
static const int DAXFS_ACL_TYPE_ACCESS = ACL_TYPE_ACCESS;
static const int DAXFS_ACL_TYPE_DEFAULT = ACL_TYPE_DEFAULT;
static const u32 DAXFS_SECTOR_SIZE = SECTOR_SIZE;
static const u32 DAXFS_STATX_DIOALIGN = STATX_DIOALIGN;
static const u32 DAXFS_STATX_DIO_READ_ALIGN = STATX_DIO_READ_ALIGN;
static const u32 DAXFS_FS_IOC_GETFSLABEL = FS_IOC_GETFSLABEL;
static const u32 DAXFS_FSLABEL_MAX = FSLABEL_MAX;
static const u32 DAXFS_FIEMAP_EXTENT_LAST = FIEMAP_EXTENT_LAST;
static const u32 DAXFS_FIEMAP_EXTENT_NOT_ALIGNED = FIEMAP_EXTENT_NOT_ALIGNED;
static const u32 DAXFS_FIEMAP_EXTENT_SHARED = FIEMAP_EXTENT_SHARED;
static const unsigned long DAXFS_BUS_NOTIFY_UNBIND_DRIVER = BUS_NOTIFY_UNBIND_DRIVER;
static const unsigned int DAXFS_S_DAX = S_DAX;
static const fmode_t DAXFS_FMODE_NOWAIT = FMODE_NOWAIT;
static const unsigned int DAXFS_MINOR_BITS = MINORBITS;
static const u64 DAXFS_PAGE_SIZE = PAGE_SIZE;
static const u64 DAXFS_PMD_SIZE = PMD_SIZE;
static const unsigned int DAXFS_PMD_ORDER = PMD_ORDER;
static const unsigned int DAXFS_PAGE_SHIFT = PAGE_SHIFT;
static const loff_t DAXFS_MAX_LFS_FILESIZE = MAX_LFS_FILESIZE;
static const int DAXFS_EUCLEAN = EUCLEAN;
static const int DAXFS_EBADMSG = EBADMSG;
static const int DAXFS_EHWPOISON = EHWPOISON;
static const int DAXFS_MF_MEM_PRE_REMOVE = MF_MEM_PRE_REMOVE;
static const int DAXFS_ENAMETOOLONG = ENAMETOOLONG;
static const int DAXFS_ENODATA = ENODATA;
static const int DAXFS_EOPNOTSUPP = EOPNOTSUPP;
static const int DAXFS_ESTALE = ESTALE;
static const u16 DAXFS_IOMAP_MAPPED = IOMAP_MAPPED;
static const vm_fault_t DAXFS_VM_FAULT_SIGBUS = VM_FAULT_SIGBUS;
static const vm_fault_t DAXFS_VM_FAULT_OOM = VM_FAULT_OOM;
static const vm_fault_t DAXFS_VM_FAULT_HWPOISON = VM_FAULT_HWPOISON;
static const vm_fault_t DAXFS_VM_FAULT_ERROR = VM_FAULT_ERROR;
static const vm_fault_t DAXFS_VM_FAULT_RETRY = VM_FAULT_RETRY;
static const vm_fault_t DAXFS_VM_FAULT_FALLBACK = VM_FAULT_FALLBACK;
static const unsigned long DAXFS_MEMREMAP_WB = MEMREMAP_WB;
static const umode_t DAXFS_S_IFMT = S_IFMT;
static const umode_t DAXFS_S_IFBLK = S_IFBLK;
static const umode_t DAXFS_S_IFCHR = S_IFCHR;
