# SPDX-License-Identifier: GPL-2.0-only
"""The kinds of memory that an image can be mounted from, mounts of each, and pages of it that fail."""
import contextlib
import ctypes
import fcntl
import functools
import os
import re
import stat
import struct
import sys
from ctypes import c_size_t, c_void_p
from errno import EBUSY, EFAULT
from mmap import MADV_HUGEPAGE, PROT_READ, PROT_WRITE
from signal import SIGBUS

from lib import ktap
from lib.device import Device
from lib.image import ADD_SEALS, FD, GROW, SHRINK, SUMS, WRITE, Context, Image, memfd
from lib.ktap import PAGE, SLOW, Skip, call, ended, equal, mapped, read, sh, skip_all, unmap, write
from lib.mapping import Mapping, page_frames
from lib.tasks import bounded, skip_if_stuck, unmount

HUGE = PIECE = 2 << 20
MIDDLE, LARGE = 65537, 16 << 20
# The image of a test, if it is another one.
NAME = {"packing_shared": "packing", "storm": "storm"}.get(os.path.basename(sys.argv[0]), "sources")
IMAGE_FILE = f"{os.environ.get('DAXFS_IMAGES', '/run/images')}/{NAME}.daxfs"
UDMABUF_CREATE, UDMABUF_CREATE_LIST, HEAP_ALLOC = 0x40187542, 0x40087543, 0xC0184800
SHMEM_HUGE = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
HUGE_PAGES = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
HUGE_PAGES_FREE = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"
MFD_HUGE = os.MFD_HUGETLB | 21 << 26
UDMABUF_LIMIT = "/sys/module/udmabuf/parameters/size_limit_mb"
CORRUPT = "/sys/kernel/debug/hwpoison/corrupt-pfn"
MADV_HWPOISON = 100
# Pins that last, by the kernel's own test of them (CONFIG_GUP_TEST). RDMA, VFIO and V4L2 pin by the same function.
GUP_TEST, PIN_START, PIN_READ, PIN_WRITE, PIN_FAST = "/sys/kernel/debug/gup_test", 0x40186707, 0x40086709, 1, 2
with open("/proc/kallsyms", encoding="utf-8") as symbols:
    # Pages of DAX can be pinned for long: the kernel has scripts/changes. Then it must have the test as well.
    LONGTERM_DAX = any(line.endswith(" dax_folio_is_longterm\n") for line in symbols)


# ---- memory ---------------------------------------------------------------------------------------

