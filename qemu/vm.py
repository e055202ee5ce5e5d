# SPDX-License-Identifier: GPL-2.0-only
"""Run a command, or a shell, in a virtual machine with daxfs and emulated persistent memory.

The life of a run: options -> guest-image, which finds the kernel and makes the guest's file systems -> QEMU's arguments
(machine.py) -> start -> wait for the status port -> look through the kernel's log (log.py).
"""
import argparse
import os
import pathlib
import queue
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import termios
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "lib"))
# pylint: disable=wrong-import-position
import log  # noqa: E402
import machine  # noqa: E402

STATUS_TIMEOUT, STATUS_RUNNER, STATUS_KERNEL = 124, 125, 126
ENDS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
BOOT_LIMIT = 300  # seconds until the command must have been started

DESCRIPTION = """\
Runs COMMAND as root in a virtual machine with Debian 13's programs, daxfs.ko, and build/bin in its PATH. Output and exit
status are COMMAND's. 'shell' starts an interactive shell (or COMMAND) on this terminal. 'boot' boots a system from one of
the images, with --initrd as its initramfs, and passes the words after '--', such as root=/dev/pmem0, to the kernel; that
system does not see the variables below, and must report like tests/lib/boot-guest."""

EPILOG = """\
You can repeat --qemu, --share, --append and options with an IMAGE. In the guest, DAXFS_DEV is the first image's device
and DAXFS_DEVS lists all devices: NVDIMMs first, then virtio-pmem, then CXL memory. Without --shared, the guest's writes
to an IMAGE are discarded.

Exit status: COMMAND's, or, after a line that starts with 'vm: ' and shows the path of the saved log,
  124  the time limit was reached
  125  the machine could not be started, or stopped before the command finished
  126  the kernel complained (oops, BUG, WARNING, lockdep, KASAN, kmemleak, panic, hang), or a system call took
       more than 30 s of system time (150 s with checkers)

The machine uses KVM if it works (DAXFS_VM_ACCEL=tcg prevents that), otherwise emulation. DAXFS_ARCH=arm64 emulates an
arm64 machine, with NVDIMMs instead of virtio-pmem, and without CXL. DAXFS_KERNEL sets the default for --kernel, and
DAXFS_VM_CALL_LIMIT the limit of 30 or 150 s (0: none). DAXFS_VM_KEEP is a directory for copies of kernel and initramfs."""


def die(text):
    """Exit with an error of this program."""
    print(f"vm: {text}", file=sys.stderr)
    sys.exit(STATUS_RUNNER)


class Parser(argparse.ArgumentParser):
    """A parser that reports errors as this program does, with status 125."""

    def error(self, message):
        die(f"{message} (see qemu/vm --help)")


def number(least):
    """Return a function that reads a number of at least `least`."""
    def read(text):
        if not re.fullmatch("[0-9]{1,9}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: not a number of at least {least}")
        return int(text)
    return read


def file(text):
    """Check that a file can be read and has bytes."""
    if not os.path.isfile(text) or not os.access(text, os.R_OK):
        raise argparse.ArgumentTypeError(f"{text}: not a readable file")
    if not os.path.getsize(text):
        raise argparse.ArgumentTypeError(f"{text} is empty")
    return text


def share(text):
    """Read HOSTDIR:/GUESTDIR."""
    where = re.fullmatch("(.+?):(/.+)", text)
    if not where:
        raise argparse.ArgumentTypeError(f"{text}: not HOSTDIR:/GUESTDIR")
    if not os.path.isdir(where[1]):
        raise argparse.ArgumentTypeError(f"{where[1]}: no such directory")
    return where[1], where[2]


