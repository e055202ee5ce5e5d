# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Tests with DAXFS_IMAGE, an image of the directory DAXFS_TREE; tests/library makes both."""

import contextlib
import errno
import gc
import importlib.resources
import io
import multiprocessing
import os
import pathlib
import pickle
import re
import stat
import tempfile
import textwrap
import threading
import types
import unittest

import daxfs

IMAGE = os.environ["DAXFS_IMAGE"]
TREE = pathlib.Path(os.environ["DAXFS_TREE"])


def mapped():
    """Check if the image is mapped."""
    return os.path.basename(IMAGE) in pathlib.Path("/proc/self/maps").read_text()


class Images(unittest.TestCase):
    def setUp(self):
        self.image = daxfs.open(IMAGE)
        self.addCleanup(self.image.close)

    def test_superblock(self):
        info = self.image.info()
        self.assertEqual((info.label, info.size, info.block_size), ("library", os.path.getsize(IMAGE), 4096))
        self.assertEqual(len(info.sha256), 64)
        self.image.verify()

    def test_parts(self):
        content = self.image["/big"].read()
        with tempfile.NamedTemporaryFile() as middle:
            middle.write(b"x" * 5003 + pathlib.Path(IMAGE).read_bytes())
            middle.flush()
            for part in ({"file": middle.name, "offset": 5003}, {"file": IMAGE + ".disk", "image": "library"}):
                with daxfs.open(**part) as image:
                    self.assertEqual(image.info(), self.image.info())
                    self.assertEqual(image["/big"].read(), content)
                    self.assertEqual(bytes(image["/big"].view()), content)
                    place = image["/big"].locate()
                    with open(part["file"], "rb") as file:
                        file.seek(place.offset)
                        self.assertEqual(file.read(place.length), content)
            for wrong in ({"offset": 5002}, {"offset": 2**70}, {"offset": 5003, "image": "library"}):
                with self.assertRaises(OSError) as caught:
                    daxfs.open(middle.name, **wrong)
                self.assertEqual(caught.exception.errno, errno.EINVAL)
            self.assertRaises(ValueError, daxfs.open, middle.name, offset=-1)
        self.assertRaises(FileNotFoundError, daxfs.open, IMAGE + ".disk", image="none")

    def test_packs(self):
        content, info = self.image["/big"].read(), self.image.info()
        self.assertEqual(self.image.packs(), [])
        with daxfs.open(IMAGE + ".composed") as composed:
            self.assertEqual(composed.packs(), [daxfs.Pack(info.size, info.sha256)])
            self.assertEqual(composed["/big"].stat().st_size, len(content))
            for use in composed["/big"].read, composed["/big"].view, composed["/big"].locate:
                with self.assertRaisesRegex(OSError, f"in the pack {info.sha256}, which was not added.*: '/big'") as caught:
                    use()
                self.assertEqual(caught.exception.errno, errno.EOPNOTSUPP)
        with open(IMAGE, "rb") as file:
            for pack in IMAGE, file.fileno(), daxfs.open(IMAGE):
                with daxfs.open(IMAGE + ".composed", packs=[pack]) as composed:
                    if isinstance(pack, daxfs.Image):
                        pack.close()
                    self.assertEqual(composed["/big"].stat().st_offset, 0)
                    self.assertEqual(composed["/big"].locate(), self.image["/big"].locate()._replace(pack=info.sha256))
                    view = composed["/big"].view()
                    for here, there in zip(composed.walk(), self.image.walk(), strict=True):
                        if here.is_file():
                            self.assertEqual((here.read(), bytes(here.view())), (there.read(), bytes(there.view())))
                self.assertEqual(view, content)
        for image, pack in (IMAGE, IMAGE), (IMAGE + ".composed", IMAGE + ".composed"):
            with self.assertRaisesRegex(OSError, "pack") as caught:
                daxfs.open(image, packs=[pack])
            self.assertEqual((caught.exception.errno, caught.exception.filename), (errno.EINVAL, pack))
        # The kernel does not mount an image with a bad record in the table of packs.
        with tempfile.NamedTemporaryFile() as changed:
            content = bytearray(pathlib.Path(IMAGE + ".composed").read_bytes())
            content[int.from_bytes(content[256:264], "little") + 63] = 1
            pathlib.Path(changed.name).write_bytes(content)
            with self.assertRaises(OSError) as caught:
                daxfs.open(changed.name)
            self.assertEqual((caught.exception.errno, caught.exception.filename), (errno.EUCLEAN, changed.name))
        for one in IMAGE, IMAGE.encode(), pathlib.Path(IMAGE), self.image, 0:
            with self.assertRaisesRegex(TypeError, f"packs must be a list .*, not {type(one).__name__}"):
                daxfs.open(IMAGE + ".composed", packs=one)

    def test_pickles(self):
        """Like pathlib.Path: zipp#81, zarr-python#2752, pyfilesystem2#515."""
        def again(thing):
            return pickle.loads(pickle.dumps(thing))

        hello, link = self.image["dir/hello"], self.image.file("dir/link", follow_symlinks=False)
        self.assertEqual(len({hello, self.image["/dir//hello"], self.image["/dir"] / "hello", again(hello), *self.image["/dir"].iterdir()}),
                         len(list(self.image["/dir"].iterdir())))
        self.assertEqual([file in (link, hello) for file in (again(link), self.image["dir/link"], self.image["dir/again"], "/dir/hello")],
                         [True, False, False, False])
        with daxfs.open(IMAGE) as other, daxfs.open(IMAGE + ".composed", packs=[IMAGE]) as composed:
            self.assertEqual((other, hash(other), other["dir/hello"]), (self.image, hash(self.image), hello))
            self.assertNotEqual(composed["dir/hello"], hello)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                files = [hello, other["big"], composed["big"]]
                self.assertEqual(pool.map(daxfs.File.read, files), [file.read() for file in files])
        with open(IMAGE, "rb") as file, daxfs.open(file.fileno()) as image:
            self.assertRaisesRegex(TypeError, "by its descriptor", pickle.dumps, image["/big"])
        with tempfile.NamedTemporaryFile() as changed:
            changed.write(pathlib.Path(IMAGE).read_bytes())
            changed.flush()
            pickled = pickle.dumps(daxfs.open(changed.name))
            pathlib.Path(changed.name).write_bytes(pathlib.Path(IMAGE + ".composed").read_bytes())
            with self.assertRaises(OSError) as caught:
                pickle.loads(pickled)
            self.assertEqual((caught.exception.errno, caught.exception.filename), (errno.ESTALE, changed.name))
        with hello.open("rb") as stream:
            stream.read(7)
            self.assertEqual(again(stream).read(), b"world!\n")

    def test_whole_tree(self):
        found = {}
        for file in self.image.walk():
            path = TREE / file.path.lstrip("/")
            there, here = path.lstat(), file.stat()
            found[file.path] = file
            self.assertEqual(here.st_mode, there.st_mode, path)
            self.assertEqual((here.st_uid, here.st_gid), (there.st_uid, there.st_gid), path)
            self.assertEqual(here.st_mtime_ns, there.st_mtime_ns, path)
            if file.is_file():
                self.assertEqual(file.read(), path.read_bytes())
                self.assertEqual(bytes(file.view()), path.read_bytes())
                self.assertEqual(here.st_nlink, there.st_nlink)
            if file.is_symlink():
                self.assertEqual(file.readlink(), os.readlink(path))
            xattrs = {name: os.getxattr(path, name, follow_symlinks=False)
                      for name in os.listxattr(path, follow_symlinks=False) if name.startswith("user.")}
            self.assertEqual({name: value for name, value in file.xattrs().items() if name.startswith("user.")}, xattrs)
        walked = {os.path.join(top, name) for top, dirs, files in os.walk(TREE) for name in dirs + files}
        self.assertEqual(set(found), {"/"} | {path[len(str(TREE)):] for path in walked})
        self.assertGreater(len(found), 100)

    def test_paths(self):
        self.assertEqual(self.image["dir/link"].read_text(), "Hello, world!\n")
        self.assertEqual(self.image["/dir"].joinpath("sub", "up", "hello").stat(), self.image["/dir/again"].stat())
        self.assertEqual((self.image["/"] / "dir" / "hello").name, "hello")
        self.assertEqual(self.image[b"dir/\xe9"].path, "/dir/\udce9")
        self.assertIn("/empty", self.image)
        self.assertNotIn("/none", self.image)
        self.assertNotIn("/empty/none", self.image)
        self.assertNotIn("", self.image)
        for path, error in ("/none", FileNotFoundError), ("/empty/none", NotADirectoryError), ("a\0b", ValueError):
            with self.assertRaises(error):
                self.image[path]
        with self.assertRaises(OSError) as caught:
            self.image["/loop"]
        self.assertEqual((caught.exception.errno, caught.exception.filename), (errno.ELOOP, "/loop"))
        self.assertTrue(self.image.file("/loop", follow_symlinks=False).is_symlink())

    def test_names_of_pathlib(self):
        directory = self.image["/dir"]
        file = directory / "none.tar.gz"
        self.assertEqual(file.name, "none.tar.gz")
        self.assertFalse(file.is_file() or file.is_dir() or file.is_symlink())
        self.assertTrue((directory / "link").is_file())
        for use in file.stat, file.read, file.open, lambda: list(file.iterdir()), (directory / "hello" / "none").stat:
            with self.assertRaises((FileNotFoundError, NotADirectoryError)):
                use()
        self.assertEqual([file.path for file in self.image], [file.path for file in self.image.walk()])

    def test_resources(self):
        from importlib.resources.abc import Traversable
        hello = self.image["/dir"] / "hello"
        self.assertIsInstance(hello, Traversable)
        with importlib.resources.as_file(hello) as path:
            self.assertEqual(path.read_text(), "Hello, world!\n")

    def test_read_only(self):
        hello = self.image["/dir/hello"]
        for mode in "w", "ab", "r+":
            with self.assertRaises(OSError) as caught:
                hello.open(mode)
            self.assertEqual(caught.exception.errno, errno.EROFS)

    def test_reading(self):
        hello = self.image["/dir/hello"]
        self.assertEqual(hello.read(5, offset=7), b"world")
        self.assertEqual(hello.read(5, offset=100), b"")
        self.assertRaises(ValueError, hello.read, 5, -1)
        with hello.open("rb") as stream:
            stream.seek(-2, io.SEEK_END)
            self.assertEqual(stream.read(), b"!\n")
            self.assertEqual(stream.tell(), 14)
            self.assertRaises(OSError, stream.raw.seek, -1)
        with self.image["/big"].open("rb") as stream:
            self.assertEqual(stream.read(), (TREE / "big").read_bytes())
        with hello.open() as stream:
            self.assertEqual(list(stream), ["Hello, world!\n"])
        self.assertRaises(ValueError, hello.open, "")
        self.assertRaises(IsADirectoryError, self.image["/dir"].read)
        self.assertRaises(IsADirectoryError, self.image["/dir"].view)
        self.assertRaises(OSError, self.image.file("/loop", follow_symlinks=False).read)
        self.assertRaises(NotADirectoryError, list, hello.iterdir())
        self.assertRaises(TypeError, hello.readinto, b"read-only")
        buffer = bytearray(20)
        self.assertEqual(hello.readinto(buffer), 14)
        self.assertEqual(buffer, b"Hello, world!\n" + bytes(6))
        self.assertEqual(hello.readinto(bytearray()), 0)
        for offset in 14, 2**64 - 1, 2**64, 2**64 + 7:
            self.assertEqual(hello.readinto(buffer, offset), 0)
        for offset in -1, -2**64:
            self.assertRaises(ValueError, hello.readinto, buffer, offset)

    def test_views(self):
        view = self.image["/big"].view()
        self.assertTrue(view.readonly)
        self.assertEqual(len(self.image["/empty"].view()), 0)
        with self.assertRaises(TypeError):
            view[0] = 0
        self.image.close()
        gc.collect()
        # The bytes are in the mapped image, not in a copy, so the view keeps the mapping.
        self.assertTrue(mapped())
        self.assertEqual(view, (TREE / "big").read_bytes())
        part = view[10:20]
        view.release()
        self.assertEqual(part, (TREE / "big").read_bytes()[10:20])
        part.release()
        del view, part
        gc.collect()
        self.assertFalse(mapped())

    def test_closed(self):
        hello = self.image["/dir/hello"]
        stream = hello.open("rb")
        self.image.close()
        self.image.close()
        for use in (hello.read, hello.view, hello.xattrs, self.image.info, self.image.verify, stream.read,
                    lambda: self.image["/"], lambda: list(hello.iterdir())):
            with self.assertRaises(ValueError):
                use()
        self.assertEqual(hello.stat().st_size, 14)

    def test_closed_by_another_thread(self):
        big = self.image["/big"]
        errors = []

        def read():
            try:
                while True:
                    big.read()
            except ValueError:
                pass
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        self.image.close()
        for thread in threads:
            thread.join()
        self.assertEqual(errors, [])

    def test_descriptor(self):
        with open(IMAGE, "rb") as file:
            image = daxfs.open(file.fileno())
        self.assertEqual(image["/dir/hello"].view(), b"Hello, world!\n")
        image.close()

    def test_not_mounted(self):
        # tests/library mounts an image in a machine.
        with open(IMAGE) as file:
            for which in (IMAGE, file.fileno()):
                with self.assertRaisesRegex(OSError, "not on a mounted image") as caught:
                    daxfs.locate(which)
                self.assertEqual(caught.exception.errno, errno.ENODEV)
        self.assertRaises(FileNotFoundError, daxfs.locate, "/none")
        self.assertRaises(IsADirectoryError, self.image["/dir"].locate)

    def test_not_an_image(self):
        for path, error in ("/nonexistent", errno.ENOENT), ("/", errno.EISDIR), (TREE / "big", errno.EINVAL):
            with self.assertRaises(OSError) as caught:
                daxfs.open(path)
            self.assertEqual(caught.exception.errno, error)
        self.assertRaises(TypeError, daxfs.open, None)
        with tempfile.TemporaryDirectory() as directory:
            fifo = os.path.join(directory, "fifo")
            os.mkfifo(fifo)
            with self.assertRaisesRegex(OSError, "neither a file nor a block device"):
                daxfs.open(fifo)

    def test_damaged(self):
        """Images with damaged metadata give answers or errors."""
        with open(IMAGE, "rb") as file:
            good = file.read()
        # Offset 200 of the superblock is the start of the data, which follows the metadata.
        metadata = int.from_bytes(good[200:208], "little")
        self.assertLess(metadata, 1 << 16)
        errors = 0
        with tempfile.NamedTemporaryFile() as file:
            file.write(good)
            for at in range(256, metadata, 13):
                file.seek(at)
                file.write(bytes([good[at] ^ 0xff]))
                file.flush()
                with daxfs.open(file.name) as image:
                    self.assertRaises(OSError, image.verify)
                    try:
                        for found in image.walk():
                            found.xattrs()
                            if found.is_file():
                                self.assertEqual(bytes(found.view()[:10]), found.read(10))
                            if found.is_symlink():
                                found.readlink()
                    except OSError as error:
                        errors += 1
                        self.assertEqual(error.errno, errno.EUCLEAN)
                file.seek(at)
                file.write(good[at:at + 1])
        self.assertGreater(errors, 100)


