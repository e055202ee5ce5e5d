# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What in a kernel's log means that a test has failed, whatever its exit status says.

# At the start of a message, after the time stamp and perhaps the printing task or processor.
COMPLAINT_START='(WARNING: |BUG: |Oops|kernel BUG at |Kernel panic|INFO: task .* blocked for more than|INFO: rcu|rcu: INFO: '
COMPLAINT_START+='|general protection fault|divide error|invalid opcode|double fault|traps: PANIC|watchdog: BUG|page_table_check'
COMPLAINT_START+='|UBSAN: |refcount_t: |list_(add|del) corruption|possible (circular|recursive) locking|daxfs-vm: kmemleak: '
COMPLAINT_START+='|rust_kernel: panicked|slab_err|Unable to handle|workqueue: .* hogged|DEBUG_LOCKS_WARN_ON'
COMPLAINT_START+='|======================================================$)'
COMPLAINT="^(\[ *[0-9]+\.[0-9]+\])?(\[[ TC0-9]+\])? *$COMPLAINT_START"

kernel_complained() {
	grep -q -a -E "$COMPLAINT" "$1"
}

# Registers and code bytes tell little to whoever reads on a screen; they are in the kept log.
readable() {
	grep -a -v -E '^[^a-zA-Z]*((R[A-Z0-9]{2}|CS|FS|CR[02]|DR[0-9]|PKRU): |Code: |Modules linked in: )' | cut -c 1-160
}

# The complaints with what follows each (a call trace), as much as one wants to read.
print_complaints() {
	grep -a -E -A 45 "$COMPLAINT" "$1" | readable | head -n 100
}

# After a time limit: what came last, and what processors and blocked tasks were at when vm asked.
print_hang() {
	grep -a -B 15 -A 1000 'NMI received for unknown reason' "$1" | readable | head -n 100 | grep . ||
		tail -n 40 "$1"
}
