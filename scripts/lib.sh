# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Functions and variables for all scripts that prepare or use the build environment: the places of the cache, progress
# messages, and fetching and unpacking of Debian packages without changing the machine.
#
# This needs Debian's base system only (bash, apt, dpkg, tar, perl-base), and runs as an ordinary user: apt resolves
# packages against an empty database in the cache, and they are unpacked into a directory. No maintainer script is run.

# A hook of git names its repository to git, and may have no home. Users of the virtual machine read what is made here.
unset GIT_DIR GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_WORK_TREE
export HOME=${HOME:-~}
umask 022

CACHE=${DAXFS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/daxfs}
# Not every script that sources this file uses all of these variables.
# shellcheck disable=SC2034
{
# Debian's name of the architecture that is built for. Set with it: the kernel's name, the prefix of the compilers' names,
# and the output directory. The machine that builds is an amd64.
ARCHITECTURE=${DAXFS_ARCH:-amd64}
case $ARCHITECTURE in
amd64) KERNEL_ARCH=x86 CROSS='' ;;
arm64) KERNEL_ARCH=arm64 CROSS=aarch64-linux-gnu- ;;
loong64) KERNEL_ARCH=loongarch CROSS=loongarch64-linux-gnu- ;;
*) echo "${0##*/}: unknown architecture '$ARCHITECTURE': use amd64, arm64 or loong64" >&2; exit 2 ;;
esac
arch_suffix=${CROSS:+-$ARCHITECTURE}
BUILD=build${CROSS:+/$ARCHITECTURE}
KERNELS=$CACHE/kernels$arch_suffix	# Debian's kernels and our own, one directory each, see use_kernel
# The Debian release that packages come from. Kernels of another one need its compilers.
SUITE=${DAXFS_SUITE:-trixie}
suite_suffix=${SUITE#trixie}
suite_suffix=${suite_suffix:+-$suite_suffix}
# Debian with compilers, and QEMU in Debian 13's; enter it with scripts/run. NATIVE_ROOT has those for amd64 only.
# DAXFS_ROOT=/ takes the machine's own programs, as debian/rules does.
NATIVE_ROOT=$CACHE/root$suite_suffix
ROOT=${DAXFS_ROOT:-$NATIVE_ROOT$arch_suffix}
APT=$CACHE/apt$suite_suffix$arch_suffix	# package lists and archives
PEERS=$CACHE/peers-root	# programs of sid, for bench
}

# use_kernel NAME: select Debian's kernel for this process and its children. NAME is
#   stock         the newest in Debian 13's backports of a series in scripts/kernels
#   7.2.12        that version in backports
#   7.3.4-cloud   a version in Debian's flavour for virtual machines
#   7.3.4-rt      in that for real time
#   7.3.4-16k     for arm64, a version with pages of 16 KiB
#   sid, experimental
# Sets KERNEL to NAME and
#   FLAVOUR       how the names of its packages end: the architecture, with cloud- or rt- before it, or with -16k after it
#   PAGE_SIZE     the size of its pages in bytes
#   STOCK         its directory: release, vmlinuz, lib/modules, kdir; a link for stock
#   DEBUG         the kernel with checkers that is made from the same source: release, kdir
#   PACKAGES      the Debian that daxfs's packages are tested on, see debian-root
use_kernel() {
	[[ $1 =~ ^(stock|sid|experimental|[0-9]+\.[0-9]+(\.[0-9]+)?(-rc[0-9]+)?(-(cloud|rt|16k))?)$ ]] ||
		die "unknown kernel '$1': use stock, sid, experimental, or a version such as 7.2.12 (scripts/prepare --list-kernels)"
	[[ $1 != *-16k || $ARCHITECTURE = arm64 ]] || die "kernel $1: only arm64 has pages of 16 KiB"
	local suffix=''
	[ "$1" = stock ] || suffix=-$1
	export DAXFS_KERNEL=$1
	KERNEL=$1
	# shellcheck disable=SC2034 # as above
	{
	FLAVOUR=$ARCHITECTURE PAGE_SIZE=4096
	case $1 in
	*-cloud | *-rt) FLAVOUR=${1##*-}-$ARCHITECTURE ;;
	*-16k) FLAVOUR+=-16k PAGE_SIZE=16384 ;;
	esac
	STOCK=$KERNELS/$KERNEL
	DEBUG=$CACHE/debug$suffix$arch_suffix
	PACKAGES=$CACHE/packages$suffix$arch_suffix-root
	}
}

