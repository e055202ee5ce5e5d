#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Run the tests: the tools' on this machine, the module's in virtual machines. tests/check starts this."""
import argparse
import collections
import os
import pathlib
import re
import runpy
import shlex
import signal
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
ARCH = os.environ.get("DAXFS_ARCH") or "amd64"
BUILD = TOP / "build" / ("" if ARCH == "amd64" else ARCH)
IMAGES = BUILD / "test-images"
LOGS = BUILD / "check"
# The kinds of devices that the machine lacks, with what it has instead. See qemu/lib/machine.py.
MISSING = {"virtio-pmem": "nvdimm", "cxl": ""} if ARCH == "arm64" else {}

# The order in which groups start: the longest first, any that are missing here last. Of those that share a machine,
# signature is the last one, because after it only signed images can be mounted.
ORDER = """host sources memory containerd modules files images fuse vfs nfs hashing stores signature sharing
    packages boot storm packing kernels shortage costs selinux""".split()

# The Python of the build root runs this for a program on this machine, which is the first argument.
RUN_PROGRAM = ("import os, runpy, sys; del sys.argv[0]; sys.path.insert(0, os.path.dirname(sys.argv[0])); "
               "runpy.run_path(sys.argv[0], run_name='__main__')")

EPILOG = """\
Runs the tests of the tools and of the virtual machine's runner, then the module's tests in virtual machines with a
Debian kernel: stock (default; set DAXFS_KERNEL for another), or a version such as 7.2.12. --kernel debug runs only the
module's tests, on the debug kernel; both options together run everything in one queue. NAME can also be the path of an
image of a kernel that includes daxfs (see qemu/vm); then specify GROUPs that run in one machine.
DAXFS_ARCH=arm64 runs the module's tests on an emulated arm64 machine.
This command builds nothing; make check KERNEL=NAME does. The last line is "N passed, N failed, N skipped".

GROUPs: {}
By default, all except tests that rarely fail; on the debug kernel, those with suitable tests. The tests' output is in {}.

Exit status: 0 if all passed, 1 if not, 2 usage."""


def all_groups():
    """Return all tests by group, in the order in which groups start."""
    groups = {name: [] for name in ORDER}
    read_tests = runpy.run_path(str(TOP / "tests/run/list"))["read_tests"]
    for test in read_tests(TOP / "tests"):
        groups.setdefault(test.group, []).append(test)
    return {name: tests for name, tests in groups.items() if tests}


