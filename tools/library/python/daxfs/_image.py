# SPDX-License-Identifier: GPL-2.0-only
"""Images and the files in them."""

import errno
import io
import mmap
import os
import posixpath
import stat
import uuid
from typing import NamedTuple

from daxfs._library import Handle

# Default number of bytes to read at a time.
_PIECE = 1 << 20


class Info(NamedTuple):
    """The superblock of an image."""

    size: int
    inodes: int
    label: str
    uuid: uuid.UUID
    sha256: str
    block_size: int
    build_time_ns: int


class Stat(NamedTuple):
    """An inode, with the names of os.stat_result. st_offset is where the bytes of a file are in the image."""

    st_mode: int
    st_ino: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_mtime_ns: int
    st_rdev: int
    st_offset: int

    @property
    def st_mtime(self):
        return self.st_mtime_ns / 1e9


def open(file):
    """Open the image in a file or on a block device: a path, or a file descriptor, which is duplicated."""
    return Image(file)


class Image:
    """An open image. image[path] is a file in it; symlinks are followed."""

    def __init__(self, file):
        if isinstance(file, int):
            self._name, fd = f"file descriptor {file}", os.dup(file)
        else:
            # O_NONBLOCK: a FIFO is refused, not waited for.
            self._name, fd = os.fspath(file), os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self._handle = Handle(fd, self._name)
        self._mapping = None

    def __repr__(self):
        return f"<daxfs.Image {self._name!r}>"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Close the image. Views of its files stay valid, everything else raises ValueError."""
        self._handle = self._mapping = None

    def _open(self):
        handle = self._handle
        if handle is None:
            raise ValueError("the image is closed")
        return handle

    def _map(self):
        handle = self._open()
        mapping = self._mapping
        if mapping is None:
            mapping = self._mapping = mmap.mmap(handle.fd, handle.info().size, access=mmap.ACCESS_READ)
        return mapping

    def info(self):
        """Return the superblock."""
        record = self._open().info()
        return Info(record.size, record.inodes, os.fsdecode(record.label), uuid.UUID(bytes=bytes(record.uuid)),
                    bytes(record.sha256).hex(), record.block_size, record.build_sec * 10**9 + record.build_nsec)

    def verify(self):
        """Raise OSError if the metadata do not have their checksum."""
        self._open().verify()

    def file(self, path, follow_symlinks=True):
        """Return the file at a path. Raise FileNotFoundError, NotADirectoryError or another OSError."""
        path = os.fsdecode(path)
        return File(self, posixpath.join("/", path), self._open().find(path, follow_symlinks))

    def __getitem__(self, path):
        return self.file(path)

    def __contains__(self, path):
        try:
            self.file(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def walk(self):
        """Yield all files, the root first, directories before what is in them."""
        left = [self["/"]]
        while left:
            file = left.pop()
            yield file
            if file.is_dir():
                left.extend(sorted(file.iterdir(), key=lambda child: child.name, reverse=True))


class File:
    """A file in an image, of any type. It has the methods of importlib.resources.abc.Traversable."""

    def __init__(self, image, path, record):
        self._image = image
        self.path = path
        self._record = record

    def __repr__(self):
        return f"<daxfs.File {self.path!r}>"

    @property
    def name(self):
        """The last component of the path."""
        return posixpath.basename(self.path.rstrip("/"))

    def stat(self):
        """Return the inode."""
        record = self._record
        return Stat(record.mode, record.ino, record.nlink, record.uid, record.gid, record.size,
                    record.mtime_sec * 10**9 + record.mtime_nsec, os.makedev(record.major, record.minor), record.offset)

    def is_dir(self):
        return stat.S_ISDIR(self._record.mode)

    def is_file(self):
        return stat.S_ISREG(self._record.mode)

    def is_symlink(self):
        return stat.S_ISLNK(self._record.mode)

    def iterdir(self):
        """Yield the files in this directory, in no useful order. Symlinks are not followed."""
        for name, record in self._image._open().entries(self._record.ino, self.path):
            yield File(self._image, posixpath.join(self.path, name), record)

    def joinpath(self, *names):
        """Return a file below this directory. Symlinks are followed."""
        return self._image[posixpath.join(self.path, *names)]

    __truediv__ = joinpath

    def readlink(self):
        """Return the target of this symlink."""
        return self._image._open().readlink(self._record.ino, self.path)

    def xattrs(self):
        """Return the extended attributes: a dictionary of names and bytes."""
        return self._image._open().xattrs(self._record.ino, self.path)

    def readinto(self, buffer, offset=0):
        """Read content into a buffer, and return how many bytes."""
        return self._image._open().read_into(self._record.ino, buffer, offset, self.path)

    def read(self, size=-1, offset=0):
        """Return content of this regular file as bytes, all by default."""
        if offset < 0:
            raise ValueError("negative offset")
        handle = self._image._open()
        self._regular()
        left = max(self._record.size - offset, 0)
        left = left if size is None or size < 0 else min(size, left)
        # A damaged image may claim any size, so memory is taken as it is read.
        content = bytearray()
        while left:
            piece = bytearray(min(left, _PIECE))
            handle.read_into(self._record.ino, piece, offset + len(content), self.path)
            content += piece
            left -= len(piece)
        return bytes(content)

    def view(self):
        """Return a read-only memoryview of this regular file, without a copy.

        It stays valid after the image is closed. As with any mapped file, the process gets SIGBUS if somebody
        truncates the image while it is used; read() raises OSError then.
        """
        self._regular()
        record = self._record
        if not record.size:
            return memoryview(b"")
        return memoryview(self._image._map())[record.offset:record.offset + record.size]

    def _regular(self):
        if self.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self.path)
        if not self.is_file():
            raise OSError(errno.EINVAL, "not a regular file", self.path)

    def open(self, mode="r", *, encoding=None, errors=None, newline=None):
        """Open this regular file for reading: text, or bytes with the mode "rb"."""
        if mode not in ("r", "rt", "rb"):
            raise ValueError(f"invalid mode {mode!r}; images are read-only")
        self._regular()
        stream = io.BufferedReader(_Stream(self))
        return stream if mode == "rb" else io.TextIOWrapper(stream, encoding, errors, newline)

    def read_bytes(self):
        return self.read()

    def read_text(self, encoding=None, errors=None):
        with self.open(encoding=encoding, errors=errors) as stream:
            return stream.read()


class _Stream(io.RawIOBase):
    """A file for the module io."""

    def __init__(self, file):
        self._file = file
        self._position = 0
        self.name = file.path

    def readable(self):
        return True

    def seekable(self):
        return True

    def readinto(self, buffer):
        self._checkClosed()
        count = self._file.readinto(buffer, self._position)
        self._position += count
        return count

    def seek(self, offset, whence=io.SEEK_SET):
        self._checkClosed()
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file._record.size}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = start + offset
        return self._position

    def tell(self):
        return self._position