# ---- messages -------------------------------------------------------------------------------------

# Print a progress message to standard error; standard output is for results. Scripts of one run share the start time.
export DAXFS_CLOCK=${DAXFS_CLOCK:-$EPOCHSECONDS}
say() {
	printf '[%4d s] %s\n' $((EPOCHSECONDS - DAXFS_CLOCK)) "$*" >&2
}

warn() {
	printf '%s: warning: %s\n' "${0##*/}" "$*" >&2
}

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

usage_error() {
	printf '%s: %s (see %s --help)\n' "${0##*/}" "$*" "${0##*/}" >&2
	exit 2
}

use_kernel "${DAXFS_KERNEL:-stock}"

# logged LOG COMMAND...: run a command with its output in a log. If it fails, show the end of the log.
logged() {
	local log=$1 status=0
	shift
	mkdir -p "${log%/*}"
	"$@" >"$log" 2>&1 </dev/null || status=$?
	[ $status = 0 ] && return
	tail -n 30 "$log" >&2
	die "failed ($status): $1 ${2-} ${3-}...; the whole log is $log"
}

# ---- compilers ------------------------------------------------------------------------------------

# compiler_version COMMAND...: print what a compiler says of its version, or why it says nothing.
compiler_version() {
	local file text
	file=$(type -P "$1") || { echo 'not installed'; return; }
	if text=$("$@" --version 2>/dev/null) && [ -n "$text" ]; then
		head -n 1 <<<"$text"
	else
		# rustup's rustc, for one, which needs a toolchain.
		text=$("$@" --version 2>&1 || true)
		text=${text%%$'\n'*}
		echo "broken: $file: ${text:-it prints no version}"
	fi
}

# compiler_behind NAME VERSION: print the directory that has the compiler with this version, behind another one in PATH.
compiler_behind() {
	local file
	while read -r file; do
		[ "$(compiler_version "$file")" != "$2" ] || { echo "${file%/*}"; return; }
	done < <(type -aP "$1"; echo "/usr/bin/$1")
	return 1
}

# ---- the cache ------------------------------------------------------------------------------------

# write_file FILE COMMAND...: write the text that a command prints to a file, which changes completely or not at all.
write_file() {
	local file=$1 text
	text=$("${@:2}") || die "cannot make $file"
	if ! { printf '%s\n' "$text" >"$file.$BASHPID" && mv "$file.$BASHPID" "$file"; }; then
		rm -f "$file.$BASHPID"
		die "cannot write $file"
	fi
}

# Remove the files in a build directory of the kernel's that an earlier run has cut off: make cannot read them, and makes
# them again.
remove_cut_off() {
	{ grep -rLzP --include='.*.cmd' '\n\z' "$1" || true; } | xargs -r -d '\n' rm -f
}

# configure_kernel SOURCE DIRECTORY LOG FILE...: configure a kernel with the options in files only; a later file counts.
# The caller sets `here`.
# shellcheck disable=SC2154
configure_kernel() {
	logged "$3" "$here/run" env -C "$1" scripts/kconfig/merge_config.sh -Q -n -O "$2" "${@:4}"
	! grep -A 2 '^WARNING: ' "$3" >&2 || die "some lines of ${*:4} have no effect: a dependency is missing, or the option is gone"
}