class Job:
    """A program on this machine, or a machine for the tests of some groups."""

    def __init__(self, kernel, groups, tests):
        self.kernel, self.tests = kernel, tests
        self.group = " ".join(groups)
        # The image of a kernel is named by the directory of what belongs to it.
        self.label = pathlib.Path(kernel).parent.name if "/" in kernel else kernel
        self.on_host = tests[0].on_host
        # These start before the images are made.
        self.early = "early" in tests[0].machine
        if self.on_host:
            self.name = os.path.relpath(tests[0].path, TOP)
            self.log = LOGS / f"{tests[0].name}-{self.label}.log"
            self.command = [tests[0].path] + [kernel if word == "KERNEL" else word for word in tests[0].arguments]
            if tests[0].in_python:
                self.command[:0] = [str(TOP / "scripts/python"), "-c", RUN_PROGRAM]
        else:
            self.name = f"group {self.group}, {self.label} kernel"
            self.log = LOGS / f"{'together-' * (len(groups) > 1)}{groups[0]}-{self.label}.log"
            self.command = self.machine()

    def machine(self):
        """Return the command that starts a machine with everything that the tests need."""
        limit, settings = 1800, []
        # The debug kernel is an order of magnitude slower, and kmemleak sees a leak after a few mounts. A kernel that is
        # named by its image may have checkers as well. Emulation of another architecture is also slow.
        if self.kernel == "debug" or "/" in self.kernel:
            settings = ["env", "DAXFS_SLOW=1", "DAXFS_TIMEOUT=1200"]
        elif ARCH != "amd64":
            limit, settings = 3000, ["env", "DAXFS_SLOW=1", "DAXFS_TIMEOUT=1200"]
        # The parts that "make module" left out, and what "make soak" wants.
        passed = [f"{name}={os.environ[name]}" for name in ("DAXFS_WITHOUT", "DAXFS_MOUNTS", "DAXFS_SEED", "DAXFS_SECONDS")
                  if os.environ.get(name)]
        if seconds := int(os.environ.get("DAXFS_SECONDS") or 0):
            limit += 3 * seconds
            passed.append(f"DAXFS_TIMEOUT={1200 + 2 * seconds}")
        if passed:
            settings = [*(settings or ["env"]), *passed]
        return [str(TOP / "qemu/vm"), "run", "--kernel", self.kernel, "--timeout", str(limit), *self.options(), "--",
                *settings, "/opt/daxfs/tests/run", *(test.name for test in self.tests)]

    def options(self):
        """Return the options of the machine: everything that its tests need, each device once."""
        # The scratch device comes first, as DAXFS_DEV.
        first, others, largest = [], [], {"--cpus": 1}
        for test, word in ((test, word) for test in self.tests for word in test.machine):
            key, _, value = word.partition("=")
            if key in ("cpus", "memory"):
                largest[f"--{key}"] = max(int(value), largest.get(f"--{key}", 0))
            elif word == "drm":
                others.append((f"--{word}",))
            elif key == "share":
                others.append(("--share", f"{IMAGES}:/run/images"))
            elif key == "append":
                # The debug kernel has the driver for this memory built in; its device would come first, and so may a
                # kernel that is named by its image. Only amd64 has the option.
                if not value.startswith("memmap=") or (ARCH == "amd64" and self.kernel != "debug" and "/" not in self.kernel):
                    others.append(("--append", value))
            elif word in ("any", "no-debug", "amd64", "rare", "rare-debug") or key.endswith("with"):
                pass
            elif value:
                kinds = [MISSING.get(kind, kind) for kind in key.split(",")]
                (first if value == "scratch" else others).extend((f"--{kind}", f"{IMAGES}/{value}") for kind in kinds if kind)
            else:
                sys.exit(f"check: {test.name}: unknown word {word} after Machine:")
        numbers = [(option, str(number)) for option, number in largest.items()]
        # One scratch device does for all. If there are NVDIMMs, DAXFS_DEV is the first of these.
        return [word for option in [*sorted(first)[:1], *dict.fromkeys(others), *numbers] for word in option]


def by_default(test, kernel, everything):
    """Return whether a test runs with a kernel if no test is named."""
    rare = "rare" in test.machine or (kernel == "debug" and "rare-debug" in test.machine)
    if rare and not everything:
        return False
    if kernel == "debug":
        return "KERNEL" in test.arguments if test.on_host else "no-debug" not in test.machine
    if kernel in ("sid", "experimental") and "no-sid" in test.machine:
        return False
    # Programs on this machine start others of their architecture, or take hours where that is emulated.
    return ARCH == "amd64" or not (test.on_host or "amd64" in test.machine)


def plan(groups, kernels, named, everything):
    """Return the jobs for these kernels, in the order in which they start.

    named has the tests wanted of each group. Without any, tests that run rarely are left out, or not.
    """
    jobs = []
    # The debug kernel's come first: they take longest.
    for kernel in sorted(kernels, key=lambda kernel: kernel != "debug"):
        # Groups that have no machine of their own.
        shared = {test.group: word.rpartition("=")[2] for tests in groups.values() for test in tests
                  for word in test.machine if re.match("(debug-)?with=" if kernel == "debug" else "with=", word)}
        machine = {}
        for group in groups:
            machine[group] = group
            while machine[group] in shared:
                machine[group] = shared[machine[group]]
        wanted = dict(named) or {group: [test for test in tests if by_default(test, kernel, everything)]
                                 for group, tests in groups.items()}
        if kernel == "debug" and len(kernels) > 1:
            # These run once.
            wanted = {group: [test for test in tests if not test.on_host or "KERNEL" in test.arguments]
                      for group, tests in wanted.items()}
        wanted = {group: tests for group, tests in wanted.items() if tests}
        for group in list(wanted):
            members = [name for name in groups if name in wanted and machine[name] == machine[group]]
            tests = [test for name in members for test in wanted.pop(name)]
            if tests and tests[0].on_host:
                jobs += [Job(kernel, members, [test]) for test in tests]
            elif tests:
                jobs.append(Job(kernel, members, tests))
    return jobs


