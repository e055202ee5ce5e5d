# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# The guest's side of guests.sh. The host writes a word into NUMBER.do in the shared directory; the guest calls
# do_WORD, and answers in NUMBER.done with "ok" or an error. "end" ends it.

# answer RESULT...: write the answer under a temporary name, so that the host never reads half of it.
answer() {
	echo "$*" >"$shared/$number.new" && mv "$shared/$number.new" "$shared/$number.done"
}

# serve NUMBER DIRECTORY: report that this guest has booted, and handle the host's requests.
serve() {
	local word
	number=$1 shared=$2
	answer ok
	while :; do
		while [ ! -e "$shared/$number.do" ]; do sleep 0.1; done
		word=$(cat "$shared/$number.do")
		rm "$shared/$number.do"
		[ "$word" != end ] || exit 0
		# Not in a subshell: a later word may wait for programs that an earlier one starts.
		if "do_$word" >/tmp/result 2>&1; then
			answer ok
		else
			answer "$(tail -n 8 /tmp/result; dmesg | grep daxfs | tail -n 3)"
		fi
	done
}