# Create the cache directory. The kernel's build does not work with white space in paths.
cache_create() {
	case $CACHE in
	*[[:space:]:]*) die "cache directory '$CACHE' has white space or a colon in its name; set DAXFS_CACHE to another" ;;
	/*) ;;
	*) die "cache directory '$CACHE' is not an absolute path; set DAXFS_CACHE to one" ;;
	esac
	mkdir -p "$CACHE" || die "cannot create the cache directory $CACHE; set DAXFS_CACHE to a writable place"
}

# cache_lock NAME: take a lock until this process and its children end. Print a message if another run holds it.
cache_lock() {
	local name=$1 fd
	cache_create
	{ exec {fd}>>"$CACHE/.$name.lock"; } 2>/dev/null ||
		die "cannot write $CACHE/.$name.lock: the cache directory belongs to $(stat -c %U "$CACHE"); set DAXFS_CACHE to another"
	flock -n "$fd" && return
	say "waiting for another run that holds $CACHE/.$name.lock"
	flock "$fd"
}

# ---- apt ------------------------------------------------------------------------------------------

# Print the Debian mirror that this machine uses; its proxies and caches then work here too.
debian_mirror() {
	local uri
	if [ -n "${DAXFS_MIRROR-}" ]; then
		echo "${DAXFS_MIRROR%/}"
		return
	fi
	uri=$(
		# shellcheck disable=SC2016 # apt's own variables
		apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null
		grep -hs -v '^#' /etc/apt/sources.list{,.d/*} /etc/apt/mirrors/* | grep -oE 'https?://[^][:space:]]+'
	) || true
	uri=$(grep -m 1 -E '^https?://.*/debian/?$' <<<"$uri") ||
		die "no Debian mirror in this machine's apt configuration; set DAXFS_MIRROR=http://HOST/debian"
	echo "${uri%/}"
}

apt_suites() {
	case $SUITE in
	sid) echo sid ;;
	experimental) echo sid experimental ;;
	*) echo "$SUITE $SUITE-updates $SUITE-backports" ;;
	esac
}

# Print apt's preferences. The kernel, QEMU and its firmware come from backports, all other packages from Debian 13.
# From experimental come the kernel and what its packages depend on.
apt_preferences() {
	local newest
	case $SUITE in
	sid) return ;;
	experimental) newest=experimental ;;
	*)
		newest=$SUITE-backports
		cat <<-END
		Package: *
		Pin: release n=$newest
		Pin-Priority: -1

		END
		;;
	esac
	cat <<-END
	Package: linux-* qemu-* seabios ipxe-qemu
	Pin: release n=$newest
	Pin-Priority: 900
	END
}

# Write apt's configuration. Of the machine's configuration it has only the options about the network.
apt_configure() {
	local mirror
	mirror=$(debian_mirror) || exit 1
	cache_create
	mkdir -p "$APT"/{lists,state}/partial "$APT/log"
	# Build roots share most packages between architectures.
	[ -z "$arch_suffix" ] || [ -e "$APT/archives" ] || ln -s "../apt$suite_suffix/archives" "$APT/archives"
	mkdir -p "$CACHE/apt$suite_suffix/archives/partial"
	: >>"$APT/state/status"

	write_file "$APT/sources.list" apt_sources
	write_file "$APT/preferences" apt_preferences
	write_file "$APT/apt.conf" apt_options
}

# Print the sources of packages on apt_configure's mirror.
apt_sources() {
	local suite
	for suite in $(apt_suites); do
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
	done
}

apt_options() {
	apt-config dump 2>/dev/null | grep -E '^Acquire::(https?|ftp|Retries|ForceIPv|Proxy)' || true
	cat <<-END
	Dir::State "$APT/state";
	Dir::State::lists "$APT/lists";
	Dir::State::status "$APT/state/status";
	Dir::Cache "$APT";
	Dir::Cache::archives "$APT/archives";
	Dir::Log "$APT/log";
	Dir::Etc::parts "/dev/null";
	Dir::Etc::main "/dev/null";
	Dir::Etc::sourcelist "$APT/sources.list";
	Dir::Etc::sourceparts "/dev/null";
	Dir::Etc::preferences "$APT/preferences";
	Dir::Etc::preferencesparts "/dev/null";
	Dir::Etc::trusted "/dev/null";
	Dir::Etc::trustedparts "/dev/null";
	APT::Install-Recommends "false";
	APT::Get::Assume-Yes "true";
	APT::Sandbox::User "$(id -un)";
	Acquire::Languages "none";
	Acquire::Check-Valid-Until "false";
	Acquire::Check-Date "false";
	Acquire::Retries "3";
	Acquire::Queue-Mode "access";
	END
}

# The architectures that packages are chosen from. Packages without a suffix are of the first one.
package_architectures=$ARCHITECTURE
both_architectures=amd64${arch_suffix:+,$ARCHITECTURE}

# apt_run TOOL ARGUMENT...: run apt-TOOL with that configuration.
apt_run() {
	local tool=$1
	shift
	APT_CONFIG=$APT/apt.conf LC_ALL=C "apt-$tool" -qq -o APT::Architecture="${package_architectures%,*}" \
		-o APT::Architectures="$package_architectures" "$@"
}

