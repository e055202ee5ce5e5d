# SPDX-License-Identifier: GPL-2.0-only
"""Use the Python package on mounted images, in a machine; tests/library starts this.

Usage: mounted.py IMAGE PAGE    PAGE has the program that uses a file in its dma-buf
"""
import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import re
import runpy
import shlex
import socket
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import daxfs

IMAGE, PAGE = sys.argv[1:]
SOCKET, MOUNT, UNIT, READY = "/run/model/memory", "/srv/model", "/run/systemd/system/model.service", "/run/ready"
BIG = f"{MOUNT}/big"
# A video device with an input that gets the picture of its output, and with buffers that consist of planes.
VIVID = "n_devs=1 multiplanar=2 num_inputs=1 input_types=3 num_outputs=1 output_types=1"
CAPTURE, OUTPUT, DMABUF, WIDTH, HEIGHT = 9, 10, 4, 1280, 720
# Controls of vivid: no text in the picture, and the output that an input is connected to.
TEXT_MODE, CONNECTED = 0xf0f000 + 1, 0xf0f000 + 113


def examples():
    """Return the unit and the program on the page, for a file of the image."""
    blocks = re.findall(r"::\n\n((?:(?: {4}.*)?\n)+)", open(PAGE, encoding="utf-8").read())
    unit, program = (next(block for block in blocks if text in block) for text in ("[Service]", "import daxfs"))
    return unit.replace("    ", ""), program.replace("    ", "").replace("weights.bin", "big")


def fails(error, file, text, place=SOCKET):
    """Getting the memory of a file fails with this error."""
    try:
        daxfs.memory(file, place)
    except OSError as failure:
        assert failure.errno == error and text in str(failure), failure
    else:
        raise AssertionError(f"{file}: no error")


def located():
    """Files of a mounted image are where they are in the image."""
    sh("mount -t daxfs $0 /mnt")
    for file in "big", "dir/hello":
        place = daxfs.locate(f"/mnt/{file}")
        assert place == daxfs.open(IMAGE)[file].locate()
        assert sh(f"daxfs locate /mnt/{file}") == f"{place.offset} {place.length} /mnt/{file}\n"
    try:
        daxfs.locate("/mnt/dir")
    except OSError:
        pass
    else:
        raise AssertionError("a directory has a place")


def sh(script):
    """Run a script, which has the image as $0, and return what it prints."""
    return subprocess.check_output(["bash", "-ec", script, IMAGE], encoding="utf-8")


