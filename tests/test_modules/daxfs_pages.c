// SPDX-License-Identifier: GPL-2.0-only
/*
 * Show and do to pages what programs cannot, for tests. The parameters of this module are
 *
 *   failing  a page frame, or 0: the kernel's copies from it that survive a machine check fail, as if each met one
 *   cached   of an address that the process has written to it: 1 if the page-table entry is write-back, 0 if not. The
 *            address must be in a mapping of page frames.
 */
#include <linux/io.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/module.h>

static unsigned long failing;
module_param(failing, ulong, 0644);

static int cached;

static int cached_set(const char *text, const struct kernel_param *parameter)
{
	struct follow_pfnmap_args entry = {};
	struct mm_struct *mm = current->mm;
	int error = kstrtoul(text, 0, &entry.address);

	if (error)
		return error;
	mmap_read_lock(mm);
	entry.vma = vma_lookup(mm, entry.address);
	error = entry.vma ? follow_pfnmap_start(&entry) : -EFAULT;
	if (!error) {
		cached = !(pgprot_val(entry.pgprot) & (_PAGE_PWT | _PAGE_PCD));
		follow_pfnmap_end(&entry);
	}
	mmap_read_unlock(mm);
	return error;
}

static const struct kernel_param_ops cached_ops = { .set = cached_set, .get = param_get_int };
module_param_cb(cached, &cached_ops, &cached, 0644);

/* Takes the place of copy_mc_to_kernel(). */
static unsigned long copies_nothing(void *to, const void *from, unsigned int length)
{
	return length;
}

static int before_copy(struct kprobe *probe, struct pt_regs *regs)
{
	unsigned long frame = READ_ONCE(failing);

	if (!frame || slow_virt_to_phys((void *)regs->si) >> PAGE_SHIFT != frame)
		return 0;
	instruction_pointer_set(regs, (unsigned long)copies_nothing);
	return 1;
}

/* A probe that has this function may change where the processor goes on. */
static void after_copy(struct kprobe *probe, struct pt_regs *regs, unsigned long flags)
{
}

static struct kprobe probe = {
	.symbol_name = "copy_mc_to_kernel",
	.pre_handler = before_copy,
	.post_handler = after_copy,
};

static int __init daxfs_pages_init(void)
{
	return register_kprobe(&probe);
}
module_init(daxfs_pages_init);

static void __exit daxfs_pages_exit(void)
{
	unregister_kprobe(&probe);
}
module_exit(daxfs_pages_exit);

MODULE_DESCRIPTION("Page tables and failing pages, for the tests of daxfs");
MODULE_LICENSE("GPL");
