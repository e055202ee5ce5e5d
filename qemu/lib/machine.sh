# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# The virtual machine's hardware: each function adds the arguments for one option to the array `qemu`.
# Needs environment/lib.sh and lib/tools.sh. The caller, qemu/vm, sets the variables that hold the options' values.

MIB=$((1 << 20))
PMEM_ALIGN=$((2 * MIB))		# the smallest unit of the kernel's mappings and of memory hotplug
CXL_ALIGN=$((256 * MIB))		# required by the CXL specification

qemu=()				# the command line so far
devices=0			# pmem devices so far
backends=0			# all devices with memory so far
cxl_devices=0 cxl_windows=''
reserved_address='' reserved_size=''
hotplug=0			# bytes of address space beyond ordinary memory

round_up() {
	echo $((($1 + $2 - 1) / $2 * $2))
}

# Escape a value for QEMU's options: a comma ends a value, two commas mean one.
quote() {
	printf '%s' "${1//,/,,}"
}

# ---- processor and memory -------------------------------------------------------------------------

# Check that a guest runs with KVM: a nested or broken KVM may open /dev/kvm and then hang. The result is kept until
# this machine boots again.
kvm_works() {
	local verdict id
	grep -q -E -m 1 '^flags.* (vmx|svm)( |$)' /proc/cpuinfo && [ -w /dev/kvm ] && [ -r /dev/kvm ] || return 1
	id=$(</proc/sys/kernel/random/boot_id)
	verdict=$GUEST/kvm-$id-$(id -u)
	if [ ! -e "$verdict" ]; then
		rm -f "$GUEST"/kvm-*-"$(id -u)"
		if DAXFS_VM_ACCEL=kvm "$here/vm" run --timeout 30 -- true >/dev/null 2>&1; then
			echo yes >"$verdict"
		else
			echo no >"$verdict"
		fi
	fi
	[ "$(<"$verdict")" = yes ]
}

add_processor() {
	local accel=${DAXFS_VM_ACCEL-} model=max,la57=off
	if [ "$icount" = 1 ]; then
		# Time is the number of instructions, so that figures are the same on any machine, however busy.
		qemu+=(-accel tcg,thread=single -icount shift=0,sleep=off)
		# The processor's random numbers seed the kernel's, which seed hash tables and place slab objects.
		qemu+=(-seed 1)
	elif [ "$accel" = kvm ] || { [ -z "$accel" ] && kvm_works; }; then
		qemu+=(-accel kvm)
	else
		qemu+=(-accel tcg,thread=multi,tb-size=512)
		# Emulation is slowest at byte-wise string instructions. Without these flags, the kernel uses others.
		model+=,erms=off,fsrm=off,fsrs=off
	fi
	# Five-level page tables only make each emulated page walk longer.
	# The kernel uses CXL memory only if it can invalidate all caches. Under a hypervisor it assumes that it cannot.
	qemu+=(-cpu "$model$([ ${#cxls[@]} = 0 ] || echo ,hypervisor=off)" -smp "$cpus")
}

add_memory() {
	qemu+=(-m "size=${memory}M,slots=16,maxmem=$((memory * MIB + $(round_up $((hotplug + 1)) $((1 << 30))) + (17 << 30)))")
}

# ---- memory that holds an image -------------------------------------------------------------------

# add_backend FILE SIZE DEVICE: add FILE's bytes as memory of DEVICE, whose last option takes the name of a backend.
# Unless images are shared, FILE is opened for reading and mapped privately, so the guest's writes do not reach it.
add_backend() {
	local id=image$backends how=share=off,readonly=on,rom=off
	# The guest's writes to a private mapping make copies. Do not reserve memory for a large device's.
	[ "$2" -le $((64 << 30)) ] || how+=,reserve=off
	[ "$shared" = 0 ] || how=share=on
	qemu+=(-object "memory-backend-file,id=$id,mem-path=$(quote "$1"),size=$2,align=2M,$how"
		-device "$3=$id")
	backends=$((backends + 1))
	hotplug=$((hotplug + $2 + (1 << 30)))
}

# padded IMAGE SIZE: set `file` to IMAGE if its length is a multiple of SIZE bytes, otherwise to a private copy that is
# padded to one. Set `total` to the length.
padded() {
	local size
	size=$(image_size "$1") || exit
	total=$(round_up "$size" "$2")
	file=$1
	[ "$size" != "$total" ] || return 0
	[ "$shared" = 0 ] || die_runner "image $1: $size bytes, which cannot be shared: not a multiple of $2"
	file=$scratch/image$backends
	cp --reflink=auto --sparse=always "$1" "$file" && truncate -s "$total" "$file" ||
		die_runner "cannot copy $1 to $file"
}

image_size() {
	local size
	[ -f "$1" ] && [ -r "$1" ] || die_runner "image $1: not a readable file"
	size=$(stat -L -c %s "$1") || die_runner "image $1: cannot tell its size"
	[ "$size" -gt 0 ] || die_runner "image $1 is empty"
	echo "$size"
}

# An NVDIMM is DAX-capable only with an info block before the image. Make a private file of both, with the image at
# 2 MiB.
add_nvdimm() {
	local image=$1 file=$scratch/nvdimm$devices size total
	size=$(image_size "$image") || exit
	[ "$shared" = 0 ] || die_runner "image $1: an NVDIMM cannot be shared here"
	total=$((PMEM_ALIGN + $(round_up "$size" $PMEM_ALIGN)))
	"$here/pfn-header" "$total" >"$file" || die_runner "cannot write $file"
	dd if="$image" of="$file" bs=$PMEM_ALIGN seek=1 conv=notrunc,sparse status=none &&
		truncate -s "$total" "$file" || die_runner "cannot copy $image to $file"
	add_backend "$file" "$total" nvdimm,memdev
	devices=$((devices + 1))
}

