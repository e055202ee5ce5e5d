// SPDX-License-Identifier: GPL-2.0-only
/* Functions for CONFIG_DAXFS_FS_STATISTICS, see helpers.c. */
#include "bindings.h"

void daxfs_helper_kobj_attribute_init(struct kobj_attribute *attribute, const char *name,
				      umode_t mode,
				      ssize_t (*show)(struct kobject *kobject,
						      struct kobj_attribute *attribute,
						      char *buffer))
{
	*attribute = (struct kobj_attribute){
		.attr = { .name = name, .mode = mode },
		.show = show,
	};
	sysfs_attr_init(&attribute->attr);
}

void __percpu *daxfs_helper_alloc_percpu(size_t size, size_t align)
{
	return __alloc_percpu(size, align);
}

void daxfs_helper_this_cpu_add(u64 __percpu *number, u64 amount)
{
	this_cpu_add(*number, amount);
}

u64 daxfs_helper_per_cpu_sum(u64 __percpu *number)
{
	unsigned int cpu;
	u64 sum = 0;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(number, cpu));
	return sum;
}
