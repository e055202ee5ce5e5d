/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints: daxfs:daxfs_fault and daxfs:daxfs_error.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM daxfs

#if !defined(DAXFS_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define DAXFS_TRACE_H

#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/tracepoint.h>

/* A fault on a mapping was served, or not; @order is that of the pages that were to be mapped. */
TRACE_EVENT(daxfs_fault,
	    TP_PROTO(struct vm_fault *vmf, unsigned int order, vm_fault_t result),
	    TP_ARGS(vmf, order, result),
	    TP_STRUCT__entry(__field(dev_t, dev)
			     __field(unsigned int, order)
			     __field(u64, ino)
			     __field(u64, offset)
			     __field(unsigned long, address)
			     __field(unsigned long, result)),
	    TP_fast_assign(__entry->dev = file_inode(vmf->vma->vm_file)->i_sb->s_dev;
			   __entry->order = order;
			   __entry->ino = file_inode(vmf->vma->vm_file)->i_ino;
			   __entry->offset = (u64)vmf->pgoff << PAGE_SHIFT;
			   __entry->address = vmf->address;
			   __entry->result = (__force unsigned long)result;),
	    TP_printk("dev %d:%d ino %llu offset %#llx order %u address %#lx result %s",
		      MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino, __entry->offset,
		      __entry->order, __entry->address,
		      __print_flags(__entry->result, "|", VM_FAULT_RESULT_TRACE))
);

/* A record was not valid, or could not be read: @value stands at @offset in the image. */
TRACE_EVENT(daxfs_error,
	    TP_PROTO(struct super_block *sb, u64 ino, const u8 *problem, size_t length, u64 offset,
		     u64 value),
	    TP_ARGS(sb, ino, problem, length, offset, value),
	    TP_STRUCT__entry(__field(dev_t, dev)
			     __field(u64, ino)
			     __field(u64, offset)
			     __field(u64, value)
			     __string_len(problem, (const char *)problem, length)),
	    TP_fast_assign(__entry->dev = sb->s_dev;
			   __entry->ino = ino;
			   __entry->offset = offset;
			   __entry->value = value;
			   __assign_str(problem);),
	    TP_printk("dev %d:%d ino %llu offset %#llx value %#llx: %s",
		      MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino, __entry->offset,
		      __entry->value, __get_str(problem))
);

#endif /* DAXFS_TRACE_H */

/* Read once more, from helpers.c. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
