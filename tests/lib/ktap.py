# SPDX-License-Identifier: GPL-2.0-only
"""KTAP output and kselftest exit codes for tests in Python, as ktap.h for those in C."""
import contextlib
import ctypes
import difflib
import mmap
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from ctypes import c_long, c_size_t, c_void_p

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORK = os.environ.get("DAXFS_WORK", "/tmp/daxfs-tests")
ON_FUSE = os.environ.get("DAXFS_ON_FUSE")
# Mounts the image of a fixture: the words of a command, before the device and the directory.
MOUNT = os.environ.get("DAXFS_MOUNT", "mount -t daxfs")
COMPOSED = "DAXFS_MOUNT" in os.environ
PAGE = os.sysconf("SC_PAGESIZE")
# The kernel has checkers, which make it slow.
SLOW = "DAXFS_SLOW" in os.environ
MAPPER = f"{TESTS}/mapper"
# Run a program without privileges, in scripts: as the user nobody, or as an ordinary one.
AS_NOBODY = "setpriv --reuid=nobody --regid=nogroup --clear-groups --"
AS_USER = "setpriv --reuid=1000 --regid=1000 --clear-groups --"
# An address that is never mapped.
NOWHERE = c_void_p(8)
FIXED = 0x10
libc = ctypes.CDLL(None, use_errno=True)
points = []


class Skip(Exception):
    """The point cannot run here."""


def point(name):
    """Make a function a point of the test."""
    return lambda function: points.append((name, function)) or function


def skip_all(reason):
    """End the test, which cannot run here."""
    print(f"KTAP version 1\n1..0 # SKIP {reason}")
    sys.exit(4)


def bail_out(reason):
    """End the test, which fails."""
    print(f"Bail out! {reason}")
    sys.exit(1)


def needs(*programs):
    """End the test unless these programs are on the path."""
    for program in programs:
        if not shutil.which(program):
            skip_all(f"needs {program} on the path")


def equal(got, want):
    """Fail unless both are equal. Of texts and lists of lines, show the lines that differ."""
    if got == want:
        return
    both = [one.split("\n") if isinstance(one, str) and "\n" in one else one for one in (want, got)]
    if all(isinstance(one, list) and all(isinstance(line, str) for line in one) for one in both):
        raise AssertionError("\n".join(difflib.unified_diff(*both, "expected", "found", n=0, lineterm="")))
    raise AssertionError(f"expected {want!r}, got {got!r}")


def fails(error, function, *arguments, text="", **keywords):
    """Fail unless the call fails with this errno and a message that contains the text; return the message."""
    try:
        got = function(*arguments, **keywords)
    except OSError as failure:
        equal(os.strerror(failure.errno or 0), os.strerror(error))
        assert text in str(failure), f"expected {text!r}, got {failure}"
        return str(failure)
    else:
        raise AssertionError(f"expected {os.strerror(error)}, got {got!r}")


def ended(script):
    """Run a script of bash; return its exit status, what it printed, and its errors."""
    done = subprocess.run(["bash", "-ec", f"set -o pipefail; {script}"], stdin=subprocess.DEVNULL, capture_output=True,
                          encoding="utf-8", errors="replace", check=False)
    # A shell that executes its last command dies as that does.
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return status, done.stdout.rstrip("\n"), done.stderr


def sh(script, status=0):
    """Run a script of bash, which must end with this status; return what it prints."""
    got, said, errors = ended(script)
    assert got == status, f"{script}: exit status {got}\n{said}\n{errors}"
    return said


def says(pattern, script):
    """Fail unless the script passes and prints lines that match the pattern; return what it prints."""
    said = sh(script)
    assert re.search(pattern, said, re.M), f"{script}: expected {pattern!r}, got {said}"
    return said


def refused(text, script):
    """Fail unless the script fails and prints the text."""
    status, said, errors = ended(script)
    assert status and text in said + errors, f"{script}: exit status {status}, expected {text!r}\n{said}\n{errors}"


def soon(holds, *arguments, limit=120):
    """Call a function until it returns something else than False, without an error of a script, for `limit` seconds; return that."""
    end = time.monotonic() + limit
    while True:
        try:
            if (found := holds(*arguments)) is not False:
                return found
        except (AssertionError, OSError):
            if time.monotonic() > end:
                raise
        assert time.monotonic() < end, f"{holds} is still false"
        time.sleep(0.05)


def write(path, text):
    """Write a text to a file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def read(path):
    """Return the text of a file, without the last line end."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().rstrip("\n")


def manifest(directory):
    """Return a line for each file of a directory, with its attributes and digest."""
    return sh(f"{TESTS}/lib/manifest {directory}").split("\n")


def random_file(path, size):
    """Write a file of random bytes."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as file:
        file.write(os.urandom(size))


def process_with(*words):
    """Return the last process that has these words as arguments; a script that names them is another one."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if {*words} <= {*read(f"/proc/{process}/cmdline").split("\0")}:
                found.append(int(process))
    return max(found)


def meminfo(key):
    """Return a number of /proc/meminfo, in KiB."""
    return int(re.search(f"^{key}: *(\\d+)", read("/proc/meminfo"), re.M)[1])


