# SPDX-License-Identifier: GPL-2.0-only
"""Build a wheel of this package and of libdaxfs, with Python's own modules only.

pip calls build_wheel(); "python3 backend.py DIRECTORY" does the same without pip.
"""

import base64
import hashlib
import os
import pathlib
import re
import sys
import tomllib
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
LIBRARY = "libdaxfs.so.0"
TAG = "py3-none-linux_x86_64"


def version():
    """Return the version of daxfs."""
    manifest = (HERE.parent / "Cargo.toml").read_text()
    return re.search('^version = "(.*)"$', manifest, re.MULTILINE)[1]


def library():
    """Return the path of libdaxfs, which make builds."""
    path = HERE.parent.parent / "build" / "lib" / LIBRARY
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there; run 'make library' first")
    return path


def files(info):
    """Return the content of all files of the wheel by their names."""
    content = {f"daxfs/{path.name}": path.read_bytes() for path in sorted((HERE / "daxfs").glob("*.py"))}
    content[f"daxfs/{LIBRARY}"] = library().read_bytes()
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    lines = ["Metadata-Version: 2.4", f"Name: {project['name']}", f"Version: {version()}",
             f"Summary: {project['description']}", f"License-Expression: {project['license']}",
             f"Requires-Python: {project['requires-python']}"]
    for extra, packages in project["optional-dependencies"].items():
        lines.append(f"Provides-Extra: {extra}")
        lines.extend(f'Requires-Dist: {package}; extra == "{extra}"' for package in packages)
    content[f"{info}/METADATA"] = "\n".join([*lines, ""]).encode()
    lines = ["Wheel-Version: 1.0", "Generator: daxfs", "Root-Is-Purelib: false", f"Tag: {TAG}", ""]
    content[f"{info}/WHEEL"] = "\n".join(lines).encode()
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {point}" for name, point in points.items()), ""]
    content[f"{info}/entry_points.txt"] = "\n".join(lines).encode()
    return content


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Write the wheel, and return its name. The same content gives the same bytes."""
    info = f"daxfs-{version()}.dist-info"
    content = files(info)
    record = []
    for path, data in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(data)}\n")
    content[f"{info}/RECORD"] = "".join([*record, f"{info}/RECORD,,\n"]).encode()
    name = f"daxfs-{version()}-{TAG}.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in content.items():
            member = zipfile.ZipInfo(path)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o100644 << 16
            wheel.writestr(member, data)
    return name


if __name__ == "__main__":
    print(build_wheel(sys.argv[1]))
