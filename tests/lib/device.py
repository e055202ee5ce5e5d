# SPDX-License-Identifier: GPL-2.0-only
"""Devices with images, as device.h for tests in C."""
import os

from lib.ktap import sh, soon, write


class Device:
    """A block device or a DAX device with its driver."""

    def __init__(self, path):
        self.path, name = path, os.path.basename(path)
        self.node = next(filter(os.path.exists, (f"/sys/class/block/{name}/device", f"/sys/bus/dax/devices/{name}")))
        self.node = os.path.realpath(self.node)
        self.driver = os.path.realpath(f"{self.node}/driver")

    def __str__(self):
        return self.path

    def unbind(self):
        """Unbind the device from its driver."""
        write(f"{self.driver}/unbind", os.path.basename(self.node))

    def bind(self):
        """Bind the device to its driver, and wait for its file."""
        if not os.path.exists(f"{self.node}/driver"):
            write(f"{self.driver}/bind", os.path.basename(self.node))
        soon(os.path.exists, self.path)

    def read(self, at, length):
        """Return a part of the content."""
        with open(self.path, "rb") as file:
            file.seek(at)
            return file.read(length)

    def write(self, at, content):
        """Overwrite a part of the content."""
        with open(self.path, "r+b") as file:
            file.seek(at)
            file.write(content)
            file.flush()
            os.fsync(file)

    def copy(self, path):
        """Write a file to the device."""
        sh(f"dd if={path} of={self.path} bs=1M conv=notrunc,fsync status=none")
