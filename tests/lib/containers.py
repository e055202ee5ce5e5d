# SPDX-License-Identifier: GPL-2.0-only
"""Containers for tests: containerd with daxfs-snapshotter, podman, and what both show of images.

Both engines are in images, which are mounted at MNT. There is no network and no systemd.
"""
import atexit
import contextlib
import functools
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent

from lib import grpc
from lib.ktap import TESTS, WORK, fixture, meminfo, needs, private_mount_point, skip_all, soon
from lib.store import loaded

IMAGE = "registry.example/daxfs/test:1"
MODEL = "/srv/model"  # a file of the image, which the program mapper reads, maps and keeps mapped
MNT = private_mount_point()
LIBRARIES = f"{MNT}/usr/lib/x86_64-linux-gnu"
PLACE = Path(WORK, "containerd")
ROOT, MADE, CONFIG = PLACE / "daxfs", PLACE / "made", PLACE / "daxfs.toml"
SOCKET, ADDRESS = PLACE / "daxfs.sock", PLACE / "containerd.sock"
CRI, NRI = "io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri"

CONTAINERD = f"""
root = "{PLACE}/root"
state = "{PLACE}/state"
[grpc]
  address = "{ADDRESS}"
"""
PODMAN = f"""
[engine]
conmon_path = [ "{MNT}/usr/bin/conmon" ]
helper_binaries_dir = [ "{MNT}/usr/lib/podman" ]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "none"
[containers]
netns = "none"
log_driver = "none"
"""
POLICY = """{ "default": [ { "type": "reject" } ], "transports": {
  "containers-storage": { "": [ { "type": "insecureAcceptAnything" } ] },
  "oci-archive": { "": [ { "type": "insecureAcceptAnything" } ] } } }
"""


# ---- programs -------------------------------------------------------------------------------------

def command(*words, **more):
    """Run a program; return its output without the last newline. Fail with all that it says if it fails."""
    done = subprocess.run(list(map(str, words)), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, f"{shlex.join(done.args)}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.rstrip("\n")


def refused(text, function, *arguments):
    """Call a function in which a program fails that says this text; return all that it says."""
    try:
        function(*arguments)
    except AssertionError as failure:
        assert text in str(failure), f"expected {text!r}, got {failure}"
        return str(failure)
    raise AssertionError(f"{function.__name__}{arguments} did not fail")


wait_for = functools.partial(soon, limit=300)


# ---- the daemons ----------------------------------------------------------------------------------

class Daemon:
    """A daemon. Points are processes of their own, so a file has its number."""

    def __init__(self, name, socket, config):
        self.command, self.socket = [name, "--config", config], socket
        self.file, self.log = PLACE / f"{name}.pid", PLACE / f"{name}.log"

    def start(self):
        """Start it, and wait until it answers."""
        self.socket.unlink(missing_ok=True)
        with self.log.open("a") as log:
            self.file.write_text(str(subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log).pid))
        wait_for(self.socket.exists)
        if self is containerd:
            wait_for(version)

    def pid(self):
        """Return its process."""
        return int(self.file.read_text())

    def stop(self, number=signal.SIGTERM):
        """End it."""
        os.kill(self.pid(), number)
        wait_for(self.ended)

    def ended(self):
        """Return whether it has ended, whether or not its parent knows. Until all its threads have, its files are locked."""
        status = Path(f"/proc/{self.pid()}/status")
        return not status.exists() or bool(re.search(r"^State:\s*[ZX].*^Threads:\s*[01]$", status.read_text(), re.M | re.S))

    def restart(self, number=signal.SIGTERM, between=lambda: None):
        """End it, call a function, and start it again."""
        self.stop(number)
        between()
        self.start()
        wait_for(snapshots, "ls")


snapshotter = Daemon("daxfs-snapshotter", SOCKET, CONFIG)
containerd = Daemon("containerd", ADDRESS, PLACE / "config.toml")


def end_daemons():
    """End both daemons."""
    snapshotter.stop()
    containerd.stop()
    assert not SOCKET.exists()


