# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Functions that make the inputs of the public reports, see ../reports.rs. MEMBER is a file in one word: "a/" is a
# directory, "a=text" a regular file, "a@b" a symlink to b, "a%b" a hard link to it, "a%b=text" one with content; "2750:a/"
# has a mode.

reports=${BASH_SOURCE[0]%/*}

# archive FILE MEMBER...: write a tar archive of these members, in this order.
# layout [OPTION...] TAR...: add an image of these layers to the OCI image layout in ./layout. Options: -n NAME,
#   -p OS/ARCH[/VARIANT], -a KEY=VALUE for an annotation, -t TYPE for the media type of the layers,
#   -c TYPE for the configuration's, -l KEY[=VALUE] for an annotation of the layers; without VALUE, it is the file's name.
# edit CODE: change the layout's index by Python code; the variables are "index" and "images".
# nest: put the layout's index into another one.
# shown [IMAGE]: print the members of an image, or of the archive on standard input, sorted, in one line.
for name in archive layout edit nest shown; do
	eval "$name() { python3 '$reports/make.py' $name \"\$@\"; }"
done

# image INPUT...: make an image of the inputs, and print its members in one line.
image() {
	mkdaxfs -q --all-root "$@" image && shown image
}

# same INPUT INPUT: print "same" if two inputs, each of one or more words, give the same bytes.
same() {
	# shellcheck disable=SC2086 # words
	mkdaxfs -q $1 first && mkdaxfs -q $2 second && cmp first second && echo same
}
