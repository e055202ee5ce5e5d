# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Ask several running machines to do things at once, and read the host's accounts of their memory. For tests that have
# ktap.sh. The caller sets `top`, the checkout; `shared`, the directory that answers.sh has in the guests; and
# `work`, which has the machines' output in log1, log2, ...

declare -A machines=()		# processes of the machines, by number

DATA=16	# MiB of the file in each image

daxfs() {
	"$top/build/bin/daxfs" "$@"
}

# answers NUMBER...: wait for each guest's answer, which must be "ok", for answer_limit seconds (300) at most.
answers() {
	local number limit=$((SECONDS + ${answer_limit:-300})) status=0
	for number; do
		until [ -e "$shared/$number.done" ]; do
			if [ $SECONDS -ge $limit ] || ! kill -0 "${machines[$number]}" 2>/dev/null; then
				echo "machine $number does not answer:"
				tail -n 30 "$work/log$number"
				return 1
			fi
			sleep 0.1
		done
		[ "$(<"$shared/$number.done")" = ok ] || { echo "machine $number: $(<"$shared/$number.done")"; status=1; }
		rm "$shared/$number.done"
	done
	return $status
}

# ask WORD NUMBER...: send WORD to all guests at once, and check their answers.
ask() {
	local number word=$1
	shift
	tell "$word" "$@"
	answers "$@"
}

# tell WORD NUMBER...: send WORD to guests.
tell() {
	local number word=$1
	shift
	for number; do
		echo "$word" >"$shared/$number.new" && mv "$shared/$number.new" "$shared/$number.do"
	done
}

# accounts NAME [INODE]: print how many processes map the file, and the sums of their Rss, Pss and Anonymous in KiB.
accounts() {
	local process
	for process in $(grep -l -s -F " $1" /proc/[0-9]*/maps); do
		awk -v name="$1" -v inode="${2-}" '/^[0-9a-f]+-/ { here = $6 == name && (!inode || $5 == inode); all += here }
			here && /^(Rss|Pss|Anonymous):/ { sum[$1] += $2 }
			END { if (all) print 1, sum["Rss:"], sum["Pss:"], sum["Anonymous:"] }' "${process%/maps}/smaps"
	done | awk '{ for (i = 1; i <= 4; i++) n[i] += $i } END { print n[1] + 0, n[2] + 0, n[3] + 0, n[4] + 0 }'
}