@atexit.register
def show_and_kill():
    """Show the last errors in logs, and end what a test has left: the machine may run other tests."""
    for daemon in snapshotter, containerd:
        if daemon.log.exists():
            said = [line for line in daemon.log.read_text(errors="replace").splitlines() if "level=info" not in line]
            print(f"# {daemon.log}:", *said[-20:], sep="\n# ")
            with contextlib.suppress(ProcessLookupError):
                daemon.stop(signal.SIGKILL)


def mount_engine(image):
    """Mount the image with an engine, or end the test, which cannot run here."""
    needs("crun", "daxfs-snapshotter")
    if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        skip_all("needs cgroups (version 2)")
    subprocess.run(["modprobe", "-q", "overlay"], check=False)
    command("mount", "-t", "daxfs", fixture(image), MNT)
    # With this, show_and_kill() is called.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def example(above):
    """Return the example of containers.rst below a line that ends with this text."""
    return dedent(re.search(rf"{above}::\n\n((?: {{4}}.*\n)+)", Path(TESTS, "containers.rst").read_text())[1])


def documented(differs):
    """Return the lines of containers.rst for containerd, with the places of this machine and these differs."""
    page = Path(TESTS, "containers.rst").read_text().split("\n3. ")[0]
    lines = "\n".join(re.findall(r"^ {7}( *(?:\[|\w+ = (?!2)).*)", page, re.M))
    lines = lines.replace("/run/daxfs-snapshotter/daxfs-snapshotter.sock", str(SOCKET)).replace("/var/lib/daxfs-snapshotter", str(ROOT))
    # The text says where this line belongs.
    lines = lines.replace(f'"{SOCKET}"', f'"{SOCKET}"\n  capabilities = ["remap-ids"]', 1)
    # containerd 2.x imports through the service for transfers.
    return re.sub("(default = ).*", rf"\g<1>{list(differs)}", lines) + "\n" + example("\ntransfers").split('"daxfs"\n', 1)[1]


def start_both(version=2, disabled=(CRI, NRI), for_containerd="", for_snapshotter="", differs=("daxfs-diff", "walking"),
               before=lambda: None, load="all"):
    """Start both daemons, with these lines added to their configurations, after a function that may mount something on ROOT.

    Layers are unpacked by the first of `differs` that can.
    """
    mount_engine("containerd")
    # mount(8) splits options for fsconfig(2), which takes 255 bytes of one; containerd uses mount(2).
    os.environ.update(LIBMOUNT_FORCE_MOUNT2="always", CONTAINERD_ADDRESS=str(ADDRESS), CONTAINERD_SNAPSHOTTER="daxfs",
                      PATH=f"{MNT}/usr/bin:{MNT}/usr/sbin:{os.environ['PATH']}")
    PLACE.mkdir(parents=True, exist_ok=True)
    command("mount", "-t", "tmpfs", "-o", "mode=711", "tmpfs", PLACE)
    MADE.mkdir()
    before()
    names = ", ".join(f'"{name}"' for name in disabled)
    containerd.command[-1].write_text(f"version = {version}\ndisabled_plugins = [ {names} ]{CONTAINERD}{documented(differs)}\n{for_containerd}")
    CONFIG.write_text(f'root = "{ROOT}"\nsocket = "{SOCKET}"\ncontainerd = "{PLACE}/root"\nprivate-mounts = true\nload = "{load}"\n{for_snapshotter}')
    command("daxfs-snapshotter", "--config", CONFIG, "--check")
    snapshotter.start()
    containerd.start()
    assert re.search("io.containerd.snapshotter.v1 *daxfs .*ok", ctr("plugins", "ls"))


# ---- images and snapshots -------------------------------------------------------------------------

def ctr(*words):
    """Run containerd's client."""
    return command("ctr", *words)


def snapshots(*words):
    """Run its command for snapshots."""
    return ctr("snapshots", *words)


def call(method, request):
    """Call a method of containerd; return the fields of the response. ctr takes a second for it where the processor is emulated."""
    namespace = "containerd-namespace", os.environ.get("CONTAINERD_NAMESPACE", "default")
    return grpc.call(ADDRESS, f"containerd.services.{method}", request, [namespace])


