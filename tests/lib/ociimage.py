#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Make OCI archives of container images. As a program, make the tests' container image: ociimage.py BUSYBOX ARCHIVE.

It has three layers: busybox and files of each kind; changes and removals; and a directory that hides
the one below it.
"""

import gzip
import hashlib
import io
import json
import sys
import tarfile

TIME = 1700000000
NAME = "registry.example/daxfs/test:1"


class Layer:
    """A layer: a tar archive in memory."""

    def __init__(self):
        self.bytes = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.bytes, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, name, kind=tarfile.REGTYPE, mode=0o644, data=b"", target="", owner=(0, 0), xattrs=()):
        """Add a file."""
        member = tarfile.TarInfo(name)
        member.type, member.mode, member.linkname = kind, mode, target
        member.uid, member.gid = owner
        member.size, member.mtime = len(data), TIME
        member.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in xattrs}
        self.tar.addfile(member, io.BytesIO(data))

    def directory(self, name, mode=0o755, **more):
        """Add a directory."""
        self.add(name, tarfile.DIRTYPE, mode, **more)

    def end(self):
        """Return the bytes."""
        self.tar.close()
        return self.bytes.getvalue()


def numbers(length, seed):
    """Return bytes that no two places of a file have in common."""
    return b"".join(b"%07d " % (seed + at) for at in range(length // 8))


def layers(busybox):
    """Return the layers, the lowest first."""
    base = Layer()
    for name in ["bin", "dev", "etc", "proc", "srv", "srv/shadow", "srv/removed", "sys", "tmp"]:
        base.directory(name, 0o1777 if name == "tmp" else 0o755)
    base.add("bin/busybox", mode=0o755, data=busybox)
    for name in ["sh", "cat", "sleep", "ls", "mkdir", "rm", "hostname", "touch", "md5sum", "find"]:
        base.add(f"bin/{name}", tarfile.SYMTYPE, 0o777, target="busybox")
    base.add("etc/passwd", data=b"root:x:0:0:root:/root:/bin/sh\n")
    base.add("etc/group", data=b"root:x:0:\n")
    base.add("srv/model", data=numbers(8 << 20, 0))
    base.add("srv/link", tarfile.LNKTYPE, target="srv/model")
    base.add("srv/setuid", mode=0o4755, owner=(12, 34), data=b"setuid\n")
    base.add("srv/xattr", data=b"xattr\n", xattrs=[("user.daxfs", "value")])
    base.add("srv/fifo", tarfile.FIFOTYPE)
    base.add("srv/shadow/below", data=b"below\n")
    base.add("srv/removed/file", data=b"removed\n")
    base.add("srv/replaced", data=b"one\n")
    # A layer without it would give this directory the time at which it is unpacked.
    changes = Layer()
    changes.directory("srv")
    changes.add("srv/.wh.removed")
    changes.add("srv/replaced", mode=0o600, data=b"two\n")
    changes.directory("srv/new", 0o750, owner=(1, 2))
    changes.add("srv/new/large", data=numbers(3 << 20, 500000))
    top = Layer()
    top.directory("srv")
    top.directory("srv/shadow")
    top.add("srv/shadow/.wh..wh..opq")
    top.add("srv/shadow/above", data=b"above\n")
    return [base.end(), changes.end(), top.end()]


def write_archive(path, name, tars, compressed=1):
    """Write the archive of an image with this name and these layers. Compress as many of the last ones."""
    blobs = {}

    def blob(data, kind):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": len(data)}

    # Decompressing all would take long where the processor is emulated.
    packed = [blob(tar, "layer.v1.tar") for tar in tars[:-compressed]]
    packed += [blob(gzip.compress(tar, mtime=0), "layer.v1.tar+gzip") for tar in tars[-compressed:]]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sleep", "100000"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars]},
    }
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": blob(json.dumps(config).encode(), "config.v1+json"), "layers": packed}
    manifest = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    manifest["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    manifest["platform"] = {"architecture": "amd64", "os": "linux"}
    archive = Layer()
    archive.add("oci-layout", data=json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
    archive.add("index.json", data=json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode())
    for digest, data in blobs.items():
        archive.add("blobs/" + digest.replace(":", "/"), data=data)
    with open(path, "wb") as file:
        file.write(archive.end())


def main(busybox, archive):
    """Write the archive of the tests' image."""
    with open(busybox, "rb") as file:
        write_archive(archive, NAME, layers(file.read()))


if __name__ == "__main__":
    main(*sys.argv[1:])
