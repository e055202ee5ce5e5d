# SPDX-License-Identifier: GPL-2.0-only
"""Two versions of a tree for tests of stores, and what a store and its mounts have."""
import contextlib
import glob
import json
import os
import random
import subprocess
import time
from pathlib import Path

from lib.ktap import TESTS, ended, random_file, sh


def make_trees(large=16 << 20):
    """Make the directory v1 with many kinds of files, and v2 with a new, a changed and a removed one; a, b and c are empty.

    The file `large` is mapped by huge pages if it has at least 16 MiB.
    """
    sh("mkdir -p v1/{dir/sub,empty,many} a b c")
    random_file("v1/large", large)
    random_file("v1/dir/odd", 5000001)
    for number in range(300):
        random_file(f"v1/many/{number}", number * 37)
    sh(f"""cp {TESTS}/{{helper,mapper}} v1/dir/sub; cd v1; ln large dir/again; ln -s ../large dir/link; mkfifo fifo; mknod null c 1 3
        touch nothing; chown 1000:1001 many/7 dir; chmod 4711 many/8; setfattr -n user.note -v x dir/odd
        setfattr -n trusted.overlay.redirect -v /elsewhere many/9; setfattr -n trusted.overlay.opaque -v y many
        cp -a . ../v2; cd ../v2; echo changed >many/5; rm many/6""")
    random_file("v2/new", 4 << 20)


def packs(name="base-2"):
    """Return the packs of an image of the directory store, the largest first."""
    images = json.loads(sh("daxfs store list --json store"))["images"]
    names = next(image["packs"] for image in images if image["name"] == name)
    return sorted((f"store/packs/{sha256}.daxfs" for sha256 in names), key=os.path.getsize, reverse=True)


def loaded():
    """Return the packs of stores that mounted images have in memory: their files."""
    found = set()
    for mount in map(Path, glob.glob("/sys/fs/daxfs/*:*")):
        with contextlib.suppress(FileNotFoundError):
            lines = (line.split() for line in (mount / "packs").read_text(encoding="ascii").splitlines())
            source = (mount / "source").read_text(encoding="utf-8").rstrip("\n")
            found.update(f"{source}/packs/{sha256}.daxfs" for sha256, _, where, *_ in lines if where == "memfd")
    return sorted(found)


def same(directory, tree):
    """Fail unless both have the same files."""
    found, wanted = (ended(f"{TESTS}/lib/manifest --count-links {path}")[1].split("\n") for path in (directory, tree))
    assert len(wanted) > 1 and found == wanted, sorted(set(found) ^ set(wanted))[:4]


def killed(script, seconds):
    """Kill a command within this time."""
    with subprocess.Popen(["bash", "-c", f"exec {script}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(random.uniform(0, seconds))
        process.kill()


def damage(path, offset, content=b"damage"):
    """Overwrite a part of a file."""
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)
