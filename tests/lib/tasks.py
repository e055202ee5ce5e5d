# SPDX-License-Identifier: GPL-2.0-only
"""Processes of tests that may block for ever: each must end in time, or the point fails and later ones are skipped."""
import mmap
import os
import signal
import sys
import time
import traceback
from errno import EBUSY

from lib.image import umount
from lib.ktap import PAGE, Skip, become, equal, read

# The seconds after which a call that should not block is taken for stuck. It costs time only when something is wrong.
LIMIT = 60
LOG = os.memfd_create("log")
stuck = mmap.mmap(-1, PAGE)


def background(function, *arguments, user=None):
    """Call a function in a child, perhaps as a user who is root of a namespace; return the child.

    Its status is a number that the function returns, or that of an error of the system. tests/run reads the standard output to its end, and would wait for a child that is stuck.
    """
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 250
    try:
        for file in 1, 2:
            os.dup2(LOG, file)
        signal.signal(signal.SIGBUS, signal.SIG_DFL)
        if user:
            become(user, user, namespace=True)
        found = function(*arguments)
        status = found if isinstance(found, int) else 0
    except OSError as error:
        status = error.errno
    except BaseException:  # pylint: disable=broad-exception-caught
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(status)


def ends_within(child, seconds):
    """Return the status of a child that ends in time, a negative number if a signal has ended it, or None."""
    end = time.monotonic() + seconds
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(0.002)


def stack_of(process):
    """Return where in the kernel a process and its children are."""
    children = read(f"/proc/{process}/task/{process}/children").split()
    return "\n".join([f"process {process}:", read(f"/proc/{process}/stack"), *map(stack_of, children)])


def reaped(what, child, limit=LIMIT):
    """Wait for a child; return its status. If it exceeds the limit, this point fails, and later ones are skipped."""
    status = ends_within(child, limit)
    said, length = os.pread(LOG, 1 << 16, 0).decode(errors="replace"), os.ftruncate(LOG, 0)
    if said:
        print("#", said.strip().replace("\n", "\n# "), length or "")
    if status is None:
        stuck[0] = 1
        raise AssertionError(f"{what} has not ended\n{stack_of(child)}")
    return status


def bounded(what, function, *arguments):
    """Call a function in a child, which must end in time; return what that returns."""
    return reaped(what, background(function, *arguments))


def skip_if_stuck():
    """Skip the point if an earlier one has left something blocked."""
    if stuck[0]:
        raise Skip("a call of an earlier point is stuck")


def until_free(directory):
    """Unmount, once kernel threads have released the files of processes that have just ended (khugepaged, ksmd)."""
    while True:
        try:
            return umount(directory)
        except OSError as error:
            if error.errno != EBUSY:
                raise
            time.sleep(0.01)


def unmount(directory):
    """Unmount in time."""
    equal(bounded("umount", until_free, directory), 0)
