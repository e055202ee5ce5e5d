# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the benchmarks share: the tree that they measure, and the program that does. To be sourced; needs `top` and
# `work`, a directory below build.

# make_tree: make the tree $work/tree, unless it is there. Its sizes and bytes are the same on every machine. What has
# failed halfway is not kept as the tree, also where the caller's errexit has no effect.
make_tree() {
	[[ ! -e $work/tree ]] || return 0
	echo "bench: making the tree" >&2
	rm -rf "$work/tree.new"
	mkdir -p "$work/tree.new/many" || return
	perl -e '
		srand(1); my ($root) = @ARGV; my $seed = 1;
		sub bytes { my $n = shift; my $s = ""; while (length($s) < $n) {
			$seed = ($seed * 1103515245 + 12345) & 0x7fffffff; $s .= pack("N", $seed) } substr($s, 0, $n) }
		my $mib = bytes(1 << 20);
		open(my $large, ">", "$root/large") or die "$root/large: $!\n";
		print $large pack("N", $_) . substr($mib, 4) for 0 .. 63;
		close($large) or die;
		for my $i (0 .. 9999) {
			my $name = sprintf("%s/many/file-%05d", $root, $i);
			open(my $f, ">", $name) or die "$name: $!\n";
			print $f substr($mib, $i, 100 + ($i * 7919) % 4900);
			close($f) or die;
		}' "$work/tree.new" || return
	"$top/environment/run" gcc -O2 -static -nostdlib -o "$work/tree.new/static" "$top/bench/static.c" || return
	mv "$work/tree.new" "$work/tree"
}

# make_program NAME: compile bench/NAME.c to $work/NAME.
make_program() {
	"$top/environment/run" gcc -O2 -static -Wall -Wextra -o "$work/$1" "$top/bench/$1.c"
}

# grouped NUMBER: print NUMBER with a comma between groups of three digits.
grouped() {
	sed -E ':again; s/([0-9])([0-9]{3})($|,)/\1,\2\3/; t again' <<<"$1"
}
