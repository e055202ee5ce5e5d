# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Find the guest's kernel, and make the parts of its boot: the command line, the first stage, the programs and tests,
# and the payload (daxfs.ko, the command). Needs lib/tools.sh.

kernel_image=	# what QEMU loads
kernel_modules=	# its lib/modules/RELEASE; empty when everything is built in
release=	# its name, as uname -r says

# Print the release that is stored in an x86-64 kernel image.
image_release() {
	in_root file -m "$ROOT/usr/lib/file/magic.mgc" -b -L "$1" | sed -n 's/.*boot executable.* version \([^ ]*\) .*/\1/p'
}

# need FILE WHAT: prepare the part WHAT of the build environment if FILE does not exist.
need() {
	[ -e "$1" ] && return
	"$top/environment/prepare" "$2" || die_runner "no $1; 'environment/prepare $2' failed"
	[ -e "$1" ] || die_runner "environment/prepare $2 did not make $1"
}

# Check if the kernel itself has daxfs, built in or as a module.
has_daxfs() {
	[ -n "$kernel_modules" ] && grep -q -x -F kernel/fs/daxfs/daxfs.ko "$kernel_modules"/modules.{builtin,order}
}

select_kernel() {
	local directory
	case $kernel in
	debug)
		kernel_image=$DEBUG/bzImage
		need "$kernel_image" debug
		release=$(<"$DEBUG/release")
		: "${module:=$top/$BUILD/${DEBUG##*/}/daxfs.ko}"
		;;
	*/*)
		[ -r "$kernel" ] && [ -f "$kernel" ] || die_runner "--kernel $kernel: not a readable file"
		kernel_image=$kernel
		release=$(image_release "$kernel") && [ -n "$release" ] || die_runner "--kernel $kernel: not a bootable x86-64 kernel image"
		for directory in "$(dirname "$kernel")/lib/modules/$release" "/lib/modules/$release"; do
			[ -e "$directory/modules.order" ] && kernel_modules=$directory && break
		done
		has_daxfs || : "${module:=$top/$BUILD/daxfs.ko}"
		;;
	*)
		use_kernel "$kernel"
		kernel_image=$STOCK/vmlinuz
		need "$kernel_image" kernel
		release=$(<"$STOCK/release")
		kernel_modules=$STOCK/lib/modules/$release
		# Where make builds for this kernel: stock is a link.
		: "${module:=$top/$BUILD/$(basename "$(readlink -f "$STOCK")")/daxfs.ko}"
		;;
	esac
}

# Make the guest's filesystems if they are missing or older than their sources.
prepare_guest() {
	boot=$GUEST/boot-builtin.cpio
	disks=("$GUEST/userland.erofs")
	if [ -n "$kernel_modules" ]; then
		boot=$GUEST/boot-$release.cpio
		disks+=("$GUEST/modules-$release.erofs")
	fi
	"$here/guest-image" ${kernel_modules:+"$kernel_modules"} || die_runner "cannot make the guest's file systems"
	prepare_programs || die_runner "cannot make $top/$BUILD/guest/programs.erofs"
	disks+=("$top/$BUILD/guest/programs.erofs")
}

# Make a disk of bin and tests, which make has built. In the payload they would be copied four times before the guest has them.
# The disk is made again when a file in these directories has changed.
prepare_programs() (
	image=$top/$BUILD/guest/programs.erofs tree=$top/$BUILD/guest/programs.tmp
	programs=(find bin tests ! -type d ! -name '*.o') # omit object files
	mkdir -p "$top/$BUILD"/{bin,tests,guest} && cd "$top/$BUILD" || exit
	key=$("${programs[@]}" -printf '%p %s %T@ %m %l\n' | LC_ALL=C sort)
	exec {lock}>"$image.lock" && flock "$lock" || exit
	[ "$(cat "$image.key" 2>/dev/null)" != "$key" ] || exit 0
	rm -rf "$tree" "$image.key" && mkdir "$tree" && "${programs[@]}" -exec cp -al -t "$tree" --parents {} + && chmod -R a+rX "$tree" &&
		in_root mkfs.erofs --quiet --all-root -T0 "$image.tmp" "$tree" >/dev/null && mv "$image.tmp" "$image" &&
		echo "$key" >"$image.key" && rm -rf "$tree"
)

# ---- the payload ----------------------------------------------------------------------------------

# Add daxfs.ko, and have modprobe and mount find it by a command: depmod over all modules takes seconds.
place_module() {
	local extra=usr/lib/modules/$release/extra
	[ -n "$module" ] || return 0
	if [ ! -e "$module" ]; then
		[ "$module_wanted" = 0 ] || die_runner "--module $module: no such file"
		printf 'vm: warning: the guest has no daxfs: %s is missing (make builds it)\n' "$module" >&2
		return
	fi
	mkdir -p "$1/$extra" "$1/etc/modprobe.d"
	in_root "${CROSS}strip" --strip-debug -o "$1/$extra/daxfs.ko" "$module" || die_runner "$module: not a kernel module"
	grep -q -a -F "vermagic=$release " "$1/$extra/daxfs.ko" ||
		printf 'vm: warning: %s is built for another kernel than %s\n' "$module" "$release" >&2
	# It depends on no other module.
	cat >"$1/etc/modprobe.d/daxfs.conf" <<-END
	alias fs-daxfs daxfs
	install daxfs insmod /$extra/daxfs.ko \$CMDLINE_OPTS
	END
}

# Links are enough here: the archive contains the files that they point to.
make_payload() {
	local tree=$scratch/tree root=$scratch/tree/payload
	mkdir -p "$root"/{etc/daxfs-vm,usr/local/{bin,sbin},opt/daxfs}
	cp "$here/guest-init" "$root/usr/local/sbin/guest-init"
	chmod 755 "$root/usr/local/sbin/guest-init"
	printf '%s\0' "${command[@]}" >"$root/etc/daxfs-vm/command"
	write_config >"$root/etc/daxfs-vm/config"
	[ -z "$kernel_modules" ] || : >"$root/etc/daxfs-vm/modules-disk"
	place_module "$root"
	make_cpio "$tree" "$scratch/payload.cpio" || die_runner "cannot write $scratch/payload.cpio"
	cat "$boot" "$scratch/payload.cpio" >"$scratch/initramfs" || die_runner "cannot write $scratch/initramfs"
	rm -rf "$tree" "$scratch/payload.cpio"
}

# Print how many seconds of system time one call may take. Checkers and emulation make calls slow. Where time counts
# instructions, nothing else may run.
call_limit() {
	if [ "$icount" = 1 ]; then
		echo 0
	elif [[ $kernel = debug || $kernel = */* ]] || [ -n "$arch_suffix" ]; then
		echo "${DAXFS_VM_CALL_LIMIT:-150}"
	else
		echo "${DAXFS_VM_CALL_LIMIT:-30}"
	fi
}

