# SPDX-License-Identifier: GPL-2.0-only
"""Memory sources, one of each kind, and devices that lose their driver, as source.h and device.h for tests in C."""
import fcntl
import functools
import os
import stat
import struct

from lib import ktap
from lib.device import Device
from lib.image import FD, SHRINK, Context, Image, memfd
from lib.ktap import skip_all

IMAGE_FILE = f"{os.environ.get('DAXFS_IMAGES', '/run/images')}/sources.daxfs"
UDMABUF_CREATE = 0x40187542


class Source:
    """Memory with the image of the sources. Each process makes its own, if it can be made."""

    def __init__(self, name, key=None, shared=True, device=None, **options):
        self.name, self.key, self.shared, self.device, self.options = name, key, shared, device, options
        self.file = None
        if device:
            self.options = {"source": device}
            self.unbind, self.bind = Device(device).unbind, Device(device).bind

    def make(self):
        """Make the memory, and keep its descriptor."""
        if self.key == "memfd":
            return memfd(IMAGE.bytes)
        owner, device = memfd(IMAGE.bytes, SHRINK), os.open("/dev/udmabuf", os.O_RDWR)
        return fcntl.ioctl(device, UDMABUF_CREATE, bytearray(struct.pack("IIQQ", owner, 1, 0, len(IMAGE.bytes))))

    def context(self):
        """Return a mount of the memory."""
        context = Context(**self.options)
        if self.key:
            self.file = self.file or self.make()
            context.set(FD, self.key, aux=self.file)
        return context

    def mount(self, directory, options=""):
        """Mount the memory."""
        self.context().mount(directory, options)


def devices():
    """Return the devices in DAXFS_DEVS with the image."""
    for device in os.environ.get("DAXFS_DEVS", "").split():
        if not os.path.exists(device):
            continue
        if stat.S_ISCHR(os.stat(device).st_mode):
            yield Source("CXL (fsdev)", shared=False, device=device)
            continue
        with open(device, "rb") as file:
            if file.read(136)[72:].rstrip(b"\0") != b"sources":
                continue
        path = os.path.realpath(f"/sys/class/block/{os.path.basename(device)}/device")
        yield Source("virtio-pmem" if "/virtio" in path else "NVDIMM", device=device)


def sources():
    """Return the sources of this machine."""
    yield from devices()
    if "DAXFS_RESERVED_ADDR" in os.environ:
        yield Source("phys", shared=False, phys=os.environ["DAXFS_RESERVED_ADDR"], size=os.environ["DAXFS_RESERVED_SIZE"])
    yield Source("memfd", "memfd")
    if os.path.exists("/dev/udmabuf"):
        yield Source("udmabuf", "dmabuf")


def content(size):
    """Return the content of the file of this size in the directory sizes."""
    inode = IMAGE.inode(IMAGE.number(f"sizes/{size}"))
    return bytes(IMAGE.bytes[inode.data:inode.data + size])


def run_on(found):
    """Run all points on each of the sources, which they take as an argument, and end the test."""
    found = list(found)
    if not found:
        skip_all("needs a memory source (see tests/README)")
    ktap.points[:] = [(f"{source.name}: {name}", functools.partial(function, source)) for source in found
                      for name, function in ktap.points]
    ktap.run()


if not os.path.exists(IMAGE_FILE):
    skip_all(f"needs {IMAGE_FILE} (set DAXFS_IMAGES)")
IMAGE = Image.load(IMAGE_FILE)
