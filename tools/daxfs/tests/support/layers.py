#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Make random layers, and the files that overlayfs shows of them: layers.py SEED SETS [strict].

Each set is a directory of its own in 1.tar, 2.tar and 3.tar. Each layer is unpacked into the directory 1, 2 or 3 by
the rules of containerd (pkg/archive, with whiteouts for overlayfs), and an overlay of all is mounted at "merged".
Members that containerd refuses are left out. It differs from mkdaxfs in these cases: a directory of a layer that removes
the one below is new, also if it is an own member; so is what an opaque directory implies; and no mark acts through a
symlink of the same layer.

With "strict", containerd can unpack the layers, and gives the same files with each snapshotter: left out are sets for
which it refuses the layer, marks in the first layer, which it does not unpack for an overlay, and members in directories
that have other attributes with another snapshotter. All symlinks lead to one directory.
"""
import ctypes
import io
import os
import random
import shutil
import stat
import sys
import tarfile

OPAQUE = "user.overlay.opaque"
libc = ctypes.CDLL(None, use_errno=True)


def mount(lower, place):
    os.mkdir(place)
    # An overlay needs two layers.
    options = f"userxattr,lowerdir={':'.join(lower)}:empty".encode()
    if libc.mount(b"overlay", place.encode(), b"overlay", 0, options):
        raise OSError(ctypes.get_errno(), "overlay")


def mode(path):
    """Return the mode of a file, 0 if it is missing or below something that is not a directory."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


class Layer:
    def __init__(self, number, strict):
        self.root, self.below = str(number), f"below{number}"
        self.strict = strict and number > 1
        os.mkdir(self.root)
        self.removed, self.implied = set(), []

    def walk(self, path, links, root=None):
        """Return the path of a directory in the layer, or below another root: symlinks are followed."""
        at, names, count = [], path.split("/"), 0
        while names:
            name = names.pop(0)
            if name in ("", ".."):
                at = at[:-1] if name else at
                continue
            here = "/".join([root or self.root, *at, name])
            if stat.S_ISLNK(mode(here)):
                count += 1
                if not links or count > 40:
                    raise OSError("symlinks")
                target = os.readlink(here)
                at = [] if target[0] == "/" else at
                names = target.split("/") + names
            else:
                at.append(name)
        return "/".join(at)

    def make(self, path):
        """Make a directory that is not a member, with the attributes that it has below."""
        if not path or stat.S_ISDIR(mode(f"{self.root}/{path}")):
            return
        self.make(os.path.dirname(path))
        os.mkdir(f"{self.root}/{path}")
        # It would inherit set-group-ID.
        os.chmod(f"{self.root}/{path}", self.implied_mode(path))
        self.implied.append(path)

    def check(self, path):
        """Fail if containerd cannot make this directory, or if its attributes depend on the snapshotter: containerd looks for
        those of a directory that is not a member in each layer, or in the merged ones, and follows symlinks.
        """
        found = {self.implied_mode(path)}
        for roots in [self.below], [str(number) for number in reversed(range(1, int(self.root)))]:
            for root in roots:
                try:
                    status = os.lstat(f"{root}/{self.walk(path, True, root)}").st_mode
                    break
                except FileNotFoundError:
                    status = 0
            found.add(stat.S_IMODE(status) if stat.S_ISDIR(status) else 0o755)
        if len(found) > 1:
            raise OSError("attributes")

    def implied_mode(self, path):
        """Return the mode of a directory that is not a member."""
        names = path.split("/")
        below = [mode("/".join([self.below, *names[: end + 1]])) for end in range(len(names))]
        return stat.S_IMODE(below[-1]) if all(map(stat.S_ISDIR, below)) else 0o755

    def apply(self, kind, path, value):
        """Add a member. Fail if containerd does."""
        parent, name = os.path.split(path)
        mark = kind in ("opaque", "removed")
        parent = self.walk(parent, not mark)
        place = f"{self.root}/{parent}/{name}"
        if kind == "link":
            target = f"{self.root}/{self.walk(os.path.dirname(value), True)}/{os.path.basename(value)}"
            if stat.S_IFMT(mode(target)) not in (stat.S_IFREG, stat.S_IFLNK) or f"{target}/".startswith(f"{place}/"):
                raise OSError("no file")
        for end in [at for at, byte in enumerate(f"{parent}/") if byte == "/"]:
            if self.strict and not mode(f"{self.root}/{parent[:end]}"):
                self.check(parent[:end])
        self.make(parent)
        if kind == "removed":
            os.mknod(place, stat.S_IFCHR)
            self.removed.add(place)
        elif kind == "opaque":
            os.setxattr(f"{self.root}/{parent}", OPAQUE, b"y")
        else:
            self.replace(kind, place, value)

    def replace(self, kind, place, value):
        if stat.S_ISDIR(mode(place)):
            if kind != "dir":
                shutil.rmtree(place)
                self.removed = {path for path in self.removed if not path.startswith(f"{place}/")}
        elif mode(place):
            os.remove(place)
        if kind == "dir":
            os.makedirs(place, exist_ok=True)
            os.chmod(place, value)
            self.implied = [path for path in self.implied if f"{self.root}/{path}" != place]
            if place in self.removed:
                os.setxattr(place, OPAQUE, b"y")
        elif kind == "file":
            with open(place, "w", encoding="utf-8") as file:
                file.write(value)
        elif kind == "symlink":
            os.symlink(value, place)
        else:
            os.link(f"{self.root}/{self.walk(os.path.dirname(value), True)}/{os.path.basename(value)}", place, follow_symlinks=False)

    def is_complete(self, members):
        """Return whether each directory that is a member remains at the end: containerd sets their times then."""
        try:
            return all(mode(f"{self.root}/{self.walk(path, True)}") for kind, path, _ in members if kind == "dir")
        except OSError:
            return False

    def forget(self, top):
        """Remove a set from this layer."""
        shutil.rmtree(f"{self.root}/{top}", ignore_errors=True)
        self.removed = {path for path in self.removed if not path.startswith(f"{self.root}/{top}/")}
        self.implied = [path for path in self.implied if not f"{path}/".startswith(f"{top}/")]

    def end(self):
        """Give directories below an opaque one no attributes of hidden ones."""
        for path in self.implied:
            names = path.split("/")
            above = ["/".join([self.root, *names[:end]]) for end in range(1, len(names) + 1)]
            if all(stat.S_ISDIR(mode(path)) for path in above) and any(OPAQUE in os.listxattr(path) for path in above[:-1]):
                os.chmod(above[-1], 0o755)


