# SPDX-License-Identifier: GPL-2.0-only
"""Tell hatchling that the wheel holds a library: any Python 3 loads it, on machines of one architecture."""

import platform

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Library(BuildHookInterface):
    def initialize(self, version, build_data):
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"