# virtio-pmem is DAX-capable as it is: the image is mapped in place unless its size has to be padded.
add_virtio_pmem() {
	local file total
	padded "$1" $PMEM_ALIGN
	add_backend "$file" "$total" virtio-pmem-pci,memdev
	devices=$((devices + 1))
}

# Add a CXL memory expander with its own host bridge and address window, so that each region can use the first decoder
# everywhere. The serial number tells the guest which image it is. Its memory is mapped in place unless its size has to be padded.
add_cxl() {
	local n=$cxl_devices file total
	padded "$1" $CXL_ALIGN
	# QEMU takes the whole list of windows in one option.
	cxl_windows+=,cxl-fmw.$n.targets.0=cxl$n,cxl-fmw.$n.size=$total
	qemu+=(-device "pxb-cxl,id=cxl$n,bus=pcie.0,bus_nr=$((32 + 8 * n))"
		-device "cxl-rp,id=cxl-port$n,bus=cxl$n,port=0,chassis=$((n + 1)),slot=0")
	add_backend "$file" "$total" "cxl-type3,bus=cxl-port$n,sn=$((n + 1)),volatile-memdev"
	cxl_devices=$((n + 1))
}

# Add memory that no table describes to the guest: a memory module that the firmware does not report and that the kernel
# is configured to ignore. Its address is after all other modules, which QEMU places, and outside the range that the
# firmware reserves just below 4 GiB.
add_reserved() {
	local file total above=0
	# As QEMU lays out a q35 machine.
	[ $((memory * MIB)) -lt $((0xb0000000)) ] || above=$((memory * MIB - 0x80000000))
	reserved_address=$(round_up $(((5 << 30) + above + hotplug)) $((1 << 30)))
	padded "$1" $PMEM_ALIGN
	reserved_size=$(printf '0x%x' "$total")
	add_backend "$file" "$total" "pc-dimm,addr=$reserved_address,memdev"
	reserved_address=$(printf '0x%x' "$reserved_address")
	# shellcheck disable=SC2016 # the dollar sign is the kernel's: a reserved range
	kernel_extra+=(acpi_no_memhotplug memmap="$reserved_size"'$'"$reserved_address")
}

# The memory of a PCI device is a window of addresses that the firmware places; its size is a power of two.
add_pci() {
	local file total size
	size=$(image_size "$1") || exit
	for ((total = PMEM_ALIGN; total < size; total *= 2)); do :; done
	padded "$1" "$total"
	add_backend "$file" "$total" ivshmem-plain,memdev
}

# Add graphics devices: vgem needs no hardware, qxl has its own memory. No console is drawn on them, because on a busy
# machine the kernel would only warn of late frames.
add_drm() {
	kernel_extra+=(drm_kms_helper.fbdev_emulation=0)
	qemu+=(-device virtio-gpu-pci -device qxl,ram_size_mb=512)
}

# ---- everything else ------------------------------------------------------------------------------

# Add a directory of this machine, readable and writable in the guest.
add_share() {
	local tag=share$1 directory=$2
	[ -d "$directory" ] || die_runner "--share $directory: no such directory"
	qemu+=(
		-fsdev "local,id=$tag,path=$(quote "$directory"),security_model=none,multidevs=remap"
		-device "virtio-9p-pci,fsdev=$tag,mount_tag=$tag"
	)
}

add_disk() {
	qemu+=(
		-drive "if=none,id=$1,format=raw,read-only=on,file.locking=off,file=$(quote "$2")"
		-device "virtio-blk-pci,drive=$1"
	)
}

# Connect the kernel's console to the log, and the command's output, its status and the monitor to one named pipe each
# in the scratch directory.
add_channels() {
	qemu+=(
		-serial "file:$(quote "$console")"
		-chardev "pipe,id=monitor,path=$(quote "$scratch/monitor")" -object monitor-hmp,id=monitor0,chardev=monitor
		-device "virtio-serial-pci,max_ports=4"
		-chardev "pipe,id=status,path=$(quote "$scratch/status")" -device virtserialport,chardev=status,name=status
		-chardev "file,id=stdout,path=$(quote "$scratch/stdout")" -device virtserialport,chardev=stdout,name=stdout
		-chardev "file,id=stderr,path=$(quote "$scratch/stderr")" -device virtserialport,chardev=stderr,name=stderr
	)
	if [ "$mode" = shell ]; then
		qemu+=(-device virtio-serial-pci,max_ports=1
			-chardev stdio,id=terminal,signal=off -device virtconsole,chardev=terminal)
	fi
}

# Start QEMU's command line: no default devices, no window, no network; a restart of the guest ends QEMU.
add_base() {
	export QEMU_MODULE_DIR=$ROOT/usr/lib/x86_64-linux-gnu/qemu
	qemu+=(
		"${IN_ROOT[@]}" "$ROOT/usr/bin/qemu-system-x86_64" -nodefaults -no-user-config -no-reboot
		-display none -vga none -net none -run-with exit-with-parent=on
		-L "$ROOT/usr/share/qemu" -L "$ROOT/usr/share/seabios"
		-machine "q35,nvdimm=on,vmport=off,i8042=on,hpet=off,smm=off,graphics=off"
	)
}
