# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Make the build root, for scripts/prepare, which has the functions that unpack packages.

root_packages=(
	'?essential' ca-certificates procps file patch
	# the kernel and its modules
	gcc g++ libc6-dev make bc bison flex libelf-dev libdw-dev libssl-dev zlib1g-dev dwarves cpio kmod rsync
	python3 perl git xz-utils zstd clang lld llvm rustc rust-src bindgen
	# daxfs's own tools and tests
	cargo rustfmt rust-clippy shellcheck pkgconf liburing-dev libattr1-dev libacl1-dev libarchive-tools umoci
	zsh fish mandoc groff-base python3-hatchling
	# images and virtual machines
	qemu-system-x86 qemu-system-modules-spice qemu-utils erofs-utils e2fsprogs xfsprogs squashfs-tools ndctl attr acl fio strace busybox-static
	# roots within the root
	bubblewrap mmdebstrap fakeroot mount
	# Debian packages
	dpkg-dev debhelper dh-dkms dh-python
)
# The build root of another suite only compiles kernels and modules; all else uses Debian 13's.
[ "$SUITE" = trixie ] || root_packages=(
	'?essential' ca-certificates gcc libc6-dev make bc bison flex libelf-dev libssl-dev zlib1g-dev dwarves cpio kmod rsync
	python3 perl xz-utils zstd rustc rust-src rustfmt rust-clippy bindgen bubblewrap
)

root_key() {
	# The last word stands for what is done with the packages.
	printf '%s\n' "${root_packages[@]}" python-compiled | sha256sum | cut -d ' ' -f 1
}

# make_places DIRECTORY: make the files of a root that scripts/run replaces by the machine's own.
make_places() {
	local file
	mkdir -p "$1/etc/ssl"
	for file in resolv.conf hosts passwd group; do
		[ -e "$1/etc/$file" ] || : >"$1/etc/$file"
	done
}

# Make the build root once, and again when other packages are needed. A subshell releases the lock: later steps may call
# this script again.
prepare_root() (
	local key archives
	[ "$ROOT" != / ] || return 0
	if [ -n "$arch_suffix" ]; then
		prepare_cross_root
		return
	fi
	key=$(root_key)
	[ "$(cat "$ROOT/.key" 2>/dev/null)" != "$key" ] || return 0
	[ "$(dpkg --print-architecture)" = amd64 ] || die "this machine is $(dpkg --print-architecture); only amd64 is supported"
	cache_lock root
	[ "$(cat "$ROOT/.key" 2>/dev/null)" != "$key" ] || return 0
	archives=$(fetch_packages "${root_packages[@]}")
	# Another checkout may need more.
	if [ -n "$(LC_ALL=C comm -13 "$ROOT/.complete" <(LC_ALL=C sort <<<"${archives//"$APT/archives/"/}") 2>/dev/null || echo new)" ]; then
		say "unpacking the build root, $(wc -l <<<"$archives") packages, into $ROOT"
		rm -rf "$ROOT.tmp"
		unpack_archives "$ROOT.tmp" <<<"$archives"
		configure_tree "$ROOT.tmp"
		make_places "$ROOT.tmp"
		rm -rf "$ROOT"
		mv "$ROOT.tmp" "$ROOT"
		write_file "$ROOT/.complete" echo "$(LC_ALL=C sort <<<"${archives//"$APT/archives/"/}")"
		"$here/run" true
	fi
	compile_python "$ROOT" / "$ROOT"/usr/lib/python3*
	write_file "$ROOT/.key" echo "$key"
	say "build root complete"
)

# Additional packages of the build root for another architecture.
cross_packages=()
case $ARCHITECTURE in
arm64) cross_packages=(gcc-aarch64-linux-gnu libc6-dev:arm64 libstd-rust-dev:arm64 qemu-system-arm qemu-efi-aarch64) ;;
loong64) cross_packages=(gcc-loongarch64-linux-gnu) ;;
esac
# The build root of another suite also only compiles kernels and modules.
[ "$SUITE" = trixie ] || cross_packages=("${cross_packages[@]:0:1}")

# Make the build root for another architecture: links to the files of this machine's, and the additional packages. Like
# all unpacking, this replaces files and does not write to them.
prepare_cross_root() {
	local key archives package_architectures=$both_architectures
	DAXFS_ARCH=amd64 DAXFS_KERNEL=stock "$here/prepare" root
	key=$({ printf '%s\n' "${cross_packages[@]}"; cat "$NATIVE_ROOT"/.{key,complete}; } | sha256sum | cut -d ' ' -f 1)
	[ "$(cat "$ROOT/.key" 2>/dev/null)" != "$key" ] || return 0
	cache_lock "root$arch_suffix"
	[ "$(cat "$ROOT/.key" 2>/dev/null)" != "$key" ] || return 0
	archives=$(fetch_packages "${cross_packages[@]}")
	say "making the build root for $ARCHITECTURE in $ROOT"
	rm -rf "$ROOT" "$ROOT.tmp"
	cp -al "$NATIVE_ROOT" "$ROOT.tmp"
	rm "$ROOT.tmp"/{.key,.complete}
	grep -v -F -f <(sed 's|^|/|' "$NATIVE_ROOT/.complete") <<<"$archives" | unpack_archives "$ROOT.tmp"
	{ cat "$NATIVE_ROOT/.complete"; echo "${archives//"$APT/archives/"/}"; } | LC_ALL=C sort -u >"$ROOT.tmp/.complete"
	mv "$ROOT.tmp" "$ROOT"
	write_file "$ROOT/.key" echo "$key"
	say "build root for $ARCHITECTURE complete"
}