def room_for(content):
    """Return how many bytes of pages of 2 MiB have room for this content."""
    return -(-len(content) // HUGE) * HUGE


def fill(file, content, size, offset=0, advice=None):
    """Write to the start of memory that can be mapped."""
    address = mapped(file, size, offset=offset, protection=PROT_READ | PROT_WRITE)
    if advice:
        call("madvise", c_void_p(address), c_size_t(size), advice)
    ctypes.memmove(address, bytes(content), len(content))
    unmap(address, size)
    return file


@contextlib.contextmanager
def huge_shmem(value="advise"):
    """Have memfds consist of folios of 2 MiB for the time of a block, where programs ask for them."""
    before = re.search(r"\[(\w+)\]", read(SHMEM_HUGE))
    if not before:
        raise Skip("needs transparent huge pages in shmem")
    write(SHMEM_HUGE, value)
    try:
        yield
    finally:
        write(SHMEM_HUGE, before[1])


def reserve_huge_pages(size):
    """Have the kernel reserve free huge pages for so many bytes."""
    if not os.path.exists(HUGE_PAGES):
        raise Skip("needs huge pages of 2 MiB")
    lacking = size // HUGE - int(read(HUGE_PAGES_FREE))
    if lacking > 0:
        write(HUGE_PAGES, str(int(read(HUGE_PAGES)) + lacking))
    if int(read(HUGE_PAGES_FREE)) < size // HUGE:
        raise Skip("not enough huge pages")


def huge_memfd(content, seals, size=None, flags=0):
    """Return a memfd of folios of 2 MiB, or of hugetlb's pages (MFD_HUGE)."""
    size = size or room_for(content)
    if flags:
        reserve_huge_pages(size)
    file = os.memfd_create("image", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | flags)
    os.truncate(file, size)
    with contextlib.nullcontext() if flags else huge_shmem():
        fill(file, content, size, advice=0 if flags else MADV_HUGEPAGE)
    fcntl.fcntl(file, ADD_SEALS, seals)
    return file


SEALED = WRITE | SHRINK | GROW
MEMFDS = {"": lambda content, seals: memfd(bytes(content).ljust(-(-len(content) // PAGE) * PAGE, b"\0"), seals),
          "huge folios": huge_memfd, "hugetlb": functools.partial(huge_memfd, flags=MFD_HUGE)}


def shuffled(content):
    """Return the content with the last two pages of each 2 MiB exchanged."""
    content = bytearray(content).ljust(room_for(content), b"\0")
    for end in range(HUGE, len(content) + 1, HUGE):
        content[end - 2 * PAGE:end] = content[end - PAGE:end] + content[end - 2 * PAGE:end - PAGE]
    return content


def udmabuf_of(file, offset, size, order=False):
    """Return a dma-buf of pages of a memfd, perhaps with the last two of each 2 MiB exchanged."""
    device, limit = os.open("/dev/udmabuf", os.O_RDWR), int(read(UDMABUF_LIMIT))
    write(UDMABUF_LIMIT, str(max(limit, size >> 20)))
    try:
        if not order:
            return fcntl.ioctl(device, UDMABUF_CREATE, bytearray(struct.pack("IIQQ", file, 1, offset, size)))
        parts = [(at + start, length) for at in range(0, size, HUGE)
                 for start, length in ((0, HUGE - 2 * PAGE), (HUGE - PAGE, PAGE), (HUGE - 2 * PAGE, PAGE))]
        items = b"".join(struct.pack("I4xQQ", file, *part) for part in parts)
        return fcntl.ioctl(device, UDMABUF_CREATE_LIST, bytearray(struct.pack("II", 1, len(parts)) + items))
    finally:
        write(UDMABUF_LIMIT, str(limit))
        os.close(device)


def udmabuf(source, content):
    """Return a dma-buf of the pages of a memfd, which stays open as the source's owner."""
    mixed = source.kind == "shuffled pages"
    memory = shuffled(content) if mixed else bytes(content).ljust(room_for(content), b"\0")
    source.owner = MEMFDS["huge folios" if mixed else source.kind](memory, SHRINK)
    return udmabuf_of(source.owner, 0, len(memory), mixed)


def heap(_, content):
    """Return a dma-buf of the system heap."""
    request, size = bytearray(struct.pack("QIIQ", room_for(content), 0, os.O_RDWR | os.O_CLOEXEC, 0)), room_for(content)
    fcntl.ioctl(os.open("/dev/dma_heap/system", os.O_RDONLY), HEAP_ALLOC, request)
    return fill(struct.unpack_from("I", request, 8)[0], content, size)


def drm(source, content):
    """Return a buffer of a graphics device: a picture, or qxl's own memory."""
    for path in os.environ.get("DAXFS_DRM", "").split():
        device, name = os.open(path, os.O_RDWR), ctypes.create_string_buffer(64)
        fcntl.ioctl(device, 0xC0406400, bytearray(struct.pack("12x4xQP32x", 63, ctypes.addressof(name))))
        if name.value.decode() == source.module:
            break
        os.close(device)
    else:
        raise Skip(f"needs a graphics device of {source.module} in DAXFS_DRM")
    size = room_for(content)
    if source.module == "qxl":
        request, place = bytearray(struct.pack("II", size, 0)), bytearray(16)
        fcntl.ioctl(device, 0xC0086440, request)
        handle = struct.unpack_from("I", request, 4)[0]
        struct.pack_into("I", place, 8, handle)
        fcntl.ioctl(device, 0xC0106441, place)
        offset = struct.unpack_from("Q", place)[0]
    else:
        request = bytearray(struct.pack("IIIIIIQ", size // 16384, 4096, 32, 0, 0, 0, 0))
        fcntl.ioctl(device, 0xC02064B2, request)
        handle, size = struct.unpack_from("I4xQ", request, 16)
        place = bytearray(struct.pack("IIQ", handle, 0, 0))
        fcntl.ioctl(device, 0xC01064B3, place)
        offset = struct.unpack_from("Q", place, 8)[0]
    fill(device, content, size, offset)
    export = bytearray(struct.pack("IIi", handle, os.O_CLOEXEC | os.O_RDWR, 0))
    fcntl.ioctl(device, 0xC00C642D, export)
    os.close(device)
    return struct.unpack_from("i", export, 8)[0]


# ---- sources --------------------------------------------------------------------------------------

class Source:
    """Memory with the image. Each process makes its own, if it can be made.

    `pages` says that pins of pages are possible, `huge` that large files are mapped with entries of 2 MiB, `shared` that it can be
    mounted several times at once, and `module` exports the memory.
    """

    def __init__(self, name, key=None, maker=None, pages=False, huge=False, shared=True, module="", device=None, **options):
        self.name, self.key, self.maker, self.pages, self.shared, self.module = name, key, maker, pages, shared, module
        self.kind, self.huge = name.partition(", ")[2], huge and HAS_HUGE
        self.device, self.options, self.file, self.owner = device, options, None, None
        if device:
            self.options = {"source": device}
            self.unbind, self.bind = Device(device).unbind, Device(device).bind

    def make(self, content=None):
        """Make the memory with this content; return its descriptor. The memory of devices and ranges is there."""
        if self.maker:
            return self.maker(self, CONTENT if content is None else content)
        if not self.options:
            raise Skip(f"needs a device or a range that holds the image {NAME}, in DAXFS_DEVS or DAXFS_RESERVED_ADDR")
        return None

    def context(self, file=None):
        """Return a mount of the memory."""
        context = Context(**self.options)
        if self.key:
            self.file = file or self.file or self.make()
            context.set(FD, self.key, aux=self.file)
        return context

    def mount(self, directory, options=""):
        """Mount the memory."""
        self.context().mount(directory, options)

    @contextlib.contextmanager
    def mounted(self, directory, options=""):
        """Mount the memory for the time of a block, which leaves nothing open there."""
        skip_if_stuck()
        self.mount(directory, options)
        try:
            yield
        except BaseException:
            call("umount2", directory.encode(), 2)  # MNT_DETACH
            raise
        unmount(directory)

    def close(self):
        """Close the memory."""
        for file in self.file, self.owner:
            if file:
                os.close(file)
        self.file = self.owner = None

    def bring_back(self, bound=True):
        """Make memory that is not mounted as good as before: the drivers and the module do not know pages then that have failed."""
        if self.device:
            if bound:
                equal(bounded("unbind", self.unbind), 0)
            self.bind()
        elif not self.key:
            sh("modprobe -r daxfs && modprobe daxfs")


def device_of(kind):
    """Return the first device of this kind in DAXFS_DEVS, with the image."""
    for device in filter(os.path.exists, os.environ.get("DAXFS_DEVS", "").split()):
        if stat.S_ISCHR(os.stat(device).st_mode):
            if kind == "CXL (fsdev)":
                return device
            continue
        with open(device, "rb") as file:
            label = file.read(136)[72:].rstrip(b"\0")
        path = os.path.realpath(f"/sys/class/block/{os.path.basename(device)}/device")
        if label == NAME.encode() and kind == ("virtio-pmem" if "/virtio" in path else "NVDIMM"):
            return device
    return None


def reserved(but=0):
    """Return the options of the range that holds the image, without its last bytes."""
    if "DAXFS_RESERVED_ADDR" not in os.environ:
        return {}
    return {"phys": os.environ["DAXFS_RESERVED_ADDR"], "size": str(int(os.environ["DAXFS_RESERVED_SIZE"], 0) - but)}


def every():
    """Return the sources, whether this machine has them or not."""
    # A range without its last page is not aligned, so it cannot have struct pages. A dma-buf's pages belong to its exporter:
    # they are mapped by their frames.
    found = [Source(name, pages=True, huge=True, shared="CXL" not in name, device=device_of(name))
             for name in ("NVDIMM", "virtio-pmem", "CXL (fsdev)")]
    found += [Source("phys", pages=True, huge=True, shared=False, **reserved()), Source("phys, unaligned", shared=False, **reserved(PAGE))]
    for kind, pages, huge in ("", True, False), (", huge folios", True, True), (", hugetlb", False, True):
        found.append(Source("memfd" + kind, "memfd", lambda source, content: MEMFDS[source.kind](content, SEALED), pages, huge))
    for kind, huge in ("", False), (", huge folios", True), (", shuffled pages", False):
        found.append(Source("udmabuf" + kind, "dmabuf", udmabuf, huge=huge))
    found.append(Source("system heap", "dmabuf", heap))
    for name, module in ("vgem", "vgem"), ("virtio-gpu", "virtio_gpu"), ("qxl, device memory", "qxl"):
        found.append(Source(name, "dmabuf", drm, module=module))
    return found


def named(name):
    """Return the source of this name."""
    return next(source for source in every() if source.name == name)


def devices():
    """Return the sources that are devices of this machine."""
    return [source for source in every() if source.device]


def sources():
    """Return a source of each kind of memory that this machine has."""
    return [source for source in every() if source.device or source.name in ("phys", "memfd", "udmabuf") and not lacking(source)]


def lacking(source):
    """Return why this machine lacks a source, or nothing."""
    try:
        if file := source.make():
            os.close(file)
    except (OSError, Skip) as reason:
        return str(reason)
    if source.owner:
        source.close()
    return ""


def for_way(source):
    """Return true for one source of each way to map, which are DAX, pages, frames, I/O memory."""
    return source.name in ("NVDIMM", "memfd, huge folios", "udmabuf", "qxl, device memory")


def distinct(source):
    """Return true for one source of each way where the kernel is slow, elsewhere unless daxfs maps it as another one."""
    return for_way(source) if SLOW else source.name not in ("virtio-pmem", "virtio-gpu")


def only(fits):
    """Make a point one of the sources for which this holds."""
    def keep(function):
        function.fits = fits
        return function
    return keep


def run_on(found, all_wanted=False):
    """Run all points on each of the sources that this machine has, which they take as an argument, and end the test."""
    found, wanted = list(found), list(ktap.points)
    ktap.points.clear()
    for source in found:
        if reason := lacking(source):
            print(f"# {source.name}: {reason}")
            if all_wanted:
                ktap.points.append((f"{source.name}: mounts", functools.partial(ktap.skip, reason)))
            continue
        ktap.points.extend((f"{source.name}: {name}", functools.partial(function, source)) for name, function in wanted
                           if getattr(function, "fits", lambda _: True)(source))
    if not ktap.points:
        skip_all("needs a memory source (see tests/README)")
    ktap.run()


# ---- files of the image ---------------------------------------------------------------------------

@functools.cache
def content_of(path):
    """Return the content of a file of the image."""
    inode = IMAGE.inode(IMAGE.number(path))
    return bytes(IMAGE.bytes[inode.data:inode.data + inode.size])


def content(size):
    """Return the content of the file of this size in the directory sizes."""
    return content_of(f"sizes/{size}")


def good_files(directory):
    """Check that files can be read, mapped and copied on write."""
    for size in 1, 4095, 4096, 4097, MIDDLE, HUGE + 1, LARGE:
        want, half = content(size), size // 2
        with Mapping(f"{directory}/sizes/{size}") as shared, Mapping(f"{directory}/sizes/{size}", private=True) as private:
            with open(f"{directory}/sizes/{size}", "rb", buffering=0) as file:
                assert file.read() == want and file.read() == b"" and os.pread(file.fileno(), size, half) == want[half:], size
            shared.same(want)
            private[half] ^= 1
            shared.same(want)
            private[half] ^= 1
            private.same(want)


class Files:
    """Mapped files, which must keep their content, with a page of a private mapping that is written to."""

    def __init__(self, directory):
        self.stack = contextlib.ExitStack()
        self.large, self.middle, self.private = (self.stack.enter_context(Mapping(f"{directory}/sizes/{size}", **how)) for size, how in (
            (LARGE, {}), (MIDDLE, {"flags": 0x8000}), (LARGE, {"private": True})))
        for mapping in self.large, self.private:
            mapping.touch()
        self.private[PAGE + 904] ^= 1

    def check(self):
        """Compare the mappings with the files."""
        self.large.same(content(LARGE))
        self.middle.same(content(MIDDLE))
        self.private[PAGE + 904] ^= 1
        self.private.same(content(LARGE))
        self.private[PAGE + 904] ^= 1


def in_use():
    """Return what mounts could leak: dma-bufs, huge pages, users of modules, ranges."""
    def number(path, pattern=r"(\d+)"):
        found = re.search(pattern, read(path), re.M) if os.path.exists(path) else None
        return int(found[1]) if found else 0
    modules = ("daxfs", "vgem", "virtio_gpu", "drm_shmem_helper", "fsdev_dax", "nd_pmem")
    return [number("/sys/kernel/debug/dma_buf/bufinfo", r"^Total (\d+) objects"), number(HUGE_PAGES) - number(HUGE_PAGES_FREE),
            sum(number(f"/sys/module/{module}/refcnt") for module in modules), read("/proc/iomem").count("daxfs")]


def given_back(before):
    """Check that no more is in use than before. Some of it is freed a little later."""
    ktap.soon(lambda: in_use() == before or False, limit=60)


# ---- pages that fail ------------------------------------------------------------------------------

# A load after the failure succeeds. No error has this number.
STILL_MAPPED = 255


def poison(source, address):
    """Make a page of a mapping fail. The kernel may kill the process, and the last load does, once the failure is handled."""
    ctypes.string_at(address, 1)
    try:
        # The kernel may move a page of its page cache, but not while this call uses it. Memory that it cannot use stays.
        call("madvise", c_void_p(address), c_size_t(PAGE), MADV_HWPOISON)
    except OSError as error:
        if error.errno == EFAULT and not source.pages:
            write(CORRUPT, f"{page_frames(address)[0]:#x}")
        elif error.errno != EBUSY:
            raise
    ctypes.string_at(address, 1)
    return STILL_MAPPED


def page_fails(source, address, copied=False):
    """Make the page at an address, in a mapping of a file, fail; return 0, or an errno if the kernel cannot do that.

    If it may be copied from the image, a new copy may replace the page.
    """
    if not source.pages and ended("modprobe -q hwpoison_inject")[0] and not os.path.exists(CORRUPT):
        raise Skip("needs the module hwpoison_inject")
    ctypes.string_at(address, 1)
    frame = page_frames(address)[0]
    status = bounded("the failure", poison, source, address)
    if status < 0:
        equal(status, -SIGBUS)
        return 0
    # The kernel reads a page of its page cache again, and daxfs copies a file's end again.
    assert status != STILL_MAPPED or copied
    # For some pages the kernel returns an error after it has marked them.
    with open("/proc/kpageflags", "rb") as flags:
        flags.seek(frame * 8)
        return 0 if int.from_bytes(flags.read(8), "little") >> 19 & 1 else status


if not os.path.exists(IMAGE_FILE):
    skip_all(f"needs {IMAGE_FILE} (set DAXFS_IMAGES)")
HAS_HUGE = int(read("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")) == HUGE
IMAGE = Image.load(IMAGE_FILE)
PIECES = -(-IMAGE.super.total_size // PIECE)
# The image and its sums.
CONTENT = memoryview(IMAGE.bytes)[:IMAGE.super.total_size + (32 * PIECES if IMAGE.super.compat & SUMS else 0)]
