# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Find messages in a kernel's log that make a test fail, whatever its exit status is.

# At the start of a message, after the time stamp and perhaps the printing task or processor.
COMPLAINT_START='(WARNING: |BUG[ :]|Oops|Internal error: |Unable to handle kernel |kernel BUG at |Kernel panic|general protection fault|divide error|double fault'
COMPLAINT_START+='|INFO: task .* blocked.* for more than|(rcu: )?INFO: rcu|INFO: trying to register non-static key|watchdog: BUG'
COMPLAINT_START+='|UBSAN: |refcount_t: |list_(add|del) corruption|VFS: Busy inodes|rust_kernel: panicked'
COMPLAINT_START+='|daxfs-vm: (kmemleak|system time): )'
COMPLAINT="^(\[ *[0-9]+\.[0-9]+\])? *(\[[ TC0-9]+\])? *$COMPLAINT_START"

kernel_complained() {
	grep -q -a -E "$COMPLAINT" "$1"
}

# Omit registers and code bytes on the screen. The kept log has them.
readable() {
	grep -a -v -E '^[^a-zA-Z]*((R[A-Z0-9]{2}|CS|FS|CR[02]|DR[0-9]|PKRU): |Code: |Modules linked in: )' | cut -c 1-160
}

# Print the complaints, each with the lines that follow it (a call trace), up to 100 lines.
print_complaints() {
	grep -a -E -A 45 "$COMPLAINT" "$1" | readable | head -n 100
}

# Print the log after a time limit: the complaints before it, the last lines, and the state of processors and blocked
# tasks that vm asked for.
print_hang() {
	local asked='NMI received for unknown reason'
	sed "/$asked/,\$d" "$1" | print_complaints /dev/stdin
	grep -a -B 15 -A 1000 "$asked" "$1" | readable | head -n 100 | grep . || tail -n 40 "$1"
}
