# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Tag the wheel for hatchling: it contains a library for any Python 3 on machines of one architecture."""

import platform
import re
import subprocess

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "../../build/lib/libdaxfs.so.0"


class Library(BuildHookInterface):
    def initialize(self, version, build_data):
        # The tag has the oldest glibc with all symbols (PEP 600). The library needs nothing else.
        symbols = subprocess.run(["objdump", "-T", LIBRARY], check=True, capture_output=True, text=True).stdout
        glibc = max(int(minor) for minor in re.findall(r"GLIBC_2\.(\d+)", symbols))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_2_{glibc}_{platform.machine()}"
