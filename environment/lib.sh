# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Shared by everything that prepares or uses the build environment: where the cache is, how progress
# is shown, how Debian packages are fetched and unpacked without touching the machine.
#
# Nothing here needs more than Debian's base system (bash, apt, dpkg, tar, perl-base), and all of it
# works as an ordinary user: packages are resolved against an empty package database of our own and
# unpacked into a directory. No maintainer script is run.

CACHE=${DAXFS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/daxfs}
# The names below are this file's interface; not every script that reads it uses all of them.
# shellcheck disable=SC2034
{
# Debian's name of the architecture that is built for. Set with it: the prefix of the compilers' names, and the
# directory for what is built. The machine that builds is an amd64.
ARCHITECTURE=${DAXFS_ARCH:-amd64}
case $ARCHITECTURE in
amd64) arch_suffix='' CROSS='' BUILD=build ;;
arm64) arch_suffix=-arm64 CROSS=aarch64-linux-gnu- BUILD=build/arm64 ;;
*) echo "${0##*/}: unknown architecture '$ARCHITECTURE': use amd64 or arm64" >&2; exit 2 ;;
esac
KERNELS=$CACHE/kernels$arch_suffix	# Debian's kernels, one directory each, see use_kernel
# The Debian release that packages come from. Kernels of another one need its compilers.
SUITE=${DAXFS_SUITE:-trixie}
suite_suffix=${SUITE#trixie}
suite_suffix=${suite_suffix:+-$suite_suffix}
# Debian with compilers, and QEMU in Debian 13's; enter it with environment/run. NATIVE_ROOT has those for amd64 only.
NATIVE_ROOT=$CACHE/root$suite_suffix
ROOT=$NATIVE_ROOT$arch_suffix
APT=$CACHE/apt$suite_suffix$arch_suffix	# package lists and archives
}

# use_kernel NAME: selects Debian's kernel for this process and its children. NAME is
#   stock         the kernel that the metapackage of Debian 13's backports depends on
#   7.3.4         that version in backports
#   sid, experimental
# Sets KERNEL to NAME and
#   STOCK         its directory: release, vmlinuz, lib/modules, kdir; a link for stock
#   DEBUG         the kernel with checkers that is made from the same source: release, bzImage, kdir
#   PACKAGES      the Debian that daxfs's packages are tested on, see debian-root
use_kernel() {
	[[ $1 =~ ^(stock|sid|experimental|[0-9]+\.[0-9]+(\.[0-9]+)?(-rc[0-9]+)?)$ ]] ||
		die "unknown kernel '$1': use stock, sid, experimental, or a version such as 7.3.4 (environment/prepare --list-kernels)"
	local suffix=''
	[ "$1" = stock ] || suffix=-$1
	export DAXFS_KERNEL=$1
	KERNEL=$1
	# shellcheck disable=SC2034 # as above
	{
	STOCK=$KERNELS/$KERNEL
	DEBUG=$CACHE/debug$suffix$arch_suffix
	PACKAGES=$CACHE/packages$suffix$arch_suffix-root
	}
}

# ---- messages -------------------------------------------------------------------------------------

# Progress goes to standard error, so that a caller can take a result from standard output. All scripts
# of one call show the same clock.
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

# Runs a command with its output in a log; shows the log's end only if the command fails.
logged() {
	local log=$1 status=0
	shift
	mkdir -p "${log%/*}"
	"$@" >"$log" 2>&1 </dev/null || status=$?
	[ $status = 0 ] && return
	tail -n 30 "$log" >&2
	die "failed ($status): $1 ${2-} ${3-}...; the whole log is $log"
}

# ---- the cache ------------------------------------------------------------------------------------