# Check that the package lists are from the last day, and from this mirror.
lists_fresh() {
	[ -n "$(find "$APT/lists.stamp" -mtime -1 2>/dev/null)" ] && cmp -s "$APT/sources.list" "$APT/lists.stamp"
}

# Fetch the package lists if they are missing or older than a day, or if the mirror has changed.
apt_update() {
	local package_architectures=$both_architectures
	apt_configure
	# A subshell releases the lock: later steps may take it again.
	lists_fresh || (
		cache_lock "${APT##*/}-lists"
		! lists_fresh || exit 0
		fetch_lists
	) || exit
}

fetch_lists() {
	say "fetching Debian's package lists"
	# By default apt-get succeeds if a host cannot be reached.
	if apt_run get -o APT::Update::Error-Mode=any update >"$APT/log/update" 2>&1; then
		write_file "$APT/lists.stamp" cat "$APT/sources.list"
		cat "$APT/log/update" >&2
		return
	fi
	cat "$APT/log/update" >&2
	if grep -q -e NO_PUBKEY -e 'Missing key' "$APT/log/update"; then
		die "Debian 13's signing key is not on this machine: install debian-archive-keyring 2023.3+deb12u2 or later"
	fi
	die "cannot fetch package lists from $(debian_mirror); set DAXFS_MIRROR to another mirror"
}

# Print all versions of a package on the mirror, newest first.
package_versions() {
	apt_run cache madison "$1" | awk -F ' *[|] *' '{ sub(/^ */, "", $2); print $2 }' | uniq
}

# Print the upstream version of a kernel release as Debian writes it:
# 7.2.12+deb13-amd64  ->  7.2.12    7.4-rc2-amd64, 7.4~rc2+deb14-amd64  ->  7.4~rc2
kernel_version() {
	sed -E 's/^([0-9]+\.[0-9]+(\.[0-9]+)?)([~-](rc[0-9]+))?.*$/\1~\4/; s/~$//' <<<"$1"
}

# headers_version HEADERS RELEASE: print the upstream version of the kernel with these headers. Headers without
# a Debian version, such as of a kernel built from source, give the version in the release.
headers_version() {
	local version
	# The Debian version is 7.3~rc7-1~exp1 if the release is 7.3-amd64.
	version=$(sed -nE 's/^#define LINUX_PACKAGE_ID " Debian (.*)"$/\1/p' "$1/include/generated/package.h" 2>/dev/null || true)
	if [ -n "$version" ]; then echo "${version%%-*}"; else kernel_version "$2"; fi
}

# Print the versions of the kernels that the module is known to run on, newest first.
known_kernels() {
	grep -v '^#' "${BASH_SOURCE[0]%/*}/kernels"
}

# Print the name of the package with the source of a kernel version: 7.2.12  ->  linux-source-7.2
kernel_source_package() {
	cut -d . -f 1,2 <<<"linux-source-${1%%~*}"
}

# Download packages and their dependencies (with --only: the packages alone, where PACKAGE=VERSION means that version), and
# print the names of the archives. Archives that an earlier, interrupted run has downloaded are used.
fetch_packages() (
	get=(install --download-only)
	[ "$1" != --only ] || { get=(download); shift; }
	cache_lock apt
	apt_update
	# Next to an empty directory for archives, apt prints the files of all packages.
	mkdir -p "$APT/none/partial"
	plan=$(apt_run get "${get[0]}" --print-uris -o Dir::Cache::archives="$APT/none" "$@" 2>"$APT/log/plan") ||
		die "cannot resolve packages: $(tail -n 1 "$APT/log/plan")"
	plan=$(cut -d ' ' -f 2 <<<"$plan")
	cd "$APT/archives" || exit 1
	missing=$(for archive in $plan; do [ -e "$archive" ] || echo "$archive"; done)
	if [ -n "$missing" ]; then
		say "downloading $(wc -l <<<"$missing") packages"
		apt_run get "${get[@]}" "$@" >"$APT/log/download" 2>&1 || {
			tail -n 5 "$APT/log/download" >&2
			# The mirror may have newer packages since the lists were fetched.
			rm -f "$APT/lists.stamp"
			die "download from $(debian_mirror) failed; run this again to continue where it stopped"
		}
	fi
	for archive in $plan; do
		[ -e "$archive" ] || die "apt did not deliver $APT/archives/$archive"
		echo "$APT/archives/$archive"
	done
)