def needed_images(jobs):
    """Return the names of the images that the tests of these jobs need."""
    words = (word for job in jobs for test in job.tests for word in test.machine)
    found = (re.fullmatch(r"(?!append|with|debug-with)[a-z,-]+=([a-z-]+)(\.daxfs)?", word) for word in words)
    return sorted({match[1] for match in found if match})


def count(lines):
    """Return how many points of subtests passed, failed and were skipped.

    A test that fails without a failing point, or that has no points, counts as one.
    """
    total, points = collections.Counter(), collections.Counter()
    for line in lines:
        point = re.match("(  )?(not )?ok (.*# SKIP)?", line)
        if not point or re.match("  1..0 # SKIP", line):
            continue
        result = "failed" if point[2] else "skipped" if point[3] else "passed"
        if point[1] or not points or (point[2] and not points["failed"]):
            points[result] += 1
        if not point[1]:
            total, points = total + points, collections.Counter()
    total += points
    return total["passed"], total["failed"], total["skipped"]


def count_cargo(lines):
    """Return the same for the output of cargo."""
    results = re.findall(r"^test result: .*?(\d+) passed; (\d+) failed; (\d+) ignored", "\n".join(lines), re.M)
    return [sum(int(result[i]) for result in results) for i in range(3)]


class Runner:
    """Runs jobs, some at once, and counts their results."""

    def __init__(self, at_once):
        self.at_once = at_once
        self.running = {}
        self.totals = [0, 0, 0]
        # Wall and processor seconds, by kernel and group.
        self.times = collections.defaultdict(lambda: [0, 0])

    def start(self, job):
        """Start a job when there is room for it."""
        while len(self.running) >= self.at_once:
            self.finish_one()
        tests = " ".join(test.name for test in job.tests)
        print(f"check: {job.name}" + (f": {tests}" if not job.on_host else ""), flush=True)
        job.started = time.monotonic()
        with open(job.log, "wb") as log:
            # As a process group of its own, it gets no signal from the terminal: stop() ends it.
            process = subprocess.Popen(job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)
        job.process = process
        self.running[process.pid] = job

    def finish_one(self):
        """Wait for one job and report its results."""
        pid, status, usage = os.wait4(-1, 0)
        job = self.running.pop(pid)
        status = job.process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - job.started, usage.ru_utime + usage.ru_stime
        for i in range(2):
            self.times[job.label, job.group][i] += seconds[i]
        self.report(job, status if status >= 0 else 128 - status, "{:.0f} s, of a processor {:.0f}".format(*seconds))

    def report(self, job, status, took):
        """Count the points of a job and show what went wrong."""
        lines = job.log.read_bytes().decode(errors="replace").rstrip("\n").split("\n")
        cargo = job.name == "tests/tools"
        if cargo:
            passed, failed, skipped = count_cargo(lines)
        elif job.on_host:
            # A program is a test itself.
            passed, failed, skipped = count([f"  {line}" for line in lines] + ["not ok " if status else "ok "])
        else:
            passed, failed, skipped = count(lines)
        if passed + failed == 0:
            print(f"check: {job.name}: nothing was run")
        if failed == 0 and (status or passed == 0):
            failed = 1
        self.totals = [sum(pair) for pair in zip(self.totals, (passed, failed, skipped))]
        print(f"check: {job.name}: {passed} passed, {failed} failed, {skipped} skipped ({took})")
        if not cargo:
            show("  skipped: " + line.lstrip() for line in lines if "# SKIP" in line)
            show(re.sub("^ *# figures: ", "  ", line) for line in lines if re.match(" *# figures: ", line))
        if failed:
            if not cargo:
                wrong = [line for line in lines if re.match(" *(not ok|# (?!took|totals)|Bail out)|vm: ", line)]
                show(wrong[-60:])
            if cargo or status >= 124 or passed == 0:
                show(lines[-60:])
            print(f"check: {job.name}: exit status {status}, all of its output is in {job.log}")
        sys.stdout.flush()

    def stop(self):
        """End what runs, and the machines that it has started."""
        for pid in self.running:
            try:
                children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            except OSError:
                children = []
            for process in [pid, *map(int, children)]:
                try:
                    os.kill(process, signal.SIGTERM)
                except ProcessLookupError:
                    pass
        for job in self.running.values():
            job.process.wait()


