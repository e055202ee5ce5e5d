/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Input of bindgen, before the declarations of helpers.c: the kernel's headers that the module
 * needs, and constants that bindgen cannot evaluate by itself. Kbuild drops the prefix from their
 * names.
 */
#ifndef DAXFS_BINDINGS_H
#define DAXFS_BINDINGS_H

#include <crypto/sha2.h>
#include <linux/backing-dev.h>
#include <linux/badblocks.h>
#include <linux/blkdev.h>
#include <linux/capability.h>
#include <linux/cc_platform.h>
#include <linux/cdev.h>
#include <linux/crc32c.h>
#include <linux/cred.h>
#include <linux/dax.h>
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
#include <linux/fserror.h>
#include <linux/huge_mm.h>
#include <linux/hugetlb.h>
#include <linux/io.h>
#include <linux/iomap.h>
#include <linux/ioport.h>
#include <linux/key.h>
#include <linux/kobject.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/pagemap.h>
#include <linux/pci.h>
#include <linux/percpu.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/pseudo_fs.h>
#include <linux/ratelimit.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/security.h>
#include <linux/seq_file.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/statfs.h>
#include <linux/sysfs.h>
#include <linux/timekeeping.h>
#include <linux/tracepoint.h>
#include <linux/uio.h>
#include <linux/userfaultfd_k.h>
#include <linux/verification.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include <linux/xattr.h>
#include <linux/xxhash.h>
#include <uapi/linux/fcntl.h>

#include "helpers.h"

/* Allocation. */
static const gfp_t DAXFS_GFP_KERNEL = GFP_KERNEL;
static const gfp_t DAXFS_GFP_KERNEL_ACCOUNT = GFP_KERNEL_ACCOUNT;
static const gfp_t DAXFS___GFP_ZERO = __GFP_ZERO;
static const slab_flags_t DAXFS_SLAB_RECLAIM_ACCOUNT = SLAB_RECLAIM_ACCOUNT;
static const slab_flags_t DAXFS_SLAB_ACCOUNT = SLAB_ACCOUNT;
static const unsigned int DAXFS_WQ_UNBOUND = WQ_UNBOUND;

/* Filesystem types, superblocks and mounts. */
static const int DAXFS_FS_ALLOW_IDMAP = FS_ALLOW_IDMAP;
static const int DAXFS_FS_USERNS_MOUNT = FS_USERNS_MOUNT;
static const unsigned long DAXFS_SB_RDONLY = SB_RDONLY;
static const unsigned long DAXFS_SB_ACTIVE = SB_ACTIVE;
static const unsigned long DAXFS_SB_I_RETIRED = SB_I_RETIRED;
static const unsigned long DAXFS_SB_NOATIME = SB_NOATIME;
/* 0 where the kernel knows no access control lists. */
static const unsigned long DAXFS_SB_POSIXACL = IS_ENABLED(CONFIG_FS_POSIX_ACL) ? SB_POSIXACL : 0;
static const loff_t DAXFS_MAX_LFS_FILESIZE = MAX_LFS_FILESIZE;
static const u32 DAXFS_FS_IOC_GETFSLABEL = FS_IOC_GETFSLABEL;
static const int DAXFS_CAP_SYS_ADMIN = CAP_SYS_ADMIN;

/* Inodes and files. */
static const umode_t DAXFS_S_IFMT = S_IFMT;
static const umode_t DAXFS_S_IFBLK = S_IFBLK;
static const umode_t DAXFS_S_IFCHR = S_IFCHR;
static const umode_t DAXFS_S_IFDIR = S_IFDIR;
static const umode_t DAXFS_S_IFLNK = S_IFLNK;
static const umode_t DAXFS_S_IFREG = S_IFREG;
static const u64 DAXFS_STATX_ATTR_IMMUTABLE = STATX_ATTR_IMMUTABLE;
static const size_t DAXFS_NAME_MAX = NAME_MAX;
static const int DAXFS_O_RDONLY = O_RDONLY;
static const int DAXFS_O_LARGEFILE = O_LARGEFILE;
static const int DAXFS_O_NONBLOCK = O_NONBLOCK;
static const fmode_t DAXFS_FMODE_READ = FMODE_READ;
static const fmode_t DAXFS_FMODE_NOWAIT = FMODE_NOWAIT;
static const int DAXFS_IOCB_DIRECT = IOCB_DIRECT;
static const int DAXFS_IOCB_NOWAIT = IOCB_NOWAIT;
static const int DAXFS_IOCB_WAITQ = IOCB_WAITQ;
static const fmode_t DAXFS_FMODE_BACKING = FMODE_BACKING;
static const fmode_t DAXFS_FMODE_NONOTIFY = FMODE_NONOTIFY;
static const fmode_t DAXFS_FMODE_FSNOTIFY_MASK = FMODE_FSNOTIFY_MASK;
static const fop_flags_t DAXFS_FOP_BUFFER_RASYNC = FOP_BUFFER_RASYNC;
static const int DAXFS_ACL_TYPE_ACCESS = ACL_TYPE_ACCESS;
static const int DAXFS_ACL_TYPE_DEFAULT = ACL_TYPE_DEFAULT;

/* Mappings and page faults. */
static const u64 DAXFS_PAGE_SIZE = PAGE_SIZE;
static const unsigned int DAXFS_PAGE_SHIFT = PAGE_SHIFT;
static const u64 DAXFS_PMD_SIZE = PMD_SIZE;
static const unsigned int DAXFS_PMD_ORDER = PMD_ORDER;
static const vm_flags_t DAXFS_VM_HUGEPAGE = VM_HUGEPAGE;
static const vm_flags_t DAXFS_VM_MIXEDMAP = VM_MIXEDMAP;
static const vm_flags_t DAXFS_VM_IO = VM_IO;
static const vm_fault_t DAXFS_VM_FAULT_ERROR = VM_FAULT_ERROR;
static const u16 DAXFS_IOMAP_MAPPED = IOMAP_MAPPED;

/* Sources of memory. */
static const blk_mode_t DAXFS_BLK_OPEN_READ = BLK_OPEN_READ;
static const blk_mode_t DAXFS_BLK_OPEN_RESTRICT_WRITES = BLK_OPEN_RESTRICT_WRITES;
static const unsigned long DAXFS_BUS_NOTIFY_DEL_DEVICE = BUS_NOTIFY_DEL_DEVICE;
static const unsigned long DAXFS_BUS_NOTIFY_UNBIND_DRIVER = BUS_NOTIFY_UNBIND_DRIVER;
static const int DAXFS_MF_MEM_PRE_REMOVE = MF_MEM_PRE_REMOVE;
static const unsigned long DAXFS_MEMREMAP_WB = MEMREMAP_WB;
static const int DAXFS_CAP_SYS_RAWIO = CAP_SYS_RAWIO;
static const unsigned long DAXFS_IORESOURCE_SYSTEM_RAM = IORESOURCE_SYSTEM_RAM;
static const int DAXFS_REGION_DISJOINT = REGION_DISJOINT;
static const int DAXFS_REGION_MIXED = REGION_MIXED;

#endif /* DAXFS_BINDINGS_H */
