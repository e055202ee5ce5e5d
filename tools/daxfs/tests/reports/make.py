#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Make and show the inputs of the public reports, see lib.sh."""
import argparse
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile

MEMBER = re.compile(r"(?:([0-7]+):)?(.+?)(?:([@%=]|/$)(.*))?", re.DOTALL)


def archive(file, *members):
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            mode, name, kind, value = MEMBER.fullmatch(member).groups()
            info = tarfile.TarInfo(name)
            info.mode = int(mode or ("755" if kind == "/" else "644"), 8)
            info.mtime = 1600000000
            info.type = {"/": tarfile.DIRTYPE, "@": tarfile.SYMTYPE, "%": tarfile.LNKTYPE}.get(kind, tarfile.REGTYPE)
            if kind == "@":
                info.linkname = value
            elif kind == "%":
                info.linkname, _, value = value.partition("=")
            content = value.encode() if kind in ("=", "%") else b""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def blob(kind, content):
    digest = hashlib.sha256(content).hexdigest()
    with open(f"layout/blobs/sha256/{digest}", "wb") as file:
        file.write(content)
    if "/" not in kind:
        kind = f"application/vnd.oci.image.{kind}"
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}


def layout(*words):
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", "--name")
    parser.add_argument("-p", "--platform")
    parser.add_argument("-a", "--annotation", action="append", default=[])
    parser.add_argument("-t", "--type", default="layer.v1.tar")
    parser.add_argument("-c", "--config", default="config.v1+json")
    parser.add_argument("-l", "--layer", action="append", default=[])
    parser.add_argument("tar", nargs="*")
    options = parser.parse_args(words)
    index = {"schemaVersion": 2, "manifests": []}
    if os.path.exists("layout"):
        with open("layout/index.json", encoding="utf-8") as file:
            index = json.load(file)
    os.makedirs("layout/blobs/sha256", exist_ok=True)
    platform = dict(zip(("os", "architecture", "variant"), (options.platform or "linux/riscv64").split("/")))
    layers = []
    for name in options.tar:
        with open(name, "rb") as file:
            layers.append(blob(options.type, file.read()))
        pairs = (pair.partition("=") for pair in options.layer)
        layers[-1]["annotations"] = {key: value or name for key, _, value in pairs}
    config = blob(options.config, json.dumps(platform).encode())
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers}
    entry = blob("manifest.v1+json", json.dumps(manifest).encode())
    entry["annotations"] = dict(annotation.split("=", 1) for annotation in options.annotation)
    if options.name:
        entry["annotations"]["org.opencontainers.image.ref.name"] = options.name
    if options.platform:
        entry["platform"] = platform
    index["manifests"].append(entry)
    write("index.json", index)
    write("oci-layout", {"imageLayoutVersion": "1.0.0"})


def write(name, content):
    with open(f"layout/{name}", "w", encoding="utf-8") as file:
        json.dump(content, file)


def edit(code):
    with open("layout/index.json", encoding="utf-8") as file:
        index = json.load(file)
    exec(code, {**globals(), "index": index, "images": index["manifests"]})
    write("index.json", index)


def nest():
    with open("layout/index.json", "rb") as file:
        entry = blob("index.v1+json", file.read())
    write("index.json", {"schemaVersion": 2, "manifests": [entry]})


def shown(image="-"):
    content = sys.stdin.buffer.read() if image == "-" else subprocess.check_output(["daxfs", "extract", "--tar", image, "-"])
    found = []
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for info in tar:
            kind = {tarfile.DIRTYPE: "/", tarfile.SYMTYPE: "@", tarfile.LNKTYPE: "%"}.get(info.type, "=")
            value = info.linkname.removeprefix("./") if kind in ("@", "%") else tar.extractfile(info).read().decode() if info.isreg() else ""
            mode = "" if info.mode in (0o755, 0o644, 0o777) else f"{info.mode:o}:"
            found.append(f"{mode}{info.name.removeprefix('./').rstrip('/')}{kind}{value.strip()}")
    print(*sorted(name for name in found if name != "./"))


globals()[sys.argv[1]](*sys.argv[2:])
