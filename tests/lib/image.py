# SPDX-License-Identifier: GPL-2.0-only
"""Images in memory, for tests that damage them, and mounts with fsopen(2), as image.h and source.h for tests in C."""
import ctypes
import fcntl
import hashlib
import mmap
import os
from ctypes import c_int32, c_int64, c_ubyte, c_uint8, c_uint16, c_uint32, c_uint64

from lib.ktap import PAGE, call

WRONG_DIGEST = "0" * 64
FLAG, STRING, FD, CREATE, RECONFIGURE = 0, 1, 5, 6, 7
SHARED, PACKS, SUMS = 1 << 2, 1 << 3, 1 << 0
PIECE = 2 << 20
AT_FDCWD, EMPTY_PATH, PICK_EMPTY_PATH, BLKFLSBUF = -100, 4, 8, 0x1261
ADD_SEALS, SHRINK, GROW, WRITE = 1033, 2, 4, 8


class Extent(ctypes.LittleEndianStructure):
    _fields_ = [("offset", c_uint64), ("length", c_uint64)]


class Superblock(ctypes.LittleEndianStructure):
    _fields_ = [("magic", c_ubyte * 8), ("version", c_uint32), ("block_size", c_uint32), ("compat", c_uint64), ("incompat", c_uint64),
                ("total_size", c_uint64), ("build_sec", c_int64), ("build_nsec", c_uint32), ("root", c_uint32), ("uuid", c_ubyte * 16),
                ("label", c_ubyte * 64), ("inodes", Extent), ("dirents", Extent), ("names", Extent), ("xattrs", Extent),
                ("data", Extent), ("metadata_crc", c_uint32), ("sha256", c_ubyte * 32), ("crc", c_uint32)]


class Inode(ctypes.LittleEndianStructure):
    _fields_ = [("mode", c_uint16), ("flags", c_uint16), ("nlink", c_uint32), ("uid", c_uint32), ("gid", c_uint32),
                ("size", c_uint64), ("mtime_sec", c_int64), ("mtime_nsec", c_uint32), ("xattrs", c_uint32), ("data", c_uint64),
                ("parent", c_uint32), ("position", c_uint32), ("original", c_uint32), ("pack", c_uint32)]


class Pack(ctypes.LittleEndianStructure):
    _fields_ = [("sha256", c_ubyte * 32), ("total_size", c_uint64), ("reserved", c_ubyte * 24)]


class Dirent(ctypes.LittleEndianStructure):
    _fields_ = [("hash", c_uint32), ("ino", c_uint32), ("name_low", c_uint32), ("name_high", c_uint16), ("name_len", c_uint8),
                ("file_type", c_uint8)]


def crc_entry(rest):
    """Return the CRC-32C of one byte."""
    for _ in range(8):
        rest = rest >> 1 ^ (0x82F63B78 if rest & 1 else 0)
    return rest


CRC_TABLE = [crc_entry(byte) for byte in range(256)]


