# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Common parts of the benchmarks: the tree that they measure, its images, and the program that measures. To be sourced;
# needs `top` and `work`, a directory below build.

# make_tree: make the tree $work/tree. Its sizes and bytes are the same on every machine.
make_tree() {
	once "$work/tree" make_tree_at
}

# Do not keep a tree that failed halfway, even if the caller's errexit has no effect.
make_tree_at() {
	echo "bench: making the tree" >&2
	mkdir -p "$1/many" "$1/sizes" || return
	perl -e '
		srand(1); my ($root) = @ARGV; my $seed = 1;
		sub bytes { my $n = shift; my $s = ""; while (length($s) < $n) {
			$seed = ($seed * 1103515245 + 12345) & 0x7fffffff; $s .= pack("N", $seed) } substr($s, 0, $n) }
		my $mib = bytes(1 << 20);
		open(my $large, ">", "$root/large") or die "$root/large: $!\n";
		print $large pack("N", $_) . substr($mib, 4) for 0 .. 63;
		close($large) or die;
		my %sizes = ("64KiB", 16, "1MiB", 256, "3MB", 732);
		for my $size (sort keys %sizes) {
			for my $i (0 .. 3) {
				open(my $f, ">", "$root/sizes/$size-$i") or die "$root/sizes: $!\n";
				print $f pack("A16", "$size-$i"), substr($mib, 16, 4080), substr($mib, 0, 4096) x ($sizes{$size} - 1);
				close($f) or die;
			}
		}
		for my $i (0 .. 9999) {
			my $name = sprintf("%s/many/file-%05d", $root, $i);
			open(my $f, ">", $name) or die "$name: $!\n";
			print $f substr($mib, $i, 100 + ($i * 7919) % 4900);
			close($f) or die;
		}' "$1" || return
	"$top/scripts/run" gcc -O2 -static -nostdlib -o "$1/static" "$top/bench/static.c"
}

# make_program NAME: compile bench/NAME.c to $work/NAME.
make_program() {
	"$top/scripts/run" gcc -O2 -static -Wall -Wextra -o "$work/$1" "$top/bench/$1.c"
}

known_peers() {
	echo daxfs daxfs-store daxfs-demand daxfs-memfd erofs-dax erofs-aligned erofs erofs-share ext4 ext4-dax xfs-dax squashfs \
		tmpfs daxfs-directories overlayfs daxfs-user daxfs-fuse squashfuse erofsfuse
}

# once FILE COMMAND...: make FILE with "COMMAND FILE.new", unless the same command has made it, from the same files.
once() {
	local file=$1 key
	shift
	key=$(key_of "$@")
	[[ ! -e $file || $(cat "$file.key" 2>/dev/null) != "$key" ]] || return 0
	rm -rf "$file" "$file.new" "$file.key" && "$@" "$file.new" >&2 && mv "$file.new" "$file" && echo "$key" >"$file.key"
}

# key_of COMMAND...: print a key that identifies the result of a function.
key_of() {
	local argument
	{
		declare -f "$1"
		echo "$*"
		for argument; do
			[[ ! -e $argument.key ]] || cat "$argument.key"
		done
	} | sha256sum
}

in_build_root() {
	"$top/scripts/run" "$@"
}

# of_peers COMMAND...: run a program of the root with the newest that Debian has.
of_peers() {
	[ -e "$PEERS/.complete" ] || "$top/scripts/prepare" peers || return
	DAXFS_ROOT=$PEERS "$top/scripts/run" "$@"
}

# make_image PEER TREE: make $work/TREE.PEER of the directory $work/TREE. daxfs's is made each time, others once.
make_image() {
	local from=$work/$2 image=$work/$2.$1
	case $1 in
	daxfs) "$top/build/bin/mkdaxfs" --quiet --force --sums "$from" "$image" ;;
	daxfs-store) SIZE=256M make_device "$top/build/bin/daxfs" "$work" "$2" "$image" >&2 ;;
	tmpfs) ;;
	*) once "$image" "make_$1" "$from" ;;
	esac
}

