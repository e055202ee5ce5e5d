# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Images and the files in them."""

from __future__ import annotations

import errno
import io
import os
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, overload

from daxfs import _library
from daxfs._library import Handle, StatRecord

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

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


class Pack(NamedTuple):
    """An image that stores content of another image's files."""

    size: int
    sha256: str


class Stat(NamedTuple):
    """An inode, with the names of os.stat_result.

    st_offset is the offset of the file's bytes in the image, or 0 if they are in a pack.
    """

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
    def st_mtime(self) -> float:
        return self.st_mtime_ns / 1e9


class Place(NamedTuple):
    """Part of a dma-buf, memfd, device or file, in bytes, or of the pack with this SHA-256."""

    offset: int
    length: int
    pack: str | None = None


class Memory(NamedTuple):
    """Part of the dma-buf or memfd with this descriptor, in bytes. The caller closes the descriptor."""

    fd: int
    offset: int
    length: int


def locate(file: int | str | bytes | os.PathLike[Any]) -> Place:
    """Locate the bytes of a file on a mounted image in the memory that was mounted.

    The file is a path or a file descriptor. The errno of the OSError is ENODEV if the file is not on a mounted image,
    and EOPNOTSUPP if its bytes are in a pack. Open the image with its packs to find the pack with File.locate().
    """
    return Place(*_opened(file, _library.locate))


def memory(file: int | str | bytes | os.PathLike[Any], socket: str | bytes | os.PathLike[Any]) -> Memory:
    """Locate the bytes of a file on a mounted image, and return a new descriptor of the memory that was mounted.

    daxfs load --serve passes it on at the socket. If it serves another mount, the errno of the OSError is ENODEV.
    """
    return Memory(*_opened(file, _library.memory, os.fsencode(socket)))