@contextlib.contextmanager
def mapper(*arguments):
    """Have a process use a file as tests/lib/mapper.c says; yields its number."""
    with subprocess.Popen([MAPPER, *arguments], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline()
            yield process.pid
        finally:
            process.kill()


def frames(process, file):
    """Return what mapper --frames prints: the number of pages, the lowest and highest address, and a digest."""
    return sh(f"{MAPPER} --frames {process} {file}").split()


def same_frames(*files):
    """Fail unless all files have the same page frames."""
    with contextlib.ExitStack() as users:
        found = [frames(users.enter_context(mapper(file)), file) for file in files]
    assert found[0][0] != "0" and all(one == found[0] for one in found), found


def call(name, *arguments):
    """Call a function of the C library, with paths as bytes; return its result, or raise OSError."""
    result = getattr(libc, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def figure(directory, name):
    """Return the text of a file in sysfs of the image that is mounted on a directory."""
    number = os.stat(directory).st_dev
    return read(f"/sys/fs/daxfs/{os.major(number)}:{os.minor(number)}/{name}")


def mapped(file, length, address=None, offset=0, flags=mmap.MAP_SHARED, protection=mmap.PROT_READ):
    """Map a part of a file, at this address if there is one; return the address."""
    libc.mmap.restype = c_void_p
    found = libc.mmap(c_void_p(address), c_size_t(length), protection, flags | (FIXED if address else 0), file, c_long(offset))
    if found == c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    assert address in (None, found)
    return found


def unmap(address, length):
    """Unmap memory."""
    call("munmap", c_void_p(address), c_size_t(length))


def signal_of_load(address):
    """Return the signal with which a load ends a process, or 0."""
    child = os.fork()
    if not child:
        ctypes.string_at(address, 1)
        os._exit(0)
    return -os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def gets_sigbus(address):
    """Return true if a load ends a process with SIGBUS."""
    return signal_of_load(address) == signal.SIGBUS


def become(uid, gid, groups=(), namespace=False):
    """Be another user until the end of the point, perhaps root of a user namespace."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if namespace:
        own_namespace()


def own_namespace(flags=0):
    """Be root of a new user namespace, which has the user only, and of other namespaces by clone(2)'s flags."""
    maps = ("setgroups", "deny"), ("uid_map", f"0 {os.getuid()} 1"), ("gid_map", f"0 {os.getgid()} 1")
    call("prctl", 4, 1, 0, 0, 0)  # PR_SET_DUMPABLE
    os.unshare(os.CLONE_NEWUSER | flags)
    for name, text in maps:
        write(f"/proc/self/{name}", text)


def skip(reason):
    """End the point, which cannot run here."""
    raise Skip(reason)


def private_mount_point():
    """Restart the test in a new mount namespace; return a directory to mount on."""
    if os.environ.get("DAXFS_NAMESPACE") != str(os.getpid()):
        if os.getuid():
            skip_all("needs the right to mount (root)")
        os.environ["DAXFS_NAMESPACE"] = str(os.getpid())
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", *sys.argv])
    os.makedirs(f"{WORK}/mnt", exist_ok=True)
    return f"{WORK}/mnt"


def private_directory():
    """Go to an empty directory in memory that ends with the test, as all its mounts do; return its path."""
    private_mount_point()
    place = f"{WORK}-place"
    os.makedirs(place, exist_ok=True)
    sh(f"mount -t tmpfs -o mode=755,size=75% tmpfs {place}")
    os.chdir(place)
    return place


def fixture(name):
    """Return the device with an image of tests/lib/fixture, or end the test."""
    fixed = subprocess.run([f"{TESTS}/lib/fixture", name], stdout=subprocess.PIPE, text=True, check=False)
    if fixed.returncode == 4:
        skip_all(fixed.stdout.strip())
    if fixed.returncode:
        bail_out(f"fixture {name}: {fixed.stdout.strip()}")
    return fixed.stdout.strip()


def fixture_mount(name):
    """Mount an image of tests/lib/fixture; return the mount point."""
    if ON_FUSE:
        return ON_FUSE
    mount = private_mount_point()
    subprocess.run([*MOUNT.split(), fixture(name), mount], check=True)
    return mount


def kmsg_open():
    """Open the kernel's log, to read records from now on."""
    kmsg = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(kmsg, 0, os.SEEK_END)
    return kmsg


def logged(kmsg, text):
    """Return the messages of the kernel's log since the last call that contain a text."""
    messages = []
    while True:
        try:
            messages.append(os.read(kmsg, 8192).decode().split("\n")[0].partition(";")[2])
        except BlockingIOError:
            return [message for message in messages if text in message]
        except BrokenPipeError:
            # Records were overwritten; the next read continues after them.
            pass


def in_child(function, *arguments):
    """Run a function in a child; return 0 passed, 4 skipped; all else is a failure."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 0
    try:
        function(*arguments)
    except Skip as skip:
        print(f"# {skip}")
        status = 4
    except BaseException:  # pylint: disable=broad-exception-caught
        print("# " + traceback.format_exc().strip().replace("\n", "\n# "))
        status = 1
    sys.stdout.flush()
    os._exit(status)


def run():
    """Run all points and end the test."""
    print(f"KTAP version 1\n1..{len(points)}")
    results = []
    for number, (name, function) in enumerate(points, 1):
        results.append(in_child(function) if os.environ.get("DAXFS_POINTS", "") in name else 4)
        print(f"{'ok' if results[-1] in (0, 4) else 'not ok'} {number} - {name}{' # SKIP' if results[-1] == 4 else ''}")
    passed, skipped = results.count(0), results.count(4)
    print(f"# totals: pass:{passed} fail:{len(results) - passed - skipped} skip:{skipped}")
    sys.exit(1 if len(results) > passed + skipped else 0 if passed else 4)