def member(rng, top):
    """Return a random member of the set in the directory `top`: kind, path, value."""
    path = lambda: "/".join([top] + [rng.choice("abc") for _ in range(rng.randint(1, 3))])
    kind = rng.choice(["dir", "dir", "file", "file", "symlink", "symlink", "link", "removed", "opaque"])
    place, other = path(), path()
    if kind == "opaque":
        return kind, f"{place}/.wh..wh..opq", None
    if kind == "symlink":
        deep = place.count("/") > 1
        value = rng.choice(["/" + other, rng.choice("abc"), ("../" if deep else "") + rng.choice("abc")])
    else:
        value = {"dir": rng.choice([0o755, 0o700, 0o2750]), "file": str(rng.random()), "link": other}.get(kind)
    return kind, place, value


def write(tar, kind, path, value):
    info = tarfile.TarInfo(os.path.join(os.path.dirname(path), ".wh." + os.path.basename(path)) if kind == "removed" else path)
    kinds = {"dir": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "link": tarfile.LNKTYPE}
    info.type, info.mode = kinds.get(kind, tarfile.REGTYPE), value if kind == "dir" else 0o644
    info.linkname = value if kind in ("link", "symlink") else ""
    content = value.encode() if kind == "file" else b""
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def main(seed, sets, strict=""):
    rng = random.Random(seed)
    os.umask(0o022)
    os.mkdir("empty")
    lower = []
    for number in (1, 2, 3):
        if lower:
            mount(lower, f"below{number}")
        layer, written = Layer(number, strict), 0
        with tarfile.open(f"{number}.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            for top in range(int(sets)):
                members = []
                if strict and number == 1:
                    members = [("dir", f"s{top}/t", 0o755)] + [("file", f"s{top}/t/{name}", name) for name in "abc"]
                    for one in members:
                        layer.apply(*one)
                for _ in range(rng.randint(1, 10)):
                    one = member(rng, f"s{top}")
                    if strict and number == 1 and one[0] in ("removed", "opaque"):
                        continue
                    if strict and one[0] == "symlink":
                        one = (*one[:2], f"/s{top}/t")
                    try:
                        layer.apply(*one)
                    except OSError:
                        continue
                    members.append(one)
                if strict and not layer.is_complete(members):
                    layer.forget(f"s{top}")
                    continue
                for one in members:
                    write(tar, *one)
                written += len(members)
        layer.end()
        lower.insert(0, layer.root)
        print(f"layer {number}: {written} members")
    mount(lower, "merged")


def show(top):
    """Print all files: type and mode, target or content, and the first name."""
    first, lines = {}, []
    for directory, names, files in os.walk(top):
        for name in names + files:
            path = os.path.join(directory, name)
            status = mode(path) and os.lstat(path)
            if status:
                lines.append((path, status))
    for path, status in sorted(lines):
        kind, content = status.st_mode, ""
        if stat.S_ISLNK(kind):
            kind, content = stat.S_IFLNK, os.readlink(path)
        elif stat.S_ISREG(kind):
            with open(path, encoding="utf-8") as file:
                content = file.read()
        name = os.path.relpath(path, top)
        print(name, f"{kind:o}", content, name if stat.S_ISDIR(kind) else first.setdefault((status.st_dev, status.st_ino), name))


if __name__ == "__main__":
    show(sys.argv[2]) if sys.argv[1] == "show" else main(*sys.argv[1:])
