# SPDX-License-Identifier: GPL-2.0-only
"""The virtual machine's hardware and the files of its boot, as arguments of QEMU."""
import os
import pathlib
import shlex
import socket
import struct
import subprocess
import tempfile

ARM = os.environ.get("DAXFS_ARCH") == "arm64"
MIB, GIB = 1 << 20, 1 << 30
PMEM_ALIGN = 2 * MIB  # the smallest unit of the kernel's mappings and of memory hotplug
CXL_ALIGN = 256 * MIB  # required by the CXL specification


class Error(Exception):
    """A reason why there can be no such machine."""


def round_up(size, unit):
    """Return the least multiple of a unit that is not below a size."""
    return -(-size // unit) * unit


def quote(value):
    """Escape a value for QEMU's options: a comma ends a value, two commas mean one."""
    return str(value).replace(",", ",,")


def opened(file):
    """Return the path of an open file for QEMU, which inherits it."""
    return f"/proc/self/fd/{file.fileno()}"


def pfn_header(size):
    """Return the 2 MiB that make an NVDIMM of `size` bytes (these included) come up as a DAX-capable /dev/pmemN.

    A raw namespace without labels has no struct pages. The kernel makes some if it finds an info block ("pfn" superblock,
    drivers/nvdimm/pfn.h) 4 KiB into it. ndctl would write that block from inside a running system.
    """
    # The UUID only has to be there; the parent's is zero for a namespace without a label. Struct pages of 64 bytes live in
    # ordinary memory (mode 1).
    block = struct.pack("<16s16s16xIHHQQIIIIIH3994x", b"NVDIMM_PFN_INFO", b"daxfs qemu/vm", 0, 1, 4, PMEM_ALIGN,
                        (size - PMEM_ALIGN) // 4096, 1, 0, 0, PMEM_ALIGN, 4096, 64)
    # libnvdimm's checksum: Fletcher's, over 32-bit words. The checksum itself counts as zero.
    low = high = 0
    for word in struct.unpack("<1022I", block):
        low = (low + word) & 0xffffffff
        high = (high + low) & 0xffffffff
    high = (high + 2 * low) & 0xffffffff
    return bytes(4096) + block + struct.pack("<II", low, high) + bytes(PMEM_ALIGN - 8192)


class Machine:
    """Collects QEMU's arguments (qemu), the files that QEMU inherits (files), and this program's ends of the ports (ports)."""

    def __init__(self, options, places, accelerator):
        self.options, self.places = options, places
        self.files, self.ports = [], {}
        self.devices = 0  # pmem devices so far
        self.backends = 0  # all devices with memory so far
        self.hotplug = 0  # bytes of address space beyond ordinary memory
        self.modules, self.variables = ["virtio_console"], {}
        self.arguments = list(options.append)
        root = f"{places['ROOT']}/usr"
        os.environ["QEMU_MODULE_DIR"] = f"{root}/lib/x86_64-linux-gnu/qemu"
        # No default devices, no window, no network; a restart of the guest ends QEMU.
        self.qemu = [f"{root}/lib64/ld-linux-x86-64.so.2", "--library-path", f"{root}/lib/x86_64-linux-gnu",
                     f"{root}/bin/qemu-system-{'aarch64' if ARM else 'x86_64'}", "-nodefaults", "-no-user-config", "-no-reboot",
                     "-display", "none", "-vga", "none", "-net", "none", "-run-with", "exit-with-parent=on",
                     "-L", f"{root}/share/qemu", "-L", f"{root}/share/seabios"]
        self.add_processor(accelerator)
        self.add_channels()
        for image in options.nvdimm:
            self.add_nvdimm(image)
        for image in options.virtio_pmem:
            self.add_virtio_pmem(image)
        for image in options.reserve:
            self.add_reserved(image)
        for image in options.pci:
            self.add_pci(image)
        if options.drm:
            self.add_drm()
        own = [] if options.mode == "boot" else [places[disk] for disk in ("PROGRAMS", "USERLAND", "MODULES")]
        for number, disk in enumerate(own + options.disk):
            self.qemu += ["-drive", f"if=none,id=disk{number},format=raw,read-only=on,file.locking=off,file={quote(disk)}",
                          "-device", f"virtio-blk-pci,drive=disk{number}"]
        for tag, (directory, _) in enumerate(options.share):
            self.qemu += ["-fsdev", f"local,id=share{tag},path={quote(directory)},security_model=none,multidevs=remap",
                          "-device", f"virtio-9p-pci,fsdev=share{tag},mount_tag=share{tag}"]
            self.modules += ["9pnet_virtio", "9p"]
        # Host bridges come last: QEMU could put a device without a bus option on one.
        self.add_cxl(options.cxl)
        limit = options.memory * MIB + round_up(self.hotplug + 1, GIB) + 17 * GIB
        self.initrd = options.initrd or opened(self.make_initramfs())
        self.qemu += ["-m", f"size={options.memory}M,slots={self.backends + 8},maxmem={limit}", "-kernel", places["IMAGE"],
                      "-initrd", self.initrd, "-append", self.kernel_arguments(), *options.qemu]

    def nameless(self):
        """Return a new file that QEMU inherits. It is in the cache, because it may hold a copy of a large image."""
        self.files.append(tempfile.TemporaryFile(dir=f"{self.places['CACHE']}/vm"))
        return self.files[-1]

    def add_processor(self, accelerator):
        """Add the processor, and the machine around it."""
        icount, model = self.options.icount, "max,la57=off"
        if icount:
            # Time is the number of instructions, so that figures are the same on any machine, however busy.
            self.qemu += ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"]
        elif accelerator == "kvm":
            self.qemu += ["-accel", "kvm"]
        else:
            self.qemu += ["-accel", "tcg,thread=multi,tb-size=512"]
            # Emulation is slowest at byte-wise string instructions. Without these flags, the kernel uses others.
            model += ",erms=off,fsrm=off,fsrs=off"
        self.qemu += ["-smp", str(self.options.cpus)]
        if ARM:
            # The processor has 48-bit addresses, and none of the later extensions that make emulation slow, such as pointer
            # authentication. Only ACPI tables, which come with UEFI firmware, describe NVDIMMs.
            self.qemu += ["-cpu", "neoverse-n1", "-machine", "virt,acpi=on,nvdimm=on,gic-version=3,graphics=off",
                          "-bios", f"{self.places['ROOT']}/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"]
            return
        if icount:
            # The processor's random numbers seed the kernel's, which seed hash tables and place slab objects.
            self.qemu += ["-seed", "1"]
        # Five-level page tables only make each emulated page walk longer.
        # The kernel uses CXL memory only if it can invalidate all caches. Under a hypervisor it assumes that it cannot.
        if self.options.cxl:
            model += ",hypervisor=off"
        self.qemu += ["-cpu", model, "-machine", "q35,nvdimm=on,vmport=off,i8042=on,hpet=off,smm=off,graphics=off"]

    def add_channels(self):
        """Connect the kernel's console to a file, and the monitor and the guest's ports to a socket each.

        The controller of the ports is the first virtio device: guest-init and boot-guest know their names.
        """
        self.console = self.nameless()
        self.qemu += ["-serial", f"file:{opened(self.console)}", "-device", "virtio-serial-pci,max_ports=4"]
        for number, name in enumerate(("monitor", "status", "stdout", "stderr")):
            self.ports[name], end = socket.socketpair()
            self.files.append(end)
            self.qemu += ["-chardev", f"socket,id={name},fd={end.fileno()}"]
            self.qemu += (["-device", f"virtserialport,chardev={name},nr={number}"] if number else
                          ["-object", "monitor-hmp,id=monitor0,chardev=monitor"])
        if self.options.mode == "shell":
            self.qemu += ["-device", "virtio-serial-pci,max_ports=1",
                          "-chardev", "stdio,id=terminal,signal=off", "-device", "virtconsole,chardev=terminal"]

    # ---- memory that holds an image ---------------------------------------------------------------

    def add_backend(self, path, size, device):
        """Add a file's bytes as memory of a device, whose last option takes the name of a backend.

        Unless images are shared, the file is opened for reading and mapped privately, so the guest's writes do not reach it.
        """
        how = "share=on" if self.options.shared else "share=off,readonly=on,rom=off"
        if size > 64 * GIB and not self.options.shared:
            # The guest's writes to a private mapping make copies. Do not reserve memory for a large device's.
            how += ",reserve=off"
        self.qemu += ["-object", f"memory-backend-file,id=image{self.backends},mem-path={quote(path)},size={size},align=2M,{how}",
                      "-device", f"{device}=image{self.backends}"]
        self.backends += 1
        self.hotplug += size + GIB

    def padded(self, image, unit):
        """Return an image, or a private copy that is padded to a multiple of a unit, and the length."""
        size = os.path.getsize(image)
        total = round_up(size, unit)
        if size == total:
            return image, total
        if self.options.shared:
            raise Error(f"image {image}: {size} bytes, which cannot be shared: not a multiple of {unit}")
        copy = self.nameless()
        if subprocess.run(["cp", "--reflink=auto", "--sparse=always", image, opened(copy)], pass_fds=[copy.fileno()],
                          check=False).returncode:
            raise Error(f"cannot copy {image} to {self.places['CACHE']}/vm")
        copy.truncate(total)
        return opened(copy), total

    def add_nvdimm(self, image):
        """Add an NVDIMM, which is DAX-capable only with an info block before the image: make a private file of both."""
        if self.options.shared:
            raise Error(f"image {image}: an NVDIMM cannot be shared here")
        total = PMEM_ALIGN + round_up(os.path.getsize(image), PMEM_ALIGN)
        copy = self.nameless()
        copy.write(pfn_header(total))
        copy.flush()
        if subprocess.run(["dd", f"if={image}", f"bs={PMEM_ALIGN}", "conv=notrunc,sparse", "status=none"], stdout=copy,
                          check=False).returncode:
            raise Error(f"cannot copy {image} to {self.places['CACHE']}/vm")
        copy.truncate(total)
        self.add_backend(opened(copy), total, "nvdimm,memdev")
        self.devices += 1
        self.modules += ["nfit", "nd_pmem"]

    def add_virtio_pmem(self, image):
        """Add a device that is DAX-capable as it is: the image is mapped in place unless its size has to be padded."""
        if ARM:
            # QEMU has no such device for arm64. An NVDIMM gives the guest the same.
            self.add_nvdimm(image)
            return
        self.add_backend(*self.padded(image, PMEM_ALIGN), "virtio-pmem-pci,memdev")
        self.devices += 1
        self.modules += ["virtio_pmem", "nd_pmem"]

    def add_cxl(self, images):
        """Add CXL memory expanders.

        Each has its own host bridge and address window, so that each region can use the first decoder everywhere.
        """
        if images and ARM:
            raise Error(f"{images[0]}: the kernel cannot use CXL memory on this arm64 machine: it cannot invalidate all caches")
        windows = ""
        for number, image in enumerate(images):
            path, total = self.padded(image, CXL_ALIGN)
            windows += f",cxl-fmw.{number}.targets.0=cxl{number},cxl-fmw.{number}.size={total}"
            self.qemu += ["-device", f"pxb-cxl,id=cxl{number},bus=pcie.0,bus_nr={32 + 8 * number}",
                          "-device", f"cxl-rp,id=cxl-port{number},bus=cxl{number},port=0,chassis={number + 1},slot=0"]
            self.add_backend(path, total, f"cxl-type3,bus=cxl-port{number},sn={number + 1},volatile-memdev")
        if images:
            # QEMU takes the whole list of windows in one option.
            self.qemu += ["-machine", f"cxl=on{windows}"]
            self.modules += ["cxl_acpi", "cxl_pci", "cxl_mem", "dax_cxl", "fsdev_dax"]

    def add_reserved(self, image):
        """Add memory that no table describes to the guest.

        It is a memory module that the firmware does not report and that the kernel is configured to ignore. Its address is
        after all other modules, which QEMU places, and outside the range that the firmware reserves just below 4 GiB. The
        arm64 kernel has no such option: an NVDIMM without a driver is a reserved range, and guest-init takes its driver away.
        """
        memory = self.options.memory * MIB
        # As QEMU lays out the machines.
        before = GIB + memory if ARM else 5 * GIB + (memory - 2 * GIB if memory >= 0xb0000000 else 0)
        address = round_up(before + self.hotplug, GIB)
        path, size = self.padded(image, PMEM_ALIGN)
        self.add_backend(path, size, f"{'nvdimm' if ARM else 'pc-dimm'},addr={address},memdev")
        self.variables |= {"DAXFS_RESERVED_ADDR": f"{address:#x}", "DAXFS_RESERVED_SIZE": f"{size:#x}"}
        if ARM:
            self.modules += ["nfit", "nd_pmem"]
        else:
            self.arguments += ["acpi_no_memhotplug", f"memmap={size:#x}${address:#x}"]

    def add_pci(self, image):
        """Add a PCI device. Its memory is a window of addresses that the firmware places; the size is a power of two."""
        size = max(PMEM_ALIGN, 1 << (os.path.getsize(image) - 1).bit_length())
        self.add_backend(*self.padded(image, size), "ivshmem-plain,addr=1d,memdev")

    # ---- everything else --------------------------------------------------------------------------

    def add_drm(self):
        """Add graphics devices: vgem needs no hardware, qxl has its own memory, and QEMU has none for arm64.

        No console is drawn on them, because on a busy machine the kernel would only warn of late frames.
        """
        self.arguments.append("drm_kms_helper.fbdev_emulation=0")
        self.qemu += ["-device", "virtio-gpu-pci"]
        self.modules += ["vgem", "virtio_gpu"]
        if not ARM:
            self.qemu += ["-device", "qxl,ram_size_mb=512"]
            self.modules.append("qxl")

    def kernel_arguments(self):
        """Return the kernel's command line.

        After a failure the kernel stops at once (which ends QEMU), rather than at the time limit, and prints the state of each
        processor. Emulation on a busy machine is slow, so the watchdogs wait longer. The other options save time at boot.
        """
        return " ".join([
            f"console={'ttyAMA0' if ARM else 'ttyS0,115200'} oops=panic panic=-1 unknown_nmi_panic panic_print=0xc0",
            "watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=120 sysctl.kernel.hung_task_timeout_secs=300",
            "mitigations=off highres=off nokaslr tsc=reliable no_timer_check random.trust_cpu=on audit=0 apparmor=0",
            "cryptomgr.notests 8250.nr_uarts=1 rdinit=/init",
            *self.arguments, *(self.options.command if self.options.mode == "boot" else [])])

    def call_limit(self):
        """Return how many seconds of system time one call may take.

        Checkers and emulation make calls slow. Where time counts instructions, nothing else may run.
        """
        if self.options.icount:
            return 0
        slow = ARM or self.options.kernel == "debug" or "/" in self.options.kernel
        return os.environ.get("DAXFS_VM_CALL_LIMIT") or (150 if slow else 30)

    def configuration(self):
        """Return the text that guest-init reads as a shell does."""
        options = self.options
        if options.disk:
            # The kernel names the disks in this order.
            self.variables["DAXFS_DISKS"] = " ".join(f"/dev/vd{chr(ord('d') + number)}" for number in range(len(options.disk)))
        columns, lines = os.get_terminal_size(0) if options.mode == "shell" else (80, 24)
        values = {"MODE": options.mode, "MERGE": int(os.path.samestat(os.fstat(1), os.fstat(2))), "DEVICES": self.devices,
                  "DRM": (2 if ARM else 3) if options.drm else 0, "CXL": len(options.cxl), "PCI": len(options.pci),
                  "CALL_LIMIT": self.call_limit(), "LINES": lines, "COLUMNS": columns,
                  "TERM_NAME": os.environ.get("TERM") or "dumb",
                  "MODULE": "/payload/daxfs.ko" if options.module else self.places["MODULE"]}
        lists = {"MODULES": dict.fromkeys(self.modules) if self.places["LOADS"] else [],
                 "SHARES": [guest for _, guest in options.share], "command": options.command}
        return "".join([*(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items()),
                        *(f"export {name}={shlex.quote(value)}\n" for name, value in self.variables.items()),
                        *(f"{name}=({shlex.join(words)})\n" for name, words in lists.items())])

    def make_initramfs(self):
        """Return the initramfs: the first stage, and the files of this run, in the format that cpio calls newc."""
        archive = self.nameless()
        archive.write(pathlib.Path(self.places["BOOT"]).read_bytes())
        files = {"payload/config": os.fsencode(self.configuration())}
        if self.options.module:
            files["payload/daxfs.ko"] = pathlib.Path(self.options.module).read_bytes()
        for name, content in {**files, "TRAILER!!!": b""}.items():
            numbers = 1, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0
            header = f"070701{''.join(f'{number:08x}' for number in numbers)}{name}\0".encode()
            archive.write(header + bytes(-len(header) % 4) + content + bytes(-len(content) % 4))
        archive.flush()
        return archive
