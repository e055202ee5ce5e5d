#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Load a model as programs do that people have, in one process and in eight.

Usage: models.py make DIRECTORY MIB      write files with the same weights of MIB MiB, one for each format
       models.py measure PROGRAM DIRECTORY COUNT HELD
                                         load a file in COUNT processes, and print figures: row, tab, figure. Before that,
                                         memory holds HELD 64ths of the file's size
       models.py programs                list the programs

Needs the packages of scripts/wheels.
"""
import contextlib
import json
import mmap
import multiprocessing
import re
import resource
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy

TENSORS, COLUMNS = 8, 1024


# ---- files ----------------------------------------------------------------------------------------

def weights(mib):
    """Return tensors by name. Up to 64 MiB, all their elements differ."""
    tensors = numpy.arange(mib << 18, dtype=numpy.float32).reshape(TENSORS, -1, COLUMNS)
    return {f"layer{number}": tensor for number, tensor in enumerate(tensors)}


def make(directory, mib):
    """Write the weights in each format."""
    # pylint: disable=import-outside-toplevel
    import gguf
    import pyarrow
    import safetensors.numpy
    directory, tensors = Path(directory), weights(mib)
    directory.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(tensors, directory / "model.safetensors")
    numpy.save(directory / "model.npy", numpy.stack(list(tensors.values())))
    writer = gguf.GGUFWriter(directory / "model.gguf", "llama")
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    table = pyarrow.table({name: tensor.reshape(-1) for name, tensor in tensors.items()})
    with pyarrow.OSFile(str(directory / "model.arrow"), "wb") as file, pyarrow.ipc.new_file(file, table.schema) as stream:
        stream.write_table(table)


# ---- programs -------------------------------------------------------------------------------------

def safetensors_numpy(path):
    """Load as users of safetensors without torch do."""
    from safetensors.numpy import load_file  # pylint: disable=import-outside-toplevel
    return load_file(path)


def safetensors_torch(path):
    """Map a file as safetensors does for torch: privately and writable, though nothing is written."""
    with open(path, "rb") as file:
        content = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    length = int.from_bytes(content[:8], "little")
    tensors = {}
    for name, tensor in json.loads(content[8:8 + length]).items():
        start, end = tensor["data_offsets"]
        tensors[name] = numpy.frombuffer(content, numpy.float32, (end - start) // 4, 8 + length + start)
    return tensors


def gguf_reader(path):
    """Load as users of the package gguf do."""
    from gguf import GGUFReader  # pylint: disable=import-outside-toplevel
    return {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}


def numpy_memmap(path):
    """Map an array."""
    return dict(enumerate(numpy.load(path, mmap_mode="r")))


def pyarrow_map(path):
    """Map a table."""
    import pyarrow  # pylint: disable=import-outside-toplevel
    table = pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all()
    return {name: column.chunk(0).to_numpy() for name, column in zip(table.column_names, table.columns)}


PROGRAMS = {"safetensors": (safetensors_numpy, "model.safetensors"), "torch": (safetensors_torch, "model.safetensors"),
            "gguf": (gguf_reader, "model.gguf"), "numpy.memmap": (numpy_memmap, "model.npy"),
            "pyarrow": (pyarrow_map, "model.arrow")}


def load(program, directory):
    """Have a program load its file in a directory; return the tensors by name."""
    function, name = PROGRAMS[program]
    return function(Path(directory, name))


def use(tensors):
    """Read all weights; return their sum."""
    return sum(int(tensor.reshape(-1).view(numpy.uint64).sum()) for tensor in tensors.values()) % 2**64


def crc(tensors):
    """Return the CRC-32 of all weights."""
    number = 0
    for _, tensor in sorted(tensors.items()):
        number = zlib.crc32(numpy.ascontiguousarray(tensor), number)
    return number


# ---- processes ------------------------------------------------------------------------------------

def kib(file, key):
    """Return a number in KiB that a file of /proc has."""
    return int(re.search(rf"^{key}:\s*(\d+)", Path("/proc", file).read_text(encoding="ascii"), re.M)[1])


def user(program, small, directory, pipe):
    """Load a small model; load another one when told to, say what that took, and keep it until told to end."""
    use(load(program, small))
    pipe.send("ready")
    if pipe.recv() == "end":
        return
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic_ns()
    tensors = load(program, directory)
    total = use(tensors)
    ended, after = time.monotonic_ns(), resource.getrusage(resource.RUSAGE_SELF)
    pipe.send((total, after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt, ended - started))
    pipe.recv()


class Users:
    """Processes that load a model one after the other, and keep it until the context ends."""

    def __init__(self, program, directory, count):
        context = multiprocessing.get_context("fork")
        self.numbers, self.pipes, self.waiting, self.totals = [], [], [], set()
        # They have imported all that they need, and used it once, before figures are taken.
        with tempfile.TemporaryDirectory() as small:
            make(small, 1)
            use(load(program, small))
            for _ in range(count):
                here, there = context.Pipe()
                process = context.Process(target=user, args=(program, small, directory, there), daemon=True)
                process.start()
                self.numbers.append(process.pid)
                self.pipes.append(here)
                assert here.recv() == "ready"
        self.waiting, self.before = list(self.pipes), self.shares()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pipe in self.pipes:
            pipe.send("end")
        for process in multiprocessing.active_children():
            process.join()

    def load(self):
        """Have the next process load the model; return its page faults, and the time in ns."""
        pipe = self.waiting.pop(0)
        pipe.send("load")
        total, *figures = pipe.recv()
        self.totals.add(total)
        assert len(self.totals) == 1, f"processes see different weights: {self.totals}"
        return figures

    def shares(self):
        """Return the proportional share of memory (Pss) and the page tables of all processes, in KiB."""
        return [sum(kib(f"{number}/{file}", key) for number in self.numbers)
                for file, key in (("smaps_rollup", "Pss"), ("status", "VmPTE"))]

    def added(self):
        """Return what these have grown by since the start."""
        return [now - before for now, before in zip(self.shares(), self.before)]


def used():
    """Return the KiB of memory in use. Pages in the lists of a processor are free, but not counted so."""
    lists = re.findall(r"^ +count: +(\d+)", Path("/proc/zoneinfo").read_text(encoding="ascii"), re.M)
    return kib("meminfo", "MemTotal") - kib("meminfo", "MemFree") - 4 * sum(map(int, lists))


def measure(program, directory, count, held):
    """Print the figures of a program; memory with that part of the file which is held before."""
    held = Path(directory, PROGRAMS[program][1]).stat().st_size * held // 64 >> 10
    with Users(program, directory, count) as users:
        before = used()
        for number in range(count):
            faults, elapsed = users.load()
            if number < 2:
                state = ("cold", "warm")[number]
                print(f"{program}: page faults, {state}", faults, sep="\t")
                # While the file is on a disk, the clock also counts the waits for that.
                if held or state == "warm":
                    print(f"{program}: 1,000 instructions, {state}", elapsed // 1000, sep="\t")
            if number in (0, count - 1):
                print(f"{program}: memory of {number + 1}, KiB", used() - before + held, sep="\t")
        for name, figure in zip(("Pss", "page tables"), users.added()):
            print(f"{program}: {name} of {count}, KiB", figure, sep="\t")


def main(arguments):
    """Do what the command line says."""
    match arguments:
        case ["make", directory, mib]:
            make(directory, int(mib))
        case ["measure", program, directory, count, held]:
            measure(program, directory, int(count), int(held))
        case ["programs"]:
            print(*PROGRAMS, sep="\n")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