# The kernel's build cannot live with white space in a path, so say so at once.
cache_create() {
	case $CACHE in
	*[[:space:]:]*) die "cache directory '$CACHE' has white space or a colon in its name; set DAXFS_CACHE to another" ;;
	/*) ;;
	*) die "cache directory '$CACHE' is not an absolute path; set DAXFS_CACHE to one" ;;
	esac
	mkdir -p "$CACHE" || die "cannot create the cache directory $CACHE; set DAXFS_CACHE to a writable place"
}

# Takes a lock for the rest of this process (and its children) and says so if that means waiting.
cache_lock() {
	local name=$1 fd
	cache_create
	exec {fd}>>"$CACHE/.$name.lock"
	flock -n "$fd" && return
	say "waiting for another run that holds $CACHE/.$name.lock"
	flock "$fd"
}

# ---- apt ------------------------------------------------------------------------------------------

# The Debian mirror that this machine already uses, so that its proxies and caches are used as well.
debian_mirror() {
	local uri
	if [ -n "${DAXFS_MIRROR-}" ]; then
		echo "${DAXFS_MIRROR%/}"
		return
	fi
	uri=$(
		# shellcheck disable=SC2016 # apt's own variables
		apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null
		cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
			grep -v '^#' | grep -oE 'https?://[^] ]+'
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

# Packages that come from backports: the kernel, QEMU and its firmware. Everything else is plain Debian 13.
# From experimental only the kernel comes, and compilers if the kernel's packages depend on them.
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

# A private apt configuration. Of the machine's own only what concerns reaching the network is kept.
apt_configure() {
	local mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg trusted=/dev/null signed='' suite
	mirror=$(debian_mirror) || exit 1
	cache_create
	mkdir -p "$APT"/{lists,state}/partial "$APT/log"
	# Most packages of another architecture's build root are those of this machine's.
	[ -z "$arch_suffix" ] || [ -e "$APT/archives" ] || ln -s "../apt$suite_suffix/archives" "$APT/archives"
	mkdir -p "$CACHE/apt$suite_suffix/archives/partial"
	: >>"$APT/state/status"

	if [ -e "$keyring" ]; then
		signed="[signed-by=$keyring]"
	elif [ -e /etc/apt/trusted.gpg.d ]; then
		trusted=/etc/apt/trusted.gpg.d
	fi
	for suite in $(apt_suites); do
		echo "deb $signed $mirror $suite main"
	done >"$APT/sources.list"

	apt_preferences >"$APT/preferences"

	{
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
		Dir::Etc::trustedparts "$trusted";
		APT::Install-Recommends "false";
		APT::Get::Assume-Yes "true";
		APT::Sandbox::User "$(id -un)";
		Acquire::Languages "none";
		Acquire::Check-Valid-Until "false";
		Acquire::Check-Date "false";
		Acquire::Retries "3";
		Acquire::Queue-Mode "access";
		END
	} >"$APT/apt.conf.$$"
	mv "$APT/apt.conf.$$" "$APT/apt.conf"
}

# The architectures that packages are chosen from. Packages without a suffix are of the first one.
package_architectures=$ARCHITECTURE
both_architectures=amd64${arch_suffix:+,$ARCHITECTURE}

# apt with our configuration and nothing of the host's. The quiet form of progress goes to the log.
apt_run() {
	local tool=$1
	shift
	APT_CONFIG=$APT/apt.conf LC_ALL=C "apt-$tool" -qq -o APT::Architecture="${package_architectures%,*}" \
		-o APT::Architectures="$package_architectures" "$@"
}

# Refreshes the package lists when there are none, they are a day old, or the mirror is another.
apt_update() {
	local stamp=$APT/lists.stamp package_architectures=$both_architectures
	apt_configure
	if [ -n "$(find "$stamp" -mtime -1 2>/dev/null)" ] && cmp -s "$APT/sources.list" "$stamp"; then
		return
	fi
	say "fetching Debian's package lists"
	if ! apt_run get update >"$APT/log/update" 2>&1 || grep -q '^[EW]:' "$APT/log/update"; then
		cat "$APT/log/update" >&2
		if grep -q -e NO_PUBKEY -e 'Missing key' "$APT/log/update"; then
			die "Debian 13's signing key is not on this machine: install debian-archive-keyring 2023.3+deb12u2 or later"
		fi
		! grep -q '^E:' "$APT/log/update" || die "cannot fetch package lists from $(debian_mirror); set DAXFS_MIRROR to another mirror"
	fi
	cp "$APT/sources.list" "$stamp"
}

# All versions of a package on the mirror, newest first.
package_versions() {
	apt_run cache madison "$1" | awk -F ' *[|] *' '{ sub(/^ */, "", $2); print $2 }' | uniq
}

# What the newest version of a package depends on, by a pattern (how metapackages are resolved).
package_depends() {
	apt_run cache depends --important --no-recommends "$1" | sed -n 's/^ *Depends: //p' | grep -E -m 1 "$2"
}

# The upstream version of a kernel release, as Debian writes it:
# 7.2.12+deb13-amd64  ->  7.2.12    7.4-rc2-amd64, 7.4~rc2+deb14-amd64  ->  7.4~rc2
kernel_version() {
	sed -E 's/^([0-9]+\.[0-9]+(\.[0-9]+)?)([~-](rc[0-9]+))?.*$/\1~\4/; s/~$//' <<<"$1"
}