def parse(words):
    """Return the options."""
    end = words.index("--") if "--" in words else len(words)
    parser = Parser("qemu/vm", usage="qemu/vm {run,shell,boot} [OPTION]... -- COMMAND [ARGUMENT]...", description=DESCRIPTION,
                    epilog=EPILOG, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("mode", choices=("run", "shell", "boot"))
    add("--kernel", metavar="NAME|debug|PATH", default=os.environ.get("DAXFS_KERNEL") or "stock",
        help="a Debian kernel: stock (default), or a version such as 7.2.12; the one with checkers; or an image (with a slash in "
             "its name). Its modules are in lib/modules next to it or in /lib/modules, or built in")
    add("--module", metavar="FILE", type=file, help="daxfs.ko to use (default: the one that make has built for this kernel; for "
        "an image build/daxfs.ko, unless its modules have daxfs or it is built in)")
    add("--cpus", metavar="N", type=number(1), default=2, help="processors (2)")
    add("--memory", metavar="MIB", type=number(256), help="memory (2048; 3072 with the debug kernel)")
    add("--icount", action="store_true", help="count instructions as guest time, for repeatable figures; one processor")
    for name, text in {
            "nvdimm": "IMAGE as an NVDIMM: /dev/pmemN with its bytes, ready for DAX",
            "virtio-pmem": "the same as a virtio-pmem device",
            "cxl": "the same as memory of a CXL device: /dev/daxN.0, in fsdev mode",
            "reserve": "IMAGE in a reserved range (once): DAXFS_RESERVED_ADDR and DAXFS_RESERVED_SIZE, for phys=",
            "pci": "IMAGE in the memory of a PCI device (once): DAXFS_PCI_ADDR and DAXFS_PCI_SIZE",
            "disk": "IMAGE as a virtio-blk device, read-only: DAXFS_DISKS lists them"}.items():
        add(f"--{name}", metavar="IMAGE", type=file, action="append", default=[], help=text)
    add("--shared", action="store_true", help="write to the image files, which several machines can share; sizes must be "
        "multiples of 2 MiB, of 256 MiB for CXL, a power of two for PCI")
    add("--drm", action="store_true", help="graphics devices with exportable buffers: DAXFS_DRM lists them, vgem first")
    add("--qemu", metavar="ARGUMENTS", type=shlex.split, action="extend", default=[],
        help="additional QEMU arguments, quoted as for a shell")
    add("--share", metavar="HOSTDIR:GUESTDIR", type=share, action="append", default=[],
        help="share this machine's HOSTDIR, writable, with the guest")
    add("--initrd", metavar="FILE", type=file, help="for boot: the initramfs")
    add("--timeout", metavar="SECONDS", type=number(0), help="end the run after this time, boot included (600; 1800 with the debug "
        "kernel; 0 for no limit, which is the shell's default)")
    add("--append", metavar="ARGUMENTS", action="append", default=[], help="additional words for the kernel's command line")
    add("--verbose", action="store_true", help="print the QEMU command, and when the guest is ready")
    options = parser.parse_args(words[:end])
    options.command = words[end + 1:]
    for name in "reserve", "pci":
        if len(getattr(options, name)) > 1:
            parser.error(f"--{name}: there can be only one")
    if (options.mode == "boot") != (options.initrd is not None):
        parser.error("boot needs --initrd, which is for boot only")
    if not options.command and options.mode != "boot":
        if options.mode == "run":
            parser.error("no command; it comes after --")
        options.command = ["bash"]
    if options.mode == "shell" and not sys.stdin.isatty():
        parser.error("a shell needs a terminal; use run for commands")
    if options.icount:
        options.cpus = 1
    debug = options.kernel == "debug"
    options.memory = options.memory or (3072 if debug else 2048)
    if options.timeout is None:
        options.timeout = 0 if options.mode == "shell" else 1800 if debug else 600
    return options


def prepare(kernel):
    """Find a kernel, and make the guest's file systems if they are older than their sources; return all places."""
    made = subprocess.run([HERE / "guest-image", "--kernel", kernel], stdout=subprocess.PIPE, text=True, check=False)
    if made.returncode:
        die("cannot make the guest's file systems")
    return dict(line.split("=", 1) for line in made.stdout.splitlines())


class Run:
    """A machine that runs, and the threads that pass on what it writes."""

    def __init__(self, options, built):
        self.options = options
        self.events = queue.SimpleQueue()
        self.status, self.monitor = built.ports["status"], built.ports["monitor"]
        self.console, self.messages = built.console, built.nameless()
        # In a shell, QEMU's standard output is the terminal. Otherwise it prints only its own messages.
        shell = options.mode == "shell"
        self.start = time.monotonic()
        self.process = subprocess.Popen(built.qemu, stdin=None if shell else subprocess.DEVNULL,
                                        stdout=None if shell else self.messages, stderr=self.messages,
                                        pass_fds=[inherited.fileno() for inherited in built.files])
        for inherited in built.files:
            if isinstance(inherited, socket.socket):
                # QEMU has the only copy: when it ends, for any reason, the ports are closed.
                inherited.close()
        self.threads = [threading.Thread(target=self.relay, args=(built.ports[name], number), daemon=True)
                        for number, name in enumerate(("stdout", "stderr"), 1)]
        self.threads.append(threading.Thread(target=self.follow, daemon=True))
        for thread in self.threads:
            thread.start()

    def relay(self, port, output):
        """Copy one port to an output. The reader may stop early, as in 'vm run ... | head'."""
        try:
            while data := port.recv(1 << 16):
                while data:
                    data = data[os.write(output, data):]
        except OSError:
            self.events.put(("closed", ""))

    def follow(self):
        """Put the lines of the status port into the queue, as a word and the rest."""
        try:
            for line in self.status.makefile(errors="replace"):
                word, _, rest = line.strip().partition(" ")
                self.events.put((word, rest))
        except OSError:
            pass  # QEMU has ended before it read all.
        self.events.put(("gone", ""))

    def event(self):
        """Return the next line of the status port, or ("timeout", "") if there is none until the limit."""
        try:
            return self.events.get(timeout=self.limit and max(0, self.start + self.limit - time.monotonic()))
        except queue.Empty:
            return "timeout", ""

    def supervise(self):
        """Wait for the result of the run, before the log is examined."""
        word, self.limit = "", min(self.options.timeout or BOOT_LIMIT, BOOT_LIMIT)
        while word not in ("exit", "fail", "closed", "gone", "timeout"):
            word, rest = self.event()
            if word == "ready":
                self.limit = self.options.timeout or None
                if self.options.verbose:
                    print(f"vm: the guest is ready (its clock says {rest} s)", file=sys.stderr)
        try:
            if word == "timeout":
                # A non-maskable interrupt makes the kernel print the state of its processors and tasks.
                self.monitor.sendall(b"nmi\n")
                self.process.wait(5)
            elif word == "exit":
                self.status.sendall(b"over\n")
                # A whole system may need longer.
                self.process.wait(60 if self.options.mode == "boot" else 10)
        except (OSError, subprocess.TimeoutExpired):
            pass
        return word, rest

    def stop(self):
        """End QEMU if it still runs, and wait for its output."""
        for end in ENDS:
            signal.signal(end, signal.SIG_IGN)
        self.process.terminate()
        try:
            self.process.wait(2.5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for thread in self.threads:
            thread.join()


def keep_log(lines, logs):
    """Write the log of a run, and return its path. The newest fifty are enough."""
    logs.mkdir(parents=True, exist_ok=True)
    for old in sorted(logs.glob("*.log"))[:-49]:
        old.unlink(missing_ok=True)
    path = logs / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def judge(run, outcome, rest, logs):
    """Return the exit status for the outcome of a run, and print the lines of the log that explain it."""
    # The log has the kernel's messages, and then QEMU's.
    for output in run.console, run.messages:
        output.seek(0)
    lines = run.console.read().replace(b"\r", b"").decode(errors="replace").splitlines()
    lines += [f"qemu: {line}" for line in run.messages.read().decode(errors="replace").splitlines()]
    path = keep_log(lines, logs)
    shown = log.complaints(lines)
    if shown and outcome != "timeout":
        how = f"the command's exit status was {rest}" if outcome == "exit" else "the command did not finish"
        status, text = STATUS_KERNEL, f"the kernel complained ({how})"
    elif outcome == "exit":
        if run.options.verbose:
            print(f"vm: exit status {rest}; the kernel's log is {path}", file=sys.stderr)
        return int(rest)
    elif outcome == "closed":
        return 128 + signal.SIGPIPE  # like any other program
    elif outcome == "timeout":
        shown, status, text = log.hang(lines), STATUS_TIMEOUT, f"time limit of {run.limit} s reached"
    elif outcome == "fail":
        shown, status, text = [], STATUS_RUNNER, f"the guest could not be set up: {rest}"
    else:
        shown, status = lines[-20:], STATUS_RUNNER
        text = f"the machine ended (QEMU status {run.process.returncode}) before the command did"
    print(*shown, f"vm: {text}; the whole log is {path}", sep="\n", file=sys.stderr)
    return status


def kvm_works(guest):
    """Check that a guest runs with KVM: a nested or broken KVM may open /dev/kvm and then hang.

    The result is kept until this machine boots again.
    """
    flags = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    if not re.search("^flags.* (vmx|svm)( |$)", flags, re.M) or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    user, boot = os.getuid(), pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    verdict = pathlib.Path(guest, f"kvm-{boot}-{user}")
    if not verdict.exists():
        for old in verdict.parent.glob(f"kvm-*-{user}"):
            old.unlink(missing_ok=True)
        tried = subprocess.run([HERE / "vm", "run", "--timeout", "30", "--", "true"], env={**os.environ, "DAXFS_VM_ACCEL": "kvm"},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        verdict.write_text("no" if tried.returncode else "yes", encoding="utf-8")
    return verdict.read_text(encoding="utf-8").strip() == "yes"


def main():
    """Do what the command line says; return the exit status."""
    for end in ENDS:
        # A caller such as nohup may want to ignore it.
        if signal.getsignal(end) != signal.SIG_IGN:
            signal.signal(end, lambda signum, _: sys.exit(128 + signum))
    options = parse(sys.argv[1:])
    places = prepare(options.kernel)
    logs = pathlib.Path(places["CACHE"], "vm/logs")
    logs.parent.mkdir(parents=True, exist_ok=True)
    accelerator = "tcg" if machine.ARM else os.environ.get("DAXFS_VM_ACCEL") or ("kvm" if kvm_works(places["GUEST"]) else "tcg")
    built = machine.Machine(options, places, accelerator)
    if options.verbose:
        print(f"vm: starting {places['RELEASE']}: {shlex.join(built.qemu)}", file=sys.stderr)
    if os.environ.get("DAXFS_VM_KEEP") and options.mode != "boot":
        shutil.copyfile(places["IMAGE"], os.path.join(os.environ["DAXFS_VM_KEEP"], "vmlinuz"))
        shutil.copyfile(built.initrd, os.path.join(os.environ["DAXFS_VM_KEEP"], "initramfs"))
    terminal = termios.tcgetattr(0) if options.mode == "shell" else None
    run = Run(options, built)
    try:
        outcome = run.supervise()
    finally:
        run.stop()
        if terminal:
            termios.tcsetattr(0, termios.TCSADRAIN, terminal)
    return judge(run, *outcome, logs)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (machine.Error, OSError) as error:
        die(error)
