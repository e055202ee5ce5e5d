# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# KTAP output and exit codes for tests of this machine that are shell scripts, for boot-guest too; to be sourced.

ktap_number=0
ktap_failed=0
ktap_passed=0
ktap_skipped=0
ktap_planned=0
# A file; its end is shown when a point fails.
ktap_log=''

# plan COUNT: announce the number of points.
plan() {
	ktap_planned=$1
	echo "KTAP version 1"
	echo "1..$1"
}

# skip_all REASON: end the script, which cannot run here.
skip_all() {
	echo "KTAP version 1"
	echo "1..0 # SKIP $1"
	exit 4
}

bail_out() {
	echo "Bail out! $1"
	exit 1
}

# pass NAME, fail NAME, skip NAME REASON: report one point.
pass() {
	ktap_number=$((ktap_number + 1)) ktap_passed=$((ktap_passed + 1))
	echo "ok $ktap_number - $1"
}

fail() {
	ktap_number=$((ktap_number + 1)) ktap_failed=$((ktap_failed + 1))
	echo "not ok $ktap_number - $1"
}

skip() {
	ktap_number=$((ktap_number + 1)) ktap_skipped=$((ktap_skipped + 1))
	echo "ok $ktap_number - $1 # SKIP $2"
}

# check NAME COMMAND...: a point that passes if COMMAND succeeds. If it fails, show its output; if it takes seconds,
# show how many. The variables have names that no COMMAND uses: a function would see these, not its caller's.
check() {
	local ktap_name=$1 ktap_output ktap_status=0 ktap_start=$SECONDS
	shift
	ktap_output=$("$@" 2>&1) || ktap_status=$?
	[ $((SECONDS - ktap_start)) -lt 2 ] || echo "# took $((SECONDS - ktap_start)) s"
	if [ "$ktap_status" = 0 ]; then
		pass "$ktap_name"
	else
		[ ! -s "$ktap_log" ] || ktap_output+=${ktap_output:+$'\n'}$(tail -n 30 "$ktap_log")
		[ -z "$ktap_output" ] || echo "# ${ktap_output//$'\n'/$'\n'# }" | head -n 40
		echo "# failed: ${*@Q}"
		fail "$ktap_name"
	fi
}

# refused TEXT COMMAND...: the command fails, and says TEXT.
refused() {
	local text=$1 output
	shift
	! output=$("$@" 2>&1) && echo "$output" && [[ $output == *"$text"* ]]
}

# end_one: wait for one of the processes that are the keys of the array started, remove it from there, and return its exit
# status. Bash's wait -n does not find those that ended before it is called.
# shellcheck disable=SC2154 # the caller sets started
end_one() {
	local process
	while :; do
		for process in "${!started[@]}"; do
			kill -0 "$process" 2>/dev/null && continue
			unset "started[$process]"
			wait "$process"
			return
		done
		sleep 0.05
	done
}

# soon COMMAND...: repeat the command until it succeeds, for 20 seconds.
soon() {
	for _ in {1..400}; do
		! "$@" || return 0
		sleep 0.05
	done
	return 1
}

# finish: print the totals and exit with the status that they give.
finish() {
	echo "# totals: pass:$ktap_passed fail:$ktap_failed skip:$ktap_skipped"
	[ "$ktap_number" = "$ktap_planned" ] || bail_out "planned $ktap_planned points, ran $ktap_number"
	[ "$ktap_failed" = 0 ] || exit 1
	[ "$ktap_passed" -gt 0 ] || exit 4
	exit 0
}

tests=$(realpath -- "$(dirname -- "${BASH_SOURCE[0]}")/..")
# readme SECTION: print the examples in a section of README.md, each command as one line.
readme() {
	sed -n "/^## $1\$/,/^## /s/^    //p" "$tests/../README.md" | sed -e :a -e '/\\$/N' -e 's/ *\\\n */ /' -e ta
}
