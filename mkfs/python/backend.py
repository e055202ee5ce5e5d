# SPDX-License-Identifier: GPL-2.0-only
"""Build a wheel of this package and of libdaxfs, with Python's own modules only.

pip calls build_wheel(); "python3 backend.py DIRECTORY" does the same without pip. "python3 backend.py --package
DIRECTORY VERSION" writes the files of a distribution's package, which has libdaxfs in a package of its own.
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


def package(info, release):
    """Return the content of the files that a package needs by their names, but for libdaxfs."""
    content = {f"daxfs/{path.name}": path.read_bytes() for path in sorted((HERE / "daxfs").glob("*.py"))}
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    lines = ["Metadata-Version: 2.4", f"Name: {project['name']}", f"Version: {release}",
             f"Summary: {project['description']}", f"License-Expression: {project['license']}",
             f"Requires-Python: {project['requires-python']}"]
    for extra, packages in project["optional-dependencies"].items():
        lines.append(f"Provides-Extra: {extra}")
        lines.extend(f'Requires-Dist: {package}; extra == "{extra}"' for package in packages)
    content[f"{info}/METADATA"] = "\n".join([*lines, ""]).encode()
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {point}" for name, point in points.items()), ""]
    content[f"{info}/entry_points.txt"] = "\n".join(lines).encode()
    return content


def files(info):
    """Return the content of all files of the wheel by their names, but for the list of them."""
    content = package(info, version())
    content[f"daxfs/{LIBRARY}"] = library().read_bytes()
    lines = ["Wheel-Version: 1.0", "Generator: daxfs", "Root-Is-Purelib: false", f"Tag: {TAG}", ""]
    content[f"{info}/WHEEL"] = "\n".join(lines).encode()
    return content


def write_package(directory, release):
    """Write the files of a package below a directory of Python's path."""
    for path, data in package(f"daxfs-{release}.dist-info", release).items():
        target = pathlib.Path(directory, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


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
    if sys.argv[1] == "--package":
        write_package(*sys.argv[2:])
    else:
        print(build_wheel(sys.argv[1]))