# make_device DAXFS TREES SERVER... FILE: make a device with images of a store, one for each server; the last one is active. It
# has no more than its images need, or SIZE.
make_device() {
	local daxfs=$1 trees=$2 server file=${*: -1} store=$work/device.store size=${SIZE-}
	rm -rf "$store" "$file"
	set -- "${@:3:$#-3}"
	for server; do "$daxfs" store add "$store" "$server" "$trees/$server" || return; done
	# The table of the store takes 2 MiB, and each file of 2 MiB or more is at a multiple of that.
	size=${size:-$(stat -c %s "$store"/*/*.daxfs | awk '$1 < 2 ^ 21 { small += $1 + 4096; next } { large += int(($1 - 1) / 2 ^ 21) + 1 }
		END { print 2 * (2 + large + int(small / 2 ^ 21)) "M" }')}
	"$daxfs" store init --size "$size" "$file" || return
	for server; do "$daxfs" store add --activate "$file" "$server" "$store/images/$server.daxfs" || return; done
}

make_erofs() {
	local from=$1 image=$2
	shift 2
	of_peers mkfs.erofs --quiet "$@" "$image" "$from"
}

# Files with inline tails would not be mapped by DAX.
make_erofs-dax() {
	make_erofs "$1" "$2" -E noinline_data
}

# Data of each file at multiples of 2 MiB of the device, which one entry of the page tables can map.
make_erofs-aligned() {
	make_erofs "$1" "$2" -E noinline_data --dsunit=512
}

# With fingerprints of all files, which page-cache sharing needs.
make_erofs-share() {
	make_erofs "$@" --xattr-inode-digest
}

# mke2fs makes directories without an index; e2fsck -D makes the indexes. It reports that it changed something by 1.
make_ext4-dax() {
	local inodes status
	inodes=$(inode_count "$1")
	of_peers mke2fs -q -t ext4 -b 4096 -N $((inodes + inodes / 8 + 1000)) -d "$1" "$2" \
		"$(($(megabytes "$1" 64) * 5 / 4 + inodes / 2000 + inodes / 100))M" || return
	status=0
	of_peers e2fsck -fyD "$2" >/dev/null || status=$?
	[[ $status -le 1 ]]
}

# The same image, for a mount without dax.
make_ext4() {
	make_ext4-dax "$@"
}

make_xfs-dax() {
	local size
	size=$(($(megabytes "$1" 300) * 5 / 4))
	truncate -s "${size}M" "$2" && of_peers xfs_protofile "$1" >"$2.proto" &&
		of_peers mkfs.xfs -q -m reflink=0 -p "$2.proto" "$2" && rm "$2.proto"
}

# Not compressed, as the others.
make_squashfs() {
	of_peers mksquashfs "$1" "$2" -noappend -noI -noD -noF -noX -no-progress -quiet
}

inode_count() {
	find "$1" | wc -l
}

# megabytes PATH LEAST: the size of a tree with room for a filesystem, at least LEAST.
megabytes() {
	local size
	size=$(($(du -sm --apparent-size "$1" | cut -f1) * 9 / 8 + $(inode_count "$1") / 256 + 16))
	echo $((size > $2 ? size : $2))
}

# grouped NUMBER: print NUMBER with a comma between groups of three digits.
grouped() {
	sed -E ':again; s/([0-9])([0-9]{3})($|,)/\1,\2\3/; t again' <<<"$1"
}

# make_root: make the tree $work/root of the demo's Debian root and a git repository, unless it exists.
make_root() {
	local demo=$CACHE/demo-root
	[[ -e $demo.complete ]] || "$top/scripts/prepare" demo
	once "$work/root" make_root_at "$demo"
}

# link_tree FROM TO: copy a tree, where possible by links.
link_tree() {
	cp -al "$1" "$2" 2>/dev/null || { rm -rf "$2" && cp -a "$1" "$2"; }
}

make_root_at() {
	link_tree "$1" "$2" && mkdir "$2/srv/repository" && cp -r "$2"/usr/lib/python3.*/. "$2/srv/repository" &&
		(
			cd "$2/srv/repository" || exit
			export GIT_{AUTHOR,COMMITTER}_DATE='2026-01-01T00:00:00Z' GIT_{AUTHOR,COMMITTER}_{NAME,EMAIL}=bench GIT_CONFIG_GLOBAL=/dev/null
			# The copy in an image has other inode numbers and times of change.
			in_build_root git init -q && in_build_root git config core.trustctime false &&
				in_build_root git config core.checkStat minimal && in_build_root git add -A && in_build_root git commit -q -m bench
		)
}