def version():
    """Return the version of the running containerd."""
    return grpc.value(call("version.v1.Version/Version", {}), "1")


# Whether ctr makes a failed call again, to say why it fails. A test that kills the daemons does not want it: it may succeed.
EXPLAIN = True


def snapshot(method, *names):
    """Call Prepare, View, Commit or Remove for snapshots. A new one remains though nothing refers to it.

    If containerd's garbage collector removes a view, the snapshot below it can no longer be removed by its name.
    """
    request = {1: "daxfs", **dict(enumerate(names, 2)), 4: {1: "containerd.io/gc.root", 2: "test"}}
    try:
        return call(f"snapshots.v1.Snapshots/{method}", request)
    except (AssertionError, OSError) as failure:
        if not EXPLAIN:
            raise
        snapshots(method.lower(), *names)
        raise AssertionError(f"{failure}; the second time it did not") from failure


def import_image(archive):
    """Import an archive of images."""
    ctr("image", "import", "--snapshotter", "daxfs", archive)


def remove_image(name=IMAGE):
    """Remove an image, and the snapshots that only it uses."""
    ctr("image", "rm", "--sync", name)


def prepare(key, mib=0, parent=None):
    """Prepare a snapshot with a file of lines with its key; return its directory."""
    prepared = snapshot("Prepare", key, *filter(None, [parent]))
    directory = Path(re.search(rf"{ROOT}/snapshots/\d+(?=/fs$)", "\n".join(prepared), re.M)[0])
    if mib:
        (directory / "fs/file").write_text(lines(key, mib))
    return directory


