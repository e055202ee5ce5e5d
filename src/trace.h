/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints: daxfs:daxfs_fault and daxfs:daxfs_error.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM daxfs

#if !defined(DAXFS_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define DAXFS_TRACE_H

#include <linux/kdev_t.h>
#include <linux/mm.h>
#include <linux/tracepoint.h>

/* A page fault was handled; @order is the order of the requested entry. */
TRACE_EVENT(daxfs_fault,
	    TP_PROTO(dev_t dev, u64 ino, u64 offset, unsigned int order, unsigned long address,
		     unsigned long result),
	    TP_ARGS(dev, ino, offset, order, address, result),
	    TP_STRUCT__entry(__field(dev_t, dev)
			     __field(unsigned int, order)
			     __field(u64, ino)
			     __field(u64, offset)
			     __field(unsigned long, address)
			     __field(unsigned long, result)),
	    TP_fast_assign(__entry->dev = dev;
			   __entry->order = order;
			   __entry->ino = ino;
			   __entry->offset = offset;
			   __entry->address = address;
			   __entry->result = result;),
	    TP_printk("dev %d:%d ino %llu offset %#llx order %u address %#lx result %s",
		      MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino, __entry->offset,
		      __entry->order, __entry->address,
		      __print_flags(__entry->result, "|", VM_FAULT_RESULT_TRACE))
);

/* A record of the image is invalid or cannot be read: @value was found at @offset. */
TRACE_EVENT(daxfs_error,
	    TP_PROTO(dev_t dev, u64 ino, const u8 *problem, size_t length, u64 offset, u64 value),
	    TP_ARGS(dev, ino, problem, length, offset, value),
	    TP_STRUCT__entry(__field(dev_t, dev)
			     __field(u64, ino)
			     __field(u64, offset)
			     __field(u64, value)
			     __string_len(problem, (const char *)problem, length)),
	    TP_fast_assign(__entry->dev = dev;
			   __entry->ino = ino;
			   __entry->offset = offset;
			   __entry->value = value;
			   __assign_str(problem);),
	    TP_printk("dev %d:%d ino %llu offset %#llx value %#llx: %s",
		      MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino, __entry->offset,
		      __entry->value, __get_str(problem))
);

#endif /* DAXFS_TRACE_H */

/* helpers.c reads this a second time, for the definitions. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