def crc32c(content):
    """Return the CRC-32C of bytes."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


class Image:
    """The bytes of an image, and its superblock as super."""

    def __init__(self, content):
        self.bytes = bytearray(content)
        self.super = Superblock.from_buffer(self.bytes)

    @classmethod
    def load(cls, path):
        """Read an image from a file."""
        with open(path, "rb") as file:
            return cls(file.read())

    def copy(self):
        """Return another image with the same content."""
        return Image(self.bytes)

    def inode(self, number):
        """Return an inode that can be changed."""
        return Inode.from_buffer(self.bytes, self.super.inodes.offset + 64 * (number - 1))

    def entries(self, number):
        """Return the entries of a directory by their names."""
        inode = self.inode(number)
        entries = [Dirent.from_buffer(self.bytes, self.super.dirents.offset + 16 * entry)
                   for entry in range(inode.data, inode.data + inode.size // 16)]
        return {self.name(entry): entry for entry in entries}

    def name_at(self, entry):
        """Return the offset of the name of an entry."""
        return self.super.names.offset + (entry.name_high << 32 | entry.name_low)

    def name(self, entry):
        """Return the name of an entry."""
        at = self.name_at(entry)
        return bytes(self.bytes[at:at + entry.name_len])

    def entry(self, path):
        """Return the entry of a path without a slash at its start."""
        number = self.super.root
        for name in path.encode().split(b"/"):
            entry = self.entries(number)[name]
            number = entry.ino
        return entry

    def number(self, path):
        """Return the inode number of such a path."""
        return self.entry(path).ino

    def seal(self, metadata=True):
        """Correct the checksums of the metadata and of the superblock. A table out of the image has no checksum."""
        if metadata and 256 <= self.super.data.offset <= len(self.bytes):
            self.super.metadata_crc = crc32c(self.bytes[256:self.super.data.offset])
        self.super.crc = crc32c(self.bytes[:252])

    def rehash(self, metadata=True):
        """Correct the SHA-256, the sums of the pieces, if it has them, and the checksums."""
        self.seal(metadata)
        end = self.super.total_size
        hashed = self.bytes[:220] + bytes(36) + self.bytes[256:end]
        pieces = (hashed[start:start + PIECE] for start in range(0, end, PIECE))
        sums = b"".join(hashlib.sha256(piece).digest() for piece in pieces)
        self.super.sha256[:] = hashlib.sha256(sums).digest()
        if self.super.compat & SUMS:
            self.bytes[end:end + len(sums)] = sums
        self.seal(metadata=False)

    def other(self):
        """Return another image with the same files."""
        image = self.copy()
        image.super.uuid[:] = os.urandom(16)
        image.rehash(metadata=False)
        return image

    def packs(self):
        """Return the table of packs, which can be changed."""
        table = Extent.from_buffer(self.bytes, 256)
        return [Pack.from_buffer(self.bytes, table.offset + 64 * index) for index in range(table.length // 64)]

    def composed(self, packs=None, choose=lambda number: 0, sums=True):
        """Return an image of the same files, which have their data in `packs`: copies of this image. `choose` says in which.

        Without `sums`, which take long, it is for mounts with check=none. Of this image only the metadata are needed."""
        packs, start = packs or [self], -(-(self.super.xattrs.offset + self.super.xattrs.length) // 64) * 64
        end = -(-(start + 64 * len(packs)) // 4096) * 4096
        image = Image(self.bytes[:start].ljust(end, b"\0"))
        place = Extent.from_buffer(image.bytes, 256)
        place.offset, place.length = start, 64 * len(packs)
        image.super.incompat, image.super.compat, image.super.total_size = PACKS, 0, end
        image.super.data.offset, image.super.data.length = end, 0
        for pack, record in zip(packs, image.packs()):
            record.sha256[:], record.total_size = pack.super.sha256, pack.super.total_size
        for number in range(1, self.super.inodes.length // 64 + 1):
            inode = image.inode(number)
            if inode.mode >> 12 == 8 and inode.size:
                inode.pack, inode.original = choose(number) + 1, inode.original or number
                inode.data = inode.flags = 0
        if sums:
            image.rehash()
        image.super.crc = crc32c(image.bytes[:252])
        return image

    def digest(self):
        """Return the SHA-256 that the superblock has."""
        return bytes(self.super.sha256).hex()

    def write(self, device):
        """Write it to the start of a block device, bypassing caches."""
        with mmap.mmap(-1, -(-len(self.bytes) // PAGE) * PAGE) as aligned:
            aligned[:len(self.bytes)] = self.bytes
            file = os.open(device, os.O_WRONLY | os.O_DIRECT)
            assert os.pwrite(file, aligned, 0) == len(aligned)
            os.fsync(file)
            fcntl.ioctl(file, BLKFLSBUF)
            os.close(file)

    def memfd(self, seals=SHRINK | GROW | WRITE):
        """Return a memfd with the image."""
        return memfd(self.bytes, seals)


def memfd(content, seals=SHRINK | GROW | WRITE):
    """Return a memfd with this content and these seals."""
    file = os.memfd_create("image", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(os.dup(file), "wb") as writer:
        writer.write(content)
    fcntl.fcntl(file, ADD_SEALS, seals)
    return file


class Context:
    """A mount that fsopen(2) prepares, or a remount of a directory or a descriptor of a mount. Errors have the messages of its log."""

    def __init__(self, remount=None, memfd=None, packs=(), **texts):
        if remount is None:
            self.file = call("fsopen", b"daxfs", 1)
        elif isinstance(remount, int):
            self.file = call("fspick", remount, b"", 1 | PICK_EMPTY_PATH)
        else:
            self.file = call("fspick", AT_FDCWD, remount.encode(), 1)
        if memfd is not None:
            self.set(FD, "memfd", aux=memfd)
            os.close(memfd)
        for key, value in texts.items():
            self.set(STRING, key, value)
        for pack in packs:
            self.pack(pack)

    def pack(self, pack):
        """Give it a pack: a descriptor, the text of an option, or an image, of which it gets a copy."""
        if isinstance(pack, str):
            return self.set(STRING, "pack", pack)
        file = pack if isinstance(pack, int) else pack.memfd()
        try:
            return self.set(FD, "pack", aux=file)
        finally:
            if file != pack:
                os.close(file)

    def __del__(self):
        os.close(self.file)

    def log(self):
        """Return the messages since the last call."""
        text = b""
        while True:
            try:
                text += os.read(self.file, 4000)
            except OSError:
                return text.decode()

    def set(self, command, key=None, value=None, aux=0):
        """Call fsconfig(2)."""
        try:
            call("fsconfig", self.file, command, key and key.encode(), value if value is None else value.encode(), c_int32(aux))
        except OSError as error:
            raise OSError(error.errno, self.log()) from None
        return self

    def options(self, text):
        """Set options such as digest=0123,verify=lazy; those without "=" are flags."""
        for option in filter(None, text.split(",")):
            key, equals, value = option.partition("=")
            self.set(STRING if equals else FLAG, key, value if equals else None)
        return self

    def create(self):
        """Create the mount, which is nowhere yet; return its descriptor."""
        self.set(CREATE)
        return call("fsmount", self.file, 1, 0)

    def mount(self, directory, options=""):
        """Mount it on a directory."""
        mount = self.options(options).create()
        call("move_mount", mount, b"", AT_FDCWD, directory.encode(), EMPTY_PATH)
        os.close(mount)


def remount(directory, options):
    """Remount with the calls that mount(8) makes."""
    Context(remount=directory).options(options).set(RECONFIGURE)


def umount(directory):
    """Unmount a directory."""
    call("umount2", directory.encode(), 0)
