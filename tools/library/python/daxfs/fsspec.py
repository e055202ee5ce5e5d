# SPDX-License-Identifier: GPL-2.0-only
"""Images as filesystems of fsspec: fsspec.open("daxfs://etc/hostname::base.img")."""

import stat

from fsspec.spec import AbstractFileSystem

import daxfs


class DaxfsFileSystem(AbstractFileSystem):
    """The files of the image in the local file fo."""

    protocol = "daxfs"
    root_marker = ""
    cachable = False

    def __init__(self, fo, target_protocol=None, **options):
        if target_protocol not in (None, "file", "local"):
            raise ValueError(f"daxfs reads local files, not {target_protocol}://; copy the image first")
        super().__init__(fo=fo, **options)
        self.image = daxfs.open(fo)

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path).strip("/")

    def _file(self, path, **options):
        return self.image.file("/" + self._strip_protocol(path), **options)

    def _information(self, file):
        target = file
        if file.is_symlink():
            try:
                target = self.image[file.path]
            except OSError:
                # It leads nowhere.
                pass
        inode = target.stat()
        kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
        information = {
            "name": file.path.strip("/"), "size": inode.st_size if target.is_file() else 0,
            "type": kinds.get(stat.S_IFMT(inode.st_mode), "other"), "islink": file.is_symlink(),
            "mode": inode.st_mode, "uid": inode.st_uid, "gid": inode.st_gid, "ino": inode.st_ino,
            "nlink": inode.st_nlink, "mtime": inode.st_mtime,
        }
        if file.is_symlink():
            information["destination"] = file.readlink()
        return information

    def info(self, path, **_):
        return self._information(self._file(path, follow_symlinks=False))

    def ls(self, path, detail=True, **_):
        file = self._file(path)
        files = sorted(file.iterdir(), key=lambda child: child.name) if file.is_dir() else [file]
        return [self._information(child) if detail else child.path.strip("/") for child in files]

    def _open(self, path, mode="rb", **_):
        return self._file(path).open(mode)

    def cat_file(self, path, start=None, end=None, **_):
        start, end, _ = slice(start, end).indices(self._file(path).stat().st_size)
        return self._file(path).read(max(end - start, 0), start)

    def modified(self, path):
        from datetime import datetime, timezone

        return datetime.fromtimestamp(self.info(path)["mtime"], timezone.utc)
