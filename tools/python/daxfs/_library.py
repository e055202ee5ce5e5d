# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""libdaxfs, as daxfs.h declares it."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from ctypes import (POINTER, Structure, byref, c_char, c_char_p, c_int, c_int64, c_size_t, c_ssize_t, c_uint, c_uint8,
                    c_uint32, c_uint64, c_void_p)
from typing import Any


class InfoRecord(Structure):
    """struct daxfs_info"""

    _fields_ = [("size", c_uint64), ("inodes", c_uint64), ("build_sec", c_int64), ("build_nsec", c_uint32),
                ("block_size", c_uint32), ("uuid", c_uint8 * 16), ("sha256", c_uint8 * 32), ("label", c_char * 72)]


class PackRecord(Structure):
    """struct daxfs_pack"""

    _fields_ = [("size", c_uint64), ("sha256", c_uint8 * 32)]


class StatRecord(Structure):
    """struct daxfs_stat"""

    _fields_ = [("size", c_uint64), ("offset", c_uint64), ("mtime_sec", c_int64), ("mtime_nsec", c_uint32),
                ("ino", c_uint32), ("mode", c_uint32), ("nlink", c_uint32), ("uid", c_uint32), ("gid", c_uint32),
                ("major", c_uint32), ("minor", c_uint32)]


class DirentRecord(Structure):
    """struct daxfs_dirent"""

    _fields_ = [("stat", StatRecord), ("length", c_uint8), ("name", c_char * 256)]


NOFOLLOW = 1

# In a wheel, the library is beside this file.
_path = os.path.join(os.path.dirname(__file__), "libdaxfs.so.0")
_library = ctypes.CDLL(_path if os.path.exists(_path) else "libdaxfs.so.0")


def _function(name: str, result: type | None, *arguments: Any) -> Any:
    function: Any = getattr(_library, name)
    function.restype = result
    function.argtypes = arguments
    return function


_open_part = _function("daxfs_open_part", c_int, c_int, c_uint64, c_char_p, POINTER(c_void_p))
_offset = _function("daxfs_offset", c_uint64, c_void_p)
_locate = _function("daxfs_locate", c_int, c_int, POINTER(c_uint64), POINTER(c_uint64))
_memory = _function("daxfs_memory", c_int, c_int, c_char_p, POINTER(c_int), POINTER(c_uint64), POINTER(c_uint64))
_close = _function("daxfs_close", None, c_void_p)
_error = _function("daxfs_error", c_char_p)
_info = _function("daxfs_info", None, c_void_p, POINTER(InfoRecord))
_verify = _function("daxfs_verify", c_int, c_void_p)
_pack = _function("daxfs_pack", c_int, c_void_p, c_uint32, POINTER(PackRecord))
_add_pack = _function("daxfs_add_pack", c_int, c_void_p, c_void_p)
_source = _function("daxfs_source", c_int, c_void_p, c_uint32, POINTER(c_uint32), POINTER(StatRecord))
_find = _function("daxfs_find", c_int, c_void_p, c_char_p, c_uint, POINTER(StatRecord))
_read = _function("daxfs_read", c_ssize_t, c_void_p, c_uint32, c_void_p, c_size_t, c_uint64)
_readdir = _function("daxfs_readdir", c_ssize_t, c_void_p, c_uint32, c_uint32, POINTER(DirentRecord), c_size_t)
_readlink = _function("daxfs_readlink", c_ssize_t, c_void_p, c_uint32, c_char_p, c_size_t)
_listxattr = _function("daxfs_listxattr", c_ssize_t, c_void_p, c_uint32, c_char_p, c_size_t)
_getxattr = _function("daxfs_getxattr", c_ssize_t, c_void_p, c_uint32, c_char_p, c_void_p, c_size_t)

# Offsets have 64 bits, and ctypes would truncate larger ones. No file reaches this one.
_OFFSET_MAX = 2**64 - 1

# Number of directory entries to read at a time.
_ENTRIES = 64


def _check(result: int, path: str | None) -> int:
    if result < 0:
        raise OSError(-result, _error().decode(), path)
    return result


def locate(fd: int, path: str) -> tuple[int, int]:
    """Return the offset and length of a mounted image's file in the memory that was mounted."""
    offset, length = c_uint64(), c_uint64()
    _check(_locate(fd, byref(offset), byref(length)), path)
    return offset.value, length.value