class Filesystems(unittest.TestCase):
    """The module daxfs.fsspec."""

    @classmethod
    def setUpClass(cls):
        try:
            import fsspec
        except ImportError as error:
            raise unittest.SkipTest("needs fsspec") from error
        from daxfs.fsspec import DaxfsFileSystem

        fsspec.register_implementation("daxfs", DaxfsFileSystem, clobber=True)
        cls.fsspec = fsspec

    def test_urls(self):
        with self.fsspec.open(f"daxfs://dir/hello::{IMAGE}") as file:
            self.assertEqual(file.read(), b"Hello, world!\n")
        with self.fsspec.open(f"daxfs://dir/link::file://{IMAGE}", "r") as file:
            self.assertEqual(file.read(), "Hello, world!\n")
        self.assertRaises(ValueError, self.fsspec.filesystem, "daxfs", fo=IMAGE, target_protocol="memory")
        with self.fsspec.open(f"daxfs://dir/hello::{IMAGE}.composed", daxfs={"packs": (IMAGE,)}) as file:
            self.assertEqual(file.read(), b"Hello, world!\n")

    def test_page(self):
        """The examples in python.rst, in a directory with their images."""
        examples = re.findall(r"::\n\n((?: {4}.*\n|\n(?= {4}))+)", pathlib.Path(os.environ["DAXFS_PAGE"]).read_text())[1:]
        self.assertEqual(len(examples), 4)

        def read(url, **options):
            self.assertEqual(self.fsspec.open(url, **options).open().read(), b"1,2\n")

        names = {"numpy": types.SimpleNamespace(frombuffer=lambda view, dtype: view.cast({"float16": "e"}[dtype])),
                 "fsspec": types.SimpleNamespace(filesystem=self.fsspec.filesystem, open=read)}
        with contextlib.chdir(os.environ["DAXFS_PLACE"]), contextlib.redirect_stdout(io.StringIO()) as output:
            for example in examples:
                with daxfs.open("base.img") as names["image"]:
                    exec(textwrap.dedent(example), names)
        self.assertEqual(output.getvalue(), "ID=debian\n\nsh 8\n")
        self.assertEqual(names["weights"].tolist(), [1.0, 2.0])

    def test_methods(self):
        system = self.fsspec.filesystem("daxfs", fo=IMAGE)
        self.assertEqual(system.ls("/", detail=False), ["big", "dir", "empty", "loop", "many"])
        self.assertEqual(system.ls("dir/hello", detail=False), ["dir/hello"])
        kinds = {entry["name"]: entry["type"] for entry in system.ls("")}
        self.assertEqual(kinds, {"big": "file", "dir": "directory", "empty": "file", "loop": "link", "many": "directory"})
        self.assertEqual(len(system.find("many")), 100)
        # Links to directories are not followed.
        self.assertEqual(len(system.find("")), 108)
        # Errors of fsspec's archives: filesystem_spec#1974, #1443, #2145, #994.
        self.assertEqual(system.find("dir/sub", withdirs=True), ["dir/sub", "dir/sub/up"])
        self.assertEqual(system.glob("*m*"), ["empty", "many"])
        self.assertRaises(FileNotFoundError, system.ls, "none")
        self.assertEqual((system.info("/")["name"], system.info("")["type"]), ("", "directory"))
        self.assertEqual(sorted(system.glob("dir/*l*")), ["dir/hello", "dir/link"])
        self.assertEqual(system.cat_file("dir/hello", 7, -2), b"world")
        self.assertEqual(system.cat(["many/1", "many/2"]), {"many/1": b"1\n", "many/2": b"2\n"})
        information = system.info("/dir/link")
        self.assertEqual((information["type"], information["islink"], information["destination"]), ("file", True, "hello"))
        self.assertTrue(stat.S_ISREG(information["mode"]))
        self.assertEqual(system.modified("dir/hello").timestamp(), 10**9)
        self.assertEqual((system.read_block("dir/hello", 7, 5), system.tail("dir/hello", 3)), (b"world", b"d!\n"))
        self.assertEqual(system.read_block("many/10", 0, None, b"\n"), b"10\n")
        # filesystem_spec#433, #579
        stream = pickle.loads(pickle.dumps(system.open("many/10")))
        self.assertEqual((stream.size, stream.read()), (3, b"10\n"))
        self.assertEqual(pickle.loads(pickle.dumps(system)), self.fsspec.filesystem("daxfs", fo=IMAGE))
        self.assertTrue(system.isdir("dir/sub/up") and system.isfile("big") and not system.exists("none"))
        with tempfile.TemporaryDirectory() as directory:
            copy = os.path.join(directory, "copy")
            system.get("many", copy, recursive=True)
            self.assertEqual(len(os.listdir(copy)), 100)
            # Nothing is copied unless everything can be.
            special = self.fsspec.filesystem("daxfs", fo=IMAGE + ".special")
            for which, path, name in (special, "", "pipe"), (system, ["big", "loop"], "loop"):
                with self.assertRaisesRegex(OSError, f"neither a file nor a directory.*: '{name}'"):
                    which.get(path, os.path.join(directory, "none"), recursive=True)
            self.assertEqual(os.listdir(directory), ["copy"])
        with self.assertRaisesRegex(ValueError, "late: .* not 300000000000 seconds"):
            special.modified("late")
        self.assertRaises(FileNotFoundError, system.open, "none")
        for change in (lambda: system.open("none", "wb"), lambda: system.pipe("none", b""), lambda: system.rm("big"),
                       lambda: system.mkdir("none"), lambda: system.copy("big", "none"), lambda: system.mv("big", "none")):
            with self.assertRaises(OSError) as caught:
                change()
            self.assertEqual(caught.exception.errno, errno.EROFS)


if __name__ == "__main__":
    unittest.main()
