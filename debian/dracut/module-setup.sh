#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck disable=SC2154 # dracut sets the variables
#
# dracut's module for a system that starts from a root filesystem that is a daxfs image in persistent memory.

# Do nothing for a kernel without daxfs.
check() {
	modinfo -k "$kernel" daxfs >/dev/null 2>&1
}

# The machine that makes the initramfs need not have this memory.
installkernel() {
	hostonly='' instmods daxfs nfit nd_pmem nd_e820 virtio_pmem
}

# root=/dev/disk/by-label/... needs the links that the rule makes, and the program that the rule names.
install() {
	local rules=64-daxfs.rules program
	inst_rules "$rules"
	program=$(sed -n 's/^IMPORT{program}="\([^ "]*\).*/\1/p' "$initdir"/{etc,usr/lib}/udev/rules.d/"$rules" 2>/dev/null)
	inst "$program"
	# mount calls it, for an image of a store.
	inst_multiple mount.daxfs
	inst_hook cmdline 95 "$moddir/parse-daxfs.sh"
}
