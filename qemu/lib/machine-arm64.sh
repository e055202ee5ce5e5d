# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# The hardware of an arm64 machine, where it differs from lib/machine.sh, which is read before this file: QEMU's "virt"
# with UEFI firmware. Only ACPI tables, which come with that firmware, describe NVDIMMs.

# KVM cannot run another architecture. The processor has 48-bit addresses, and none of the later extensions that make
# emulation slow, such as pointer authentication.
add_processor() {
	if [ "$icount" = 1 ]; then
		qemu+=(-accel tcg,thread=single -icount shift=0,sleep=off)
	else
		qemu+=(-accel tcg,thread=multi,tb-size=512)
	fi
	qemu+=(-cpu neoverse-n1 -smp "$cpus")
}

add_base() {
	export QEMU_MODULE_DIR=$ROOT/usr/lib/x86_64-linux-gnu/qemu
	qemu+=(
		"${IN_ROOT[@]}" "$ROOT/usr/bin/qemu-system-aarch64" -nodefaults -no-user-config -no-reboot
		-display none -vga none -net none -run-with exit-with-parent=on
		-L "$ROOT/usr/share/qemu"
		-machine "virt,acpi=on,nvdimm=on,gic-version=3,graphics=off"
		-bios "$ROOT/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"
	)
}

# QEMU has no such device for arm64. An NVDIMM gives the guest the same: a DAX-capable /dev/pmemN.
add_virtio_pmem() {
	add_nvdimm "$1"
}

# The kernel has no option that reserves a range. An NVDIMM without a driver is one: guest-init takes its driver away.
# QEMU places the others after ordinary memory, one after the other from a multiple of 1 GiB on.
add_reserved() {
	local file total
	reserved_address=$(printf '0x%x' "$(round_up $(((1 << 30) + memory * MIB + hotplug)) $((1 << 30)))")
	padded "$1" $PMEM_ALIGN
	reserved_size=$(printf '0x%x' "$total")
	add_backend "$file" "$total" "nvdimm,addr=$reserved_address,memdev"
}

# The kernel uses CXL memory only if it can invalidate all caches, which it cannot do here.
add_cxl() {
	die_runner "$1: the kernel cannot use CXL memory on this arm64 machine"
}

# QEMU has no qxl for arm64.
add_drm() {
	kernel_extra+=(drm_kms_helper.fbdev_emulation=0)
	qemu+=(-device virtio-gpu-pci)
}