# unpack_archives DEST: unpack the archives named on standard input into a directory, two at a time.
unpack_archives() {
	local dest=$1 dir
	mkdir -p "$dest"
	# Debian has merged /usr: the links must exist before a package that has files in /lib is unpacked.
	if [ ! -e "$dest/usr" ]; then
		mkdir -p "$dest"/usr/{bin,sbin,lib,lib64}
		for dir in bin sbin lib lib64; do
			ln -s usr/$dir "$dest/$dir"
		done
	fi
	# shellcheck disable=SC2016 # expanded by the inner shell
	DEST=$dest xargs -r -P 2 -n 1 bash -c 'set -o pipefail
		dpkg-deb --fsys-tarfile "$1" | tar -x -p -C "$DEST" --keep-directory-symlink --no-same-owner \
			--exclude=./usr/share/{doc,man,info,locale,help,lintian}"/*" --warning=no-timestamp 2> >(head -n 3 >&2) ||
			{ dpkg-deb --fsys-tarfile "$1" >/dev/null || rm -f "$1"; echo "cannot unpack $1; run this again" >&2; exit 255; }' unpack ||
		die "unpacking into $dest failed"
}

# extract_packages DEST PACKAGE...: unpack packages and their dependencies into DEST. Nothing depends on Debian's
# essential packages; '?essential' names them.
extract_packages() {
	local dest=$1 archives
	shift
	archives=$(fetch_packages "$@") || exit 1
	say "unpacking $(wc -l <<<"$archives") packages into $dest"
	unpack_archives "$dest" <<<"$archives"
	configure_tree "$dest"
}

# compile_python TREE PLACE DIRECTORY...: compile the Python files below directories of a tree that will be at PLACE, as
# maintainer scripts do. Otherwise each Python compiles what it imports. Images change the times of files, so Python does not
# check whether a compiled file is older than its source. Call this again after a change of the source.
compile_python() {
	"${BASH_SOURCE[0]%/*}/python" -m compileall -q --invalidation-mode unchecked-hash -s "$1" -p "$2" "${@:3}" >&2 ||
		warn "Python files of $1 do not compile"
}

# configure_tree DEST: replace the maintainer scripts as far as needed here. ldconfig is not needed: Debian's ld.so
# searches the directories of all libraries by default.
configure_tree() {
	local dest=$1 link target
	while read -r link target; do
		if [ -e "$dest$target" ] && [ ! -e "$dest$link" ]; then
			ln -sfn "$target" "$dest$link"
		fi
	done <<-END
	/usr/bin/awk /usr/bin/mawk
	/usr/bin/nawk /usr/bin/mawk
	/usr/bin/cc /usr/bin/gcc
	/usr/bin/c++ /usr/bin/g++
	/usr/bin/yacc /usr/bin/bison.yacc
	/usr/bin/fakeroot /usr/bin/fakeroot-sysv
	/usr/bin/faked /usr/bin/faked-sysv
	/usr/bin/which /usr/bin/which.debianutils
	/usr/bin/pager /usr/bin/less
	/etc/dpkg/origins/default /etc/dpkg/origins/debian
	END
	mkdir -p "$dest"/{etc,dev,proc,sys,run,tmp,root,mnt}
	chmod 1777 "$dest/tmp"
	for link in passwd group; do
		if [ -e "$dest/usr/share/base-passwd/$link.master" ] && [ ! -e "$dest/etc/$link" ]; then
			cp "$dest/usr/share/base-passwd/$link.master" "$dest/etc/$link"
		fi
	done
	if [ -e "$dest/usr/share/libc-bin/nsswitch.conf" ] && [ ! -e "$dest/etc/nsswitch.conf" ]; then
		cp "$dest/usr/share/libc-bin/nsswitch.conf" "$dest/etc/nsswitch.conf"
	fi
	if [ -d "$dest/usr/share/ca-certificates" ] && [ ! -e "$dest/etc/ssl/certs/ca-certificates.crt" ]; then
		mkdir -p "$dest/etc/ssl/certs"
		cat "$dest"/usr/share/ca-certificates/*/*.crt >"$dest/etc/ssl/certs/ca-certificates.crt"
	fi
}