@contextlib.contextmanager
def service(unit):
    """Run a service as systemd does, from when it is ready on."""
    value = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
    os.makedirs(f"/run/{value['RuntimeDirectory']}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(READY)
        ready.settimeout(300)
        with subprocess.Popen(shlex.split(value["ExecStart"]), group=value["Group"], umask=int(value["UMask"], 8),
                              env=os.environ | {"NOTIFY_SOCKET": READY}) as server:
            assert ready.recv(100) == b"READY=1"
            try:
                yield
                assert server.poll() is None
            finally:
                server.terminate()
    sh(f"{value['ExecStopPost']}; rm -r /run/{value['RuntimeDirectory']} {READY}")


def shown(fd, offset, content):
    """A video device has this picture in a dma-buf: its output reads that, and its input gets it."""
    sh(f"modprobe vivid {VIVID}")
    source, sink = (os.open(f"/dev/video{number}", os.O_RDWR) for number in (0, 1))
    connected = struct.pack("Ii", CONNECTED, 2)
    for control in struct.pack("Ii", TEXT_MODE, 2), connected:
        fcntl.ioctl(source, 0xc008561c, control)
    for device, kind in (source, CAPTURE), (sink, OUTPUT):
        wanted = struct.pack("I4xII4sIIII160xB", kind, WIDTH, HEIGHT, b"GREY", 1, 0, 0, WIDTH, 1)
        fcntl.ioctl(device, 0xc0d05605, wanted.ljust(208, b"\0"))
    fcntl.ioctl(sink, 0xc0145608, struct.pack("III8x", 2, OUTPUT, DMABUF))
    plane = ctypes.create_string_buffer(struct.pack("IIi4xI44x", offset + len(content), offset + len(content), fd, offset))
    for number in 0, 1:
        buffer = struct.pack("IIIII4x32xIIQI12x", number, OUTPUT, 0, 0, 1, 0, DMABUF, ctypes.addressof(plane), 1)
        fcntl.ioctl(sink, 0xc058560f, buffer)
    fcntl.ioctl(sink, 0x40045612, struct.pack("i", OUTPUT))
    # The driver updates its controls by a work, which may undo a connection that was made while it started.
    for _ in range(30):
        if os.read(source, len(content)) == content:
            return
        fcntl.ioctl(source, 0xc008561c, connected)
    raise AssertionError("the device shows another picture")


def memory():
    """The service of the page gives the dma-buf to a program. Its device reads a file there."""
    unit, program = examples()
    os.makedirs(os.path.dirname(UNIT), exist_ok=True)
    for path, text in (UNIT, unit), ("/run/program.py", program):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    os.makedirs(MOUNT)
    # The machine lacks units that each service needs.
    sh(f"""ln -s $0 {MOUNT}.img; cd {os.path.dirname(UNIT)}; tee {{sysinit,basic,shutdown}}.target <<<[Unit] >/dev/null
        systemd-analyze verify --man=no {UNIT}""")
    with service(unit):
        found = runpy.run_path("/run/program.py")
        fd, offset, length = found["fd"], found["offset"], found["length"]
        assert (offset, length) == daxfs.locate(BIG)[:2]
        assert os.readlink(f"/proc/self/fd/{fd}") == "/dmabuf:" and not os.get_inheritable(fd)
        content = open(BIG, "rb").read()
        assert mmap.mmap(fd, offset + length, access=mmap.ACCESS_READ)[offset:] == content
        shown(fd, offset, content[:WIDTH * HEIGHT])
        # Graphics import it as well.
        sh("modprobe vgem")
        assert fcntl.ioctl(os.open("/dev/dri/card0", os.O_RDWR), 0xc00c642e, struct.pack("IIi", 0, 0, fd))[:4] != bytes(4)
        # Members of the group get it, other users do not.
        for groups, error in (["video"], b""), ([], b"PermissionError"):
            done = subprocess.run([sys.executable, "/run/program.py"], user=1000, group=1000, extra_groups=groups,
                                  stderr=subprocess.PIPE, check=False)
            assert (error in done.stderr if error else not done.returncode), done
        # Clients need not stay, or read.
        for _ in range(100):
            socket.socket(socket.AF_UNIX).connect(SOCKET)
        daxfs.memory(BIG, SOCKET)
        # Another program serves: no number, a descriptor without one, a number without one.
        with socket.socket(socket.AF_UNIX) as other:
            other.bind("/run/other")
            fails(errno.ECONNREFUSED, BIG, "cannot connect", "/run/other")
            other.listen()
            for message, fds in (b"", []), (b"1", [0]), (bytes(8), []):
                with ThreadPoolExecutor() as pool:
                    client = pool.submit(fails, errno.EPROTO, BIG, "no daxfs load", "/run/other")
                    connection, _ = other.accept()
                    if message:
                        socket.send_fds(connection, [message], fds)
                    connection.close()
                    client.result()
        fails(errno.ENOENT, BIG, "cannot connect", "/run/none")
        # Another mount has another number, also when the first one is gone.
        fails(errno.ENODEV, "/mnt/big", "another mount")
        sh(f"umount {MOUNT}; daxfs load --into heap $0 {MOUNT}")
        fails(errno.ENODEV, BIG, "another mount")
    # The memory outlives the service.
    assert mmap.mmap(fd, offset + length, access=mmap.ACCESS_READ)[offset:] == content


located()
memory()