def memory(fd: int, path: str, socket: bytes) -> tuple[int, int, int]:
    """Return a new descriptor of the memory that was mounted, and the offset and length of a file in it."""
    memory, offset, length = c_int(), c_uint64(), c_uint64()
    _check(_memory(fd, socket, byref(memory), byref(offset), byref(length)), path)
    return memory.value, offset.value, length.value


class Handle:
    """struct daxfs with its own descriptor. Each thread that uses it holds a reference, which keeps it open."""

    def __init__(self, fd: int, path: str, offset: int, image: str | None) -> None:
        self.fd = fd
        self._image = c_void_p()
        self._mapping: memoryview | None = None
        # The added packs by number.
        self._packs: dict[int, Handle] = {}
        if offset < 0:
            raise ValueError("negative offset")
        name = None if image is None else os.fsencode(image)
        _check(_open_part(fd, min(offset, _OFFSET_MAX), name, byref(self._image)), path)

    def __del__(self) -> None:
        _close(self._image)
        os.close(self.fd)

    def offset(self) -> int:
        return int(_offset(self._image))

    def map(self) -> memoryview:
        """Return the bytes of the image."""
        mapping = self._mapping
        if mapping is None:
            start = self.offset()
            before = start % mmap.ALLOCATIONGRANULARITY
            pages = mmap.mmap(self.fd, before + self.info().size, access=mmap.ACCESS_READ, offset=start - before)
            mapping = self._mapping = memoryview(pages)[before:]
        return mapping

    def packs(self) -> list[tuple[int, bytes]]:
        """Return the size and the SHA-256 of each pack."""
        packs: list[tuple[int, bytes]] = []
        record = PackRecord()
        while _pack(self._image, len(packs), byref(record)) == 0:
            packs.append((record.size, bytes(record.sha256)))
        return packs

    def add_pack(self, pack: Handle, path: str) -> None:
        _check(_add_pack(self._image, pack._image), path)
        info = pack.info()
        for number, found in enumerate(self.packs(), 1):
            if found == (info.size, bytes(info.sha256)):
                self._packs[number] = pack

    def source(self, ino: int, path: str) -> tuple[Handle, StatRecord]:
        """Return the image that stores a file's content, and the inode there."""
        number, record = c_uint32(), StatRecord()
        _check(_source(self._image, ino, byref(number), byref(record)), path)
        return self._packs[number.value] if number.value else self, record

    def info(self) -> InfoRecord:
        record = InfoRecord()
        _info(self._image, byref(record))
        return record

    def verify(self) -> None:
        _check(_verify(self._image), None)

    def find(self, path: str, follow: bool) -> StatRecord:
        encoded = os.fsencode(path)
        if b"\0" in encoded:
            raise ValueError("embedded null byte")
        record = StatRecord()
        _check(_find(self._image, encoded, 0 if follow else NOFOLLOW, byref(record)), path)
        return record

    def read_into(self, ino: int, buffer: Any, offset: int, path: str) -> int:
        if offset < 0:
            raise ValueError("negative offset")
        view = memoryview(buffer).cast("B")
        if not view.nbytes:
            return 0
        place = (c_char * view.nbytes).from_buffer(view)
        return _check(_read(self._image, ino, byref(place), view.nbytes, min(offset, _OFFSET_MAX)), path)

    def entries(self, ino: int, path: str) -> Iterator[tuple[str, StatRecord]]:
        """Yield the names and inodes of a directory."""
        position = 0
        while True:
            records = (DirentRecord * _ENTRIES)()
            count = _check(_readdir(self._image, ino, position, records, _ENTRIES), path)
            if not count:
                return
            position += count
            for record in records[:count]:
                yield os.fsdecode(record.name), record.stat

    def _text(self, function: Any, *arguments: Any, path: str) -> bytes:
        length = _check(function(self._image, *arguments, None, 0), path)
        buffer = ctypes.create_string_buffer(length + 1)
        length = _check(function(self._image, *arguments, buffer, length + 1), path)
        return buffer.raw[:length]

    def readlink(self, ino: int, path: str) -> str:
        return os.fsdecode(self._text(_readlink, ino, path=path))

    def xattrs(self, ino: int, path: str) -> dict[str, bytes]:
        names = self._text(_listxattr, ino, path=path).split(b"\0")[:-1]
        return {os.fsdecode(name): self._text(_getxattr, ino, name, path=path) for name in names}
