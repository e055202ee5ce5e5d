# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Functions that the scripts in this directory share: run programs of the build root, make archives and module
# indexes. Needs scripts/lib.sh.

# shellcheck disable=SC2034 # used by the scripts that read this file
GUEST=$CACHE/guest$arch_suffix

# Start programs of the build root through the root's own loader. This needs no namespaces, and the process is a child
# of the script, so that it can be killed by its number, and sees the host's files.
IN_ROOT=("$ROOT/usr/lib64/ld-linux-x86-64.so.2" --library-path "$ROOT/usr/lib/x86_64-linux-gnu")

in_root() {
	local name=$1 path
	shift
	for path in "$ROOT"/usr/{bin,sbin}/"$name"; do
		if [ -x "$path" ]; then
			"${IN_ROOT[@]}" --argv0 "$name" "$path" "$@"
			return
		fi
	done
	die "no $name in the build root $ROOT; run scripts/prepare root"
}

# make_cpio TREE ARCHIVE: make an archive of files that belong to root. Links to files are followed.
make_cpio() {
	(cd "$1" && find -L . -mindepth 1 | LC_ALL=C sort | in_root cpio -o -L -H newc -R 0:0 --quiet) >"$2"
}

# run_depmod TREE RELEASE: run depmod on a TREE with usr/lib/modules/RELEASE. depmod looks in lib/modules.
run_depmod() {
	local modules=$1/usr/lib/modules/$2 file
	[ -e "$1/lib" ] || ln -s usr/lib "$1/lib"
	for file in modules.order modules.builtin modules.builtin.modinfo; do
		[ -e "$modules/$file" ] || : >"$modules/$file"
	done
	in_root depmod -b "$1" "$2" || die "depmod failed on $modules"
	rm -f "$1/lib"
}

# module_files TREE RELEASE MODULE...: print the files of modules in TREE/lib/modules/RELEASE, each after those that it
# depends on. Modules that have no file are built in.
module_files() {
	{ in_root modprobe -C /dev/null -d "$1" -S "$2" --show-depends -a "${@:3}" 2>/dev/null || true; } | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}