# The package with the source of a kernel version: 7.2.12  ->  linux-source-7.2
kernel_source_package() {
	cut -d . -f 1,2 <<<"linux-source-${1%%~*}"
}

# Prints the archives' file names of packages and of all that they depend on.
plan_packages() {
	local plan
	plan=$(apt_run get install --simulate -q=1 "$@" 2>&1) || die "cannot resolve packages: ${plan##*$'\n'E: }"
	# Inst gcc (4:14.2.0-1 Debian:13.1/stable [amd64])   ->   gcc_4%3a14.2.0-1_amd64.deb
	# The name of a package of another architecture ends with it: libc6:arm64.
	sed -nE 's,^Inst ([^ :]+)[^ ]* .*\(([^ )]+).*\[([^]]+)\]\).*,\1_\2_\3.deb,p' <<<"$plan" | sed 's/:/%3a/g'
}

# Prints the archives' file names of packages alone; PACKAGE=VERSION is that version.
plan_only() {
	local package
	for package; do
		apt_run cache show --no-all-versions "$package" 2>/dev/null |
			awk '/^(Package|Version|Architecture):/ { f[$1] = $2 }
				END { if (!("Package:" in f)) exit 1; print f["Package:"] "_" f["Version:"] "_" f["Architecture:"] ".deb" }' |
			sed 's/:/%3a/g' || die "the mirror has no package $package"
	done
}

# Downloads packages and all that they depend on (with --only: not these), and prints the archives' names.
# What an interrupted run has downloaded is not downloaded again.
fetch_packages() (
	how=plan_packages
	[ "$1" != --only ] || { how=plan_only; shift; }
	cache_lock apt
	apt_update
	for attempt in 1 2; do
		plan=$($how "$@") || exit 1
		cd "$APT/archives" || exit 1
		missing=$(for archive in $plan; do [ -e "$archive" ] || echo "$archive"; done)
		[ -n "$missing" ] || break
		say "downloading $(wc -l <<<"$missing") packages"
		case $how in
		plan_packages) apt_run get install --download-only "$@" ;;
		plan_only) apt_run get download "$@" ;;
		esac >"$APT/log/download" 2>&1 || {
			# The mirror may have moved on since the lists were fetched.
			if [ $attempt = 1 ]; then
				rm -f "$APT/lists.stamp"
				apt_update
			else
				tail -n 5 "$APT/log/download" >&2
				die "download from $(debian_mirror) failed; run this again to continue where it stopped"
			fi
		}
	done
	for archive in $plan; do
		[ -e "$archive" ] || die "apt did not deliver $APT/archives/$archive"
		echo "$APT/archives/$archive"
	done
)

# Unpacks archives named on standard input into a directory, two at a time.
unpack_archives() {
	local dest=$1 dir
	mkdir -p "$dest"
	# Debian's merged /usr: the links must exist before any package that still ships /lib.
	if [ ! -e "$dest/usr" ]; then
		mkdir -p "$dest"/usr/{bin,sbin,lib,lib64}
		for dir in bin sbin lib lib64; do
			ln -s usr/$dir "$dest/$dir"
		done
	fi
	# shellcheck disable=SC2016 # expanded by the inner shell
	DEST=$dest xargs -r -P 2 -n 1 bash -c 'set -o pipefail
		dpkg-deb --fsys-tarfile "$1" | tar -x -p -C "$DEST" --keep-directory-symlink --no-same-owner \
			--exclude=./usr/share/{doc,man,info,locale,help,lintian}"/*" --warning=no-timestamp || {
			echo "cannot unpack $1; remove it and run this again" >&2; exit 255; }' unpack ||
		die "unpacking into $dest failed"
}

# extract_packages DEST PACKAGE...: the packages and all that they depend on, unpacked into DEST.
# Debian's essential packages are not among them by themselves: ask for '?essential'.
extract_packages() {
	local dest=$1 archives
	shift
	archives=$(fetch_packages "$@") || exit 1
	say "unpacking $(wc -l <<<"$archives") packages into $dest"
	unpack_archives "$dest" <<<"$archives"
	configure_tree "$dest"
}

# What maintainer scripts would have done, as far as anything here needs it. The linker's cache
# (ldconfig) is not needed: every library is in a directory that Debian's ld.so searches by itself.
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
	/usr/bin/nc /usr/bin/nc.openbsd
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
