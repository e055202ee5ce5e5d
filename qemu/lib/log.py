# SPDX-License-Identifier: GPL-2.0-only
"""Find messages in a kernel's log that make a test fail, whatever its exit status is."""
import re

# At the start of a message, after the time stamp and perhaps the printing task or processor.
COMPLAINT = re.compile(
    r"(\[ *[0-9]+\.[0-9]+\])? *(\[[ TC0-9]+\])? *"
    r"(WARNING: |BUG[ :]|Oops|Internal error: |Unable to handle kernel |kernel BUG at |Kernel panic|general protection fault"
    r"|divide error|double fault|INFO: task .* blocked.* for more than|(rcu: )?INFO: rcu"
    r"|INFO: trying to register non-static key|watchdog: BUG|UBSAN: |refcount_t: |list_(add|del) corruption|VFS: Busy inodes"
    r"|rust_kernel: panicked|daxfs-vm: (kmemleak|system time): )")
# Registers and code bytes, which only the kept log has.
UNREADABLE = re.compile("[^a-zA-Z]*((R[A-Z0-9]{2}|CS|FS|CR[02]|DR[0-9]|PKRU): |Code: |Modules linked in: )")
NMI = "NMI received for unknown reason"


def readable(lines):
    """Return the first lines for the screen."""
    return [line[:160] for line in lines if not UNREADABLE.match(line)][:100]


def complaints(lines):
    """Return the complaints, each with the lines that follow it (a call trace)."""
    shown, left = [], 0
    for line in lines:
        left = 46 if COMPLAINT.match(line) else left - 1
        if left > 0:
            shown.append(line)
    return readable(shown)


def hang(lines):
    """Return what explains a time limit: the complaints before it, and the state of processors and blocked tasks."""
    asked = next((number for number, line in enumerate(lines) if NMI in line), None)
    if asked is None:
        return complaints(lines) + lines[-40:]
    return complaints(lines[:asked]) + readable(lines[max(0, asked - 15):])
