# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Images as filesystems of fsspec: fsspec.open("daxfs://etc/hostname::base.img")."""

from __future__ import annotations

import errno
import stat
from datetime import datetime, timezone
from typing import IO, Any, NoReturn

from fsspec.spec import AbstractFileSystem

import daxfs
from daxfs._image import read_only


class DaxfsFileSystem(AbstractFileSystem):
    """The files of the image in the local file fo, see daxfs.open(). find() lists links to directories as links."""

    protocol = "daxfs"
    root_marker = ""
    cachable = False

    def __init__(self, fo: str, target_protocol: str | None = None, offset: int = 0, image: str | None = None,
                 packs: tuple[str, ...] = (), **options: Any) -> None:
        if target_protocol not in (None, "file", "local"):
            raise ValueError(f"daxfs reads local files, not {target_protocol}://; copy the image first")
        super().__init__(fo=fo, offset=offset, image=image, packs=packs, **options)
        self.image = daxfs.open(fo, offset, image, packs)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path)).strip("/")

    def _file(self, path: str, **options: Any) -> daxfs.File:
        return self.image.file("/" + self._strip_protocol(path), **options)

    def _information(self, file: daxfs.File, listed: bool = False) -> dict[str, Any]:
        target = file
        if file.is_symlink():
            try:
                target = self.image[file.path]
            except OSError:
                # The link dangles.
                pass
            # A walk that followed links to directories would visit files many times.
            if listed and target.is_dir():
                target = file
        inode = target.stat()
        kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
        information: dict[str, Any] = {
            "name": file.path.strip("/"), "size": inode.st_size if target.is_file() else 0,
            "type": kinds.get(stat.S_IFMT(inode.st_mode), "other"), "islink": file.is_symlink(),
            "mode": inode.st_mode, "uid": inode.st_uid, "gid": inode.st_gid, "ino": inode.st_ino,
            "nlink": inode.st_nlink, "mtime": inode.st_mtime,
        }
        if file.is_symlink():
            information["destination"] = file.readlink()
        return information

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return self._information(self._file(path, follow_symlinks=False))

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        file = self._file(path)
        files = sorted(file.iterdir(), key=lambda child: child.name) if file.is_dir() else [file]
        return [self._information(child, listed=True) if detail else child.path.strip("/") for child in files]

    def _open(self, path: str, mode: str = "rb", **_: Any) -> IO[Any]:
        if mode != "rb":
            raise read_only(path)
        return self._file(path).open(mode)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        file = self._file(path)
        first, last = slice(start, end).indices(file.stat().st_size)[:2]
        return file.read(max(last - first, 0), first)

    def get(self, rpath: str | list[str], lpath: str | list[str], recursive: bool = False, **options: Any) -> None:
        """Copy files. Raise OSError, before anything is copied, if one is neither a file nor a directory."""
        paths = rpath
        if not (isinstance(rpath, list) and isinstance(lpath, list)):
            paths = self.expand_path(rpath, recursive, options.get("maxdepth"))
        for path in paths:
            if self.info(path)["type"] not in ("file", "directory"):
                raise OSError(errno.EINVAL, "neither a file nor a directory, so it cannot be copied", path)
        super().get(rpath, lpath, recursive, **options)

    def modified(self, path: str) -> datetime:
        time = self.info(path)["mtime"]
        try:
            return datetime.fromtimestamp(time, timezone.utc)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{path}: datetime has the years 1 to 9999, not {time:.0f} seconds since 1970") from error

    def _refuse(self, path: str, *_: Any, **__: Any) -> NoReturn:
        """Raise OSError: images are read-only."""
        raise read_only(path)

    mkdir = makedirs = rmdir = _rm = rm = pipe_file = put_file = cp_file = mv = touch = _refuse