def _opened(file: int | str | bytes | os.PathLike[Any], function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function with the descriptor and the name of a file, and return its result."""
    if isinstance(file, int):
        return function(file, f"file descriptor {file}", *arguments)
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return function(fd, os.fsdecode(file), *arguments)
    finally:
        os.close(fd)


def open(file: int | str | bytes | os.PathLike[Any], offset: int = 0, image: str | None = None,
         packs: Iterable[int | str | bytes | os.PathLike[Any] | Image] = ()) -> Image:
    """Open the image in a file or on a block device: a path, or a file descriptor, which is duplicated.

    The image starts at the byte offset, or is called image in the store that starts there. packs are the images that
    store content of its files: open images, paths or file descriptors.
    """
    return Image(file, offset, image, packs)


def _again(path: str, sha256: bytes, *arguments: Any) -> Image:
    """Open a pickled image, or raise OSError if another image has replaced it."""
    image = Image(path, *arguments)
    if image._sha256 != sha256:
        raise OSError(errno.ESTALE, "another image than the one in the pickle", path)
    return image


def read_only(path: str) -> OSError:
    """Return the error for an attempt to change a file."""
    return OSError(errno.EROFS, os.strerror(errno.EROFS), path)


class Image:
    """An open image. image[path] is a file in it; symlinks are followed. Iteration yields all files, like walk().

    Images with the same SHA-256 are equal. A pickle stores only the path, so unpickling opens the image again.
    """

    def __init__(self, file: int | str | bytes | os.PathLike[Any], offset: int = 0, image: str | None = None,
                 packs: Iterable[int | str | bytes | os.PathLike[Any] | Image] = ()) -> None:
        # Some of these are iterable.
        if isinstance(packs, int | str | bytes | os.PathLike | Image):
            raise TypeError(f"packs must be a list of open images, paths or file descriptors, not {type(packs).__name__}")
        if isinstance(file, int):
            self._name, fd = f"file descriptor {file}", os.dup(file)
        else:
            # O_NONBLOCK: refuse a FIFO instead of waiting for it.
            self._name, fd = os.fsdecode(file), os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self._handle: Handle | None = Handle(fd, self._name, offset, image)
        self._sha256 = bytes(self._handle.info().sha256)
        opened = [given if isinstance(given, Image) else Image(given) for given in packs]
        for pack in opened:
            self._handle.add_pack(pack._open(), pack._name)
        path = None if isinstance(file, int) else os.path.abspath(self._name)
        self._arguments = path, self._sha256, offset, image, opened

    def __repr__(self) -> str:
        return f"<daxfs.Image {self._name!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and self._sha256 == other._sha256

    def __hash__(self) -> int:
        return hash(self._sha256)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._arguments[0] is None:
            raise TypeError(f"{self._name}: an image that was opened by its descriptor cannot be pickled")
        return _again, self._arguments

    def __enter__(self) -> Image:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the image. Views of its files stay valid, everything else raises ValueError."""
        self._handle = None

    def _open(self) -> Handle:
        handle = self._handle
        if handle is None:
            raise ValueError("the image is closed")
        return handle

    def info(self) -> Info:
        """Return the superblock."""
        record = self._open().info()
        return Info(record.size, record.inodes, os.fsdecode(record.label), uuid.UUID(bytes=bytes(record.uuid)),
                    bytes(record.sha256).hex(), record.block_size, record.build_sec * 10**9 + record.build_nsec)

    def packs(self) -> list[Pack]:
        """Return the packs of the image, whether they are open or not."""
        return [Pack(size, sha256.hex()) for size, sha256 in self._open().packs()]

    def verify(self) -> None:
        """Raise OSError if the metadata does not match its checksum."""
        self._open().verify()

    def file(self, path: str | bytes | os.PathLike[Any], follow_symlinks: bool = True) -> File:
        """Return the file at a path. Raise FileNotFoundError, NotADirectoryError or another OSError."""
        path = os.fsdecode(path)
        return File(self, os.path.join("/", path), self._open().find(path, follow_symlinks))

    def __getitem__(self, path: str | bytes | os.PathLike[Any]) -> File:
        return self.file(path)

    def __contains__(self, path: str | bytes | os.PathLike[Any]) -> bool:
        try:
            self.file(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def walk(self) -> Iterator[File]:
        """Yield all files, beginning with the root, directories before their contents."""
        left = [self["/"]]
        while left:
            file = left.pop()
            yield file
            if file.is_dir():
                left.extend(sorted(file.iterdir(), key=lambda child: child.name, reverse=True))

    __iter__ = walk


class File:
    """A file of any type in an image, with methods of pathlib.Path and importlib.resources.abc.Traversable.

    Files from joinpath() need not exist. Files are equal if their images and paths are equal, but a symlink does not
    equal its target.
    """

    def __init__(self, image: Image, path: str, inode: StatRecord | None = None) -> None:
        self._image = image
        self.path = path
        self._found = inode

    def __repr__(self) -> str:
        return f"<daxfs.File {self.path!r}>"

    def _key(self) -> tuple[Any, ...]:
        is_symlink = self._found is not None and stat.S_ISLNK(self._found.mode)
        return self._image, PurePosixPath(self.path), is_symlink

    def __eq__(self, other: object) -> bool:
        return isinstance(other, File) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    @property
    def _inode(self) -> StatRecord:
        if self._found is None:
            self._found = self._image._open().find(self.path, True)
        return self._found

    def _is(self, kind: int) -> bool:
        try:
            return stat.S_IFMT(self._inode.mode) == kind
        except (FileNotFoundError, NotADirectoryError):
            return False

    @property
    def name(self) -> str:
        """The last component of the path."""
        return PurePosixPath(self.path).name

    def stat(self) -> Stat:
        """Return the inode."""
        record = self._inode
        return Stat(record.mode, record.ino, record.nlink, record.uid, record.gid, record.size,
                    record.mtime_sec * 10**9 + record.mtime_nsec, os.makedev(record.major, record.minor), record.offset)

    def locate(self) -> Place:
        """Locate the bytes of this regular file in the file or device that contains the image or its pack."""
        self._regular()
        handle, record = self._image._open().source(self._inode.ino, self.path)
        pack = None if handle is self._image._handle else bytes(handle.info().sha256).hex()
        return Place(handle.offset() + record.offset, record.size, pack)

    def is_dir(self) -> bool:
        return self._is(stat.S_IFDIR)

    def is_file(self) -> bool:
        return self._is(stat.S_IFREG)

    def is_symlink(self) -> bool:
        return self._is(stat.S_IFLNK)

    def iterdir(self) -> Iterator[File]:
        """Yield the files in this directory, in no useful order. Symlinks are not followed."""
        for name, record in self._image._open().entries(self._inode.ino, self.path):
            yield File(self._image, os.path.join(self.path, name), record)

    def joinpath(self, *names: str) -> File:
        """Return a file below this directory. Symlinks are followed."""
        return File(self._image, os.path.join(self.path, *names))

    def __truediv__(self, name: str) -> File:
        return self.joinpath(name)

    def readlink(self) -> str:
        """Return the target of this symlink."""
        return self._image._open().readlink(self._inode.ino, self.path)

    def xattrs(self) -> dict[str, bytes]:
        """Return the extended attributes: a dictionary of names and bytes."""
        return self._image._open().xattrs(self._inode.ino, self.path)

    def readinto(self, buffer: WriteableBuffer, offset: int = 0) -> int:
        """Read content into a buffer, and return the number of bytes."""
        return self._image._open().read_into(self._inode.ino, buffer, offset, self.path)

    def read(self, size: int | None = -1, offset: int = 0) -> bytes:
        """Return content of this regular file as bytes, by default all of it."""
        if offset < 0:
            raise ValueError("negative offset")
        handle = self._image._open()
        self._regular()
        left = max(self._inode.size - offset, 0)
        left = left if size is None or size < 0 else min(size, left)
        # A damaged image may claim any size, so allocate memory only while reading.
        content = bytearray()
        while left:
            piece = bytearray(min(left, _PIECE))
            handle.read_into(self._inode.ino, piece, offset + len(content), self.path)
            content += piece
            left -= len(piece)
        return bytes(content)

    def view(self) -> memoryview:
        """Return a read-only memoryview of this regular file, without a copy.

        The view stays valid after the image is closed. As with any mapped file, using it raises SIGBUS if somebody
        truncates the image; read() raises OSError instead.
        """
        self._regular()
        handle, record = self._image._open().source(self._inode.ino, self.path)
        if not record.size:
            return memoryview(b"")
        return handle.map()[record.offset:record.offset + record.size]

    def _regular(self) -> None:
        kind = stat.S_IFMT(self._inode.mode)
        if kind == stat.S_IFDIR:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self.path)
        if kind != stat.S_IFREG:
            raise OSError(errno.EINVAL, "not a regular file", self.path)
        # If the content is in a pack that was not added, let the library describe the error.
        if self._inode.size and not self._inode.offset:
            self.readinto(bytearray(1))

    @overload
    def open(self, mode: Literal["r", "rt"] = "r", *, encoding: str | None = None, errors: str | None = None,
             newline: str | None = None) -> io.TextIOWrapper: ...

    @overload
    def open(self, mode: Literal["rb"]) -> io.BufferedReader: ...

    @overload
    def open(self, mode: str, *, encoding: str | None = None, errors: str | None = None,
             newline: str | None = None) -> IO[Any]: ...

    def open(self, mode: str = "r", *, encoding: str | None = None, errors: str | None = None,
             newline: str | None = None) -> IO[Any]:
        """Open this regular file for reading: text, or bytes with the mode "rb"."""
        if set(mode) & set("wax+"):
            raise read_only(self.path)
        if mode not in ("r", "rt", "rb"):
            raise ValueError(f"invalid mode: {mode!r}")
        self._regular()
        stream = _Reader(self)
        return stream if mode == "rb" else io.TextIOWrapper(stream, encoding, errors, newline)

    def read_bytes(self) -> bytes:
        return self.read()

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        with self.open(encoding=encoding, errors=errors) as stream:
            return stream.read()


class _Stream(io.RawIOBase):
    """A file for the module io."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._position = 0
        self.name = file.path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._checkClosed()
        count = self._file.readinto(buffer, self._position)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._checkClosed()
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.stat().st_size}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position


class _Reader(io.BufferedReader):
    """A buffered file for the module io. Like fsspec's, it can be pickled, and has a size."""

    def __init__(self, file: File) -> None:
        super().__init__(_Stream(file))
        self._file = file

    @property
    def size(self) -> int:
        return self._file.stat().st_size

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _at, (self._file, self.tell())


def _at(file: File, position: int) -> IO[bytes]:
    """Open a pickled file."""
    stream = file.open("rb")
    stream.seek(position)
    return stream