def show(lines):
    """Print lines."""
    for line in lines:
        print(line)


def check_kernel(name):
    """Select a kernel for all children, or exit if there is none of that name."""
    script = '. scripts/lib.sh && use_kernel "$1"'
    if subprocess.run(["bash", "-c", script, "check", name], cwd=TOP, check=False).returncode:
        sys.exit(1)
    os.environ["DAXFS_KERNEL"] = name


def run(early, images, others):
    """Run the jobs, with the images made after some of them have started; return the exit status."""
    LOGS.mkdir(parents=True, exist_ok=True)
    # Two machines at a time, if there are two processors, and 4 GiB for each.
    available = re.search(r"MemAvailable: *(\d+)", pathlib.Path("/proc/meminfo").read_text())
    two = len(os.sched_getaffinity(0)) >= 2 and int(available[1]) >= 8 << 20
    runner = Runner(1 + two)
    for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, lambda *_: sys.exit(130))
    try:
        for job in early:
            runner.start(job)
        if images and subprocess.run([TOP / "tests/images", *images], check=False).returncode:
            return 1
        for job in others:
            runner.start(job)
        while runner.running:
            runner.finish_one()
    finally:
        runner.stop()
    print(f"check: {'seconds: wall, of a processor':>42}")
    for (kernel, group), (wall, used) in sorted(runner.times.items(), key=lambda item: -item[1][1]):
        print(f"check: {wall:24.0f} {used:17.0f}  {group} ({kernel})")
    passed, failed, skipped = runner.totals
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0 or passed == 0)


def main():
    """Do what the command line says."""
    groups = all_groups()
    tests = {test.name: test for tests in groups.values() for test in tests}
    parser = argparse.ArgumentParser("tests/check", epilog=EPILOG.format(" ".join(groups), LOGS), allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", metavar="NAME", action="append", default=[])
    parser.add_argument("--debug", dest="kernel", action="append_const", const="debug", help="like --kernel debug")
    parser.add_argument("--all", action="store_true", help="also run tests that take long or rarely fail (rare and rare-debug in their headers)")
    parser.add_argument("--list", action="store_true", help="print the module's tests, their groups, and descriptions")
    parser.add_argument("--dry-run", action="store_true", help="print what would be started")
    parser.add_argument("names", metavar="GROUP|TEST", nargs="*")
    options = parser.parse_args()
    if options.list:
        show("\t".join((test.name, test.group, test.summary))
             for test in sorted(tests.values(), key=lambda test: (test.order, test.name)) if not test.on_host)
        return 0
    kernels = sorted(set(options.kernel)) or [os.environ.get("DAXFS_KERNEL") or "stock"]
    if len(set(kernels) - {"debug"}) > 1:
        parser.error("one kernel besides the debug kernel")
    chosen = []
    for name in options.names:
        if name not in groups and name not in tests:
            parser.error(f"there is no group or test {name}")
        chosen += groups.get(name) or [tests[name]]
    # In the order of the groups, not of the command line: some tests must follow others.
    named = {group: [test for test in members if test in chosen] for group, members in groups.items()}
    named = {group: members for group, members in named.items() if members}
    if "debug" in kernels and ARCH != "amd64":
        print("check: the debug kernel is for amd64 only", file=sys.stderr)
        return 2
    for kernel in kernels:
        if "/" in kernel:
            bad = [group for group, wanted in named.items() if any(test.on_host for test in wanted)]
            if bad or not named:
                parser.error(f"{kernel}: name groups that run in one machine" + "".join(f", not {name}" for name in bad))
        elif kernel != "debug":
            check_kernel(kernel)
    jobs = plan(groups, kernels, named, options.all)
    early = [job for job in jobs if job.early]
    others = [job for job in jobs if not job.early]
    images = needed_images(jobs)
    if options.dry_run:
        commands = [job.command for job in early] + [["tests/images", *images]] + [job.command for job in others]
        show(shlex.join(command).replace(f"{TOP}/", "") for command in commands)
        return 0
    return run(early, images, others)


if __name__ == "__main__":
    sys.exit(main())