def lines(text, mib):
    """Return this many MiB of lines with a text."""
    return (f"{text}\n" * ((mib << 20) // (len(text) + 1) + 1))[:mib << 20]


def commit(name, key):
    """Commit a snapshot, and wait for its image."""
    snapshot("Commit", name, key)
    made(name)


def made(name):
    """Wait until the image of a committed snapshot is made and loaded. Fail if it cannot be."""
    snapshot("View", f"view of {name}", name)
    snapshot("Remove", f"view of {name}")
    collect()


def remove(*names):
    """Remove snapshots."""
    for name in names:
        snapshot("Remove", name)
    collect()


def end_leases():
    """End all leases. A call can leave one if it fails, or if its client or containerd is killed; it holds snapshots for a day."""
    for lease in ctr("leases", "ls", "-q").split():
        ctr("leases", "rm", lease)


def collect():
    """Run containerd's garbage collector, which removes snapshots. By itself it waits 50 times as long as its last run took."""
    # A killed call leaves the lease.
    with contextlib.suppress(AssertionError):
        call("leases.v1.Leases/Create", {1: "collect"})
    call("leases.v1.Leases/Delete", {1: "collect", 2: 1})


@contextlib.contextmanager
def mounted(key):
    """Mount a snapshot for the time of a block, which gets the directory."""
    mount = call("snapshots.v1.Snapshots/Mounts", {1: "daxfs", 2: key})
    options = ",".join(field.partition("=")[2] for field in mount if field.startswith("1.4="))
    command("mount", "-t", grpc.value(mount, "1.1"), "-o", options, grpc.value(mount, "1.2"), MADE)
    yield MADE
    command("umount", MADE)


@contextlib.contextmanager
def shown(image=IMAGE, by="daxfs"):
    """Mount an image through a snapshotter for the time of a block, which gets the directory."""
    ctr("image", "mount", "--snapshotter", by, image, MADE)
    yield MADE
    ctr("image", "unmount", "--rm", "--snapshotter", by, MADE)


def files(directory, times=True):
    """Return a line for each file, with its attributes and digest; `times` says if directories have their times.

    Sizes, links and inode numbers of directories differ in overlays: errors that do not matter here. The root has the time
    at which the last layer was unpacked.
    """
    manifest = subprocess.run([f"{TESTS}/lib/manifest", directory], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    found = []
    for line in manifest.stdout.decode().splitlines():
        fields = line.split("\t")
        if fields[1].startswith("04"):
            fields[4] = fields[6] = "-"
            if not times or fields[0] == ".":
                fields[5] = "-"
        found.append("\t".join(fields))
    return found


# ---- memory ---------------------------------------------------------------------------------------

def mounts():
    """Return source, directory and type of each mount."""
    return [line.split()[:3] for line in Path("/proc/self/mounts").read_text().splitlines()]


def layers():
    """Return the directories that images of snapshots are mounted on."""
    return [place for _, place, kind in mounts() if kind == "daxfs" and place.startswith(f"{ROOT}/snapshots/")]


# The packs of the layers of IMAGE.
PACKS = 7


def number_of(images, packs=None):
    """Check how many snapshots have their image mounted, and how many packs are in memory."""
    got = [len(layers()), len(loaded())]
    assert got == [images, got[1] if packs is None else packs], f"images, packs: {got}\n{layers()}\n{loaded()}"


def memfds():
    """Return the memory that is in memfds, in KiB."""
    # Each processor counts some pages before it adds them.
    Path("/proc/sys/vm/stat_refresh").write_text("1")
    place = os.statvfs(PLACE)
    return meminfo("Shmem") - (place.f_blocks - place.f_bfree) * place.f_frsize // 1024


def page_cache():
    """Return the page cache in KiB, without tmpfs."""
    return meminfo("Cached") + meminfo("Buffers") - meminfo("Shmem")


def stored(*names):
    """Return the files of the store with these names, which are patterns."""
    return sorted(path for name in names for path in (ROOT / "store").glob(name))


def nothing_left():
    """Check that there is no snapshot, no image and no pack."""
    number_of(0, 0)
    left = stored("images/*", "packs/*") + list(ROOT.glob("snapshots/*"))
    assert not left, left


# ---- containers -----------------------------------------------------------------------------------

def run(name, *words, image=IMAGE, options=()):
    """Start a container that has the tests' programs in /tests."""
    ctr("run", "--detach", "--null-io", "--runc-binary", "crun", "--mount", f"type=bind,src={TESTS},dst=/tests,options=rbind:ro",
        *options, image, name, *words)


def run_all(names, image=IMAGE):
    """Start containers that map the model, as many at a time as there are processors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda name: run(name, "/tests/mapper", MODEL, image=image), names))


def execute(name, *words):
    """Run a command in a container; return its output."""
    return ctr("task", "exec", "--exec-id", f"exec{time.monotonic_ns()}", name, *words)


def end(*names):
    """Remove containers."""
    for name in names:
        with contextlib.suppress(AssertionError):
            ctr("task", "rm", "--force", name)
        ctr("container", "rm", name)


def tasks():
    """Return the processes of all running containers."""
    return re.findall(r"^\S+ +(\d+) +RUNNING", ctr("task", "ls"), re.M)


def process(name):
    """Return the process of a running container."""
    return re.search(rf"^{name} +(\d+) +RUNNING", ctr("task", "ls"), re.M)[1]


def one_copy(processes, count, pages, path=MODEL):
    """Wait until all processes have the same pages of the model; return their lowest and highest address in memory."""
    def found():
        frames = [command(f"{TESTS}/mapper", "--frames", process, path) for process in processes()]
        assert len(frames) == count and len(set(frames)) == 1 and frames[0].split()[0] == str(pages), "\n".join(frames)
        return [int(address, 0) for address in frames[0].split()[1:3]]
    # A new program may not have touched all pages.
    return wait_for(found)


# ---- podman ---------------------------------------------------------------------------------------

def configure_podman():
    """Mount the image with podman, and configure it with the paths of its parts, and without the rest."""
    mount_engine("podman")
    for directory in "/etc/containers", "/var":
        os.makedirs(directory, exist_ok=True)
    command("mount", "-t", "tmpfs", "tmpfs", "/var")
    command("mkdir", "-m", "1777", "/var/tmp")
    Path("/etc/containers/policy.json").write_text(POLICY)
    Path(WORK, "containers.conf").write_text(PODMAN)
    os.environ["CONTAINERS_CONF"] = f"{WORK}/containers.conf"


def podman(*words):
    """Run podman of the image."""
    return command(f"{MNT}/usr/bin/podman", *words, env={**os.environ, "LD_LIBRARY_PATH": LIBRARIES})