# Print the configuration, which guest-init reads as shell text.
write_config() {
	local modules=() drm=$drm
	[ "$drm" = 0 ] || [ "$ARCHITECTURE" = arm64 ] || drm=2
	if [ -n "$kernel_modules" ]; then
		modules=(virtio_console)
		[ ${#nvdimms[@]} = 0 ] || modules+=(nfit nd_pmem)
		if [ "$ARCHITECTURE" = arm64 ]; then
			[ -z "${virtio_pmems[*]}$reserve" ] || modules+=(nfit nd_pmem)
		else
			[ ${#virtio_pmems[@]} = 0 ] || modules+=(virtio_pmem nd_pmem)
		fi
		[ ${#cxls[@]} = 0 ] || modules+=(cxl_acpi cxl_pci cxl_mem dax_cxl fsdev_dax)
		[ "$drm" = 0 ] || modules+=(vgem virtio_gpu)
		[ "$drm" -lt 2 ] || modules+=(qxl)
		[ ${#shares[@]} = 0 ] || modules+=(9pnet_virtio 9p)
	fi
	printf 'PROGRAMS=/dev/vd%s\n' "$([ -n "$kernel_modules" ] && echo c || echo b)"
	printf 'MODE=%q\nMERGE=%q\nDEVICES=%q\nDISKS=%q\n' "$mode" "$merge" "$devices" ${#images[@]}
	printf 'CXL=%q\nDRM=%q\nPCI=%q\n' "$cxl_devices" "$drm" "${pci:+1}"
	printf 'RESERVED_ADDR=%q\nRESERVED_SIZE=%q\n' "$reserved_address" "$reserved_size"
	printf 'CALL_LIMIT=%q\n' "$(call_limit)"
	printf 'TERM_NAME=%q\nLINES=%q\nCOLUMNS=%q\n' "${TERM:-dumb}" "$lines" "$columns"
	printf 'MODULES=(%s)\nSHARES=(' "${modules[*]}"
	[ ${#shares[@]} = 0 ] || printf ' %q' "${shares[@]#*:}"
	printf ')\n'
}

# ---- the kernel's command line --------------------------------------------------------------------

# Print the kernel's command line. After a failure the kernel stops at once (which ends QEMU), rather than at the time
# limit, and prints what each processor was doing. Emulation on a busy machine is slow, so the watchdogs wait longer.
# The other options save time at boot.
kernel_arguments() {
	local words=(
		console="$([ "$ARCHITECTURE" = arm64 ] && echo ttyAMA0 || echo ttyS0,115200)" oops=panic panic=-1 unknown_nmi_panic panic_print=0xc0
		watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=120 sysctl.kernel.hung_task_timeout_secs=300
		mitigations=off highres=off nokaslr tsc=reliable no_timer_check random.trust_cpu=on audit=0 apparmor=0
		cryptomgr.notests 8250.nr_uarts=1 rdinit=/init
		"${kernel_extra[@]}"
	)
	echo "${words[*]}"
}
