# SPDX-License-Identifier: GPL-2.0-only
"""Mappings of files: their bytes, the page faults that they take, and where their pages are."""
import ctypes
import mmap
import os
import signal
import struct
from ctypes import c_size_t, c_void_p

from lib.ktap import PAGE, call, figure, libc, mapped, unmap

FRAME = (1 << 55) - 1


class Mapping:
    """A mapping of a file, or a part of it, until the end of a block or the process."""

    def __init__(self, path, length=None, private=False, flags=0, offset=0, address=None):
        self.path, file = path, os.open(path, os.O_RDONLY)
        self.length = os.fstat(file).st_size - offset if length is None else length
        kind, protection = (mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) if private else (mmap.MAP_SHARED, mmap.PROT_READ)
        self.address = mapped(file, self.length, address, offset, flags | kind, protection)
        os.close(file)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        unmap(self.address, self.length)

    def __getitem__(self, at):
        return ctypes.c_ubyte.from_address(self.address + at).value

    def __setitem__(self, at, byte):
        ctypes.c_ubyte.from_address(self.address + at).value = byte

    def same(self, want, at=0):
        """Fail unless the bytes from a place on are these."""
        assert not libc.memcmp(c_void_p(self.address + at), want, c_size_t(len(want))), f"{self.path}: other bytes from {at} on"

    def touch(self, at=0, length=None, step=PAGE):
        """Load a byte of each page; return how many page faults the image's filesystem has handled meanwhile."""
        before = self.faults()
        for place in range(self.address + at, self.address + at + (self.length - at if length is None else length), step):
            libc.memcmp(c_void_p(place), c_void_p(place), c_size_t(1))
        return self.faults() - before

    def faults(self):
        """Return how many page faults of the image were handled."""
        return sum(int(figure(os.path.dirname(self.path), f"faults_{kind}")) for kind in ("pte", "around", "pmd"))

    def advise(self, advice, at=0, length=None):
        """Call madvise(2)."""
        call("madvise", c_void_p(self.address + at), c_size_t(self.length - at if length is None else length), advice)

    def frames(self, at=0, count=1):
        """Return the page frames from a place on, 0 for pages that are not mapped."""
        return page_frames(self.address + at, count)

    def sigbus(self, at, store=False):
        """Return true if a load, or a store, ends a process with SIGBUS."""
        child = os.fork()
        if not child:
            signal.signal(signal.SIGBUS, signal.SIG_DFL)
            if store:
                self[at] = 1
            ctypes.string_at(self.address + at, 1)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGBUS


def page_frames(address, count=1):
    """Return the page frames from an address on, 0 for pages that are not mapped."""
    file = os.open("/proc/self/pagemap", os.O_RDONLY)
    entries = struct.unpack(f"{count}Q", os.pread(file, 8 * count, address // PAGE * 8))
    os.close(file)
    return [entry & FRAME if entry >> 63 else 0 for entry in entries]
