// SPDX-License-Identifier: GPL-2.0-only

//! Handles the kernel's requests, with the same answers as the module's.

use daxfs_files::eprintln;
use daxfs_files::region::Region;
use daxfs_image::source::Opened;
use daxfs_reader::layout::{self, XattrPrefix};
use daxfs_reader::{Content, Directory, FileType, Image, Inode, Problem};
use fuser::{
    Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the kernel may cache answers: an image does not change.
const FOREVER: Duration = Duration::from_secs(1 << 30);

const BLOCK: u32 = 4096;

/// Positions in a directory: 0 and 1 are `.` and `..`, the entries follow.
const DOTS: u64 = 2;

/// The owner and group of all files, if set by options.
#[derive(Default)]
pub struct Owner {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// An image as a filesystem.
pub struct ImageFs {
    image: Opened,
    owner: Owner,
}

type Result<T> = std::result::Result<T, Errno>;

impl ImageFs {
    /// Serves `image`.
    pub fn new(image: Opened, owner: Owner) -> Self {
        ImageFs { image, owner }
    }

    fn image(&self) -> Image<'_, Region> {
        self.image.image()
    }

    /// Returns the image that has the data of `inode`, and the inode there.
    fn find_source(&self, inode: &Inode) -> daxfs_reader::Result<(Image<'_, Region>, Inode)> {
        let pack = |index: u32| match self.image.packs.get(index as usize) {
            Some(Ok(Some(pack))) => Some(pack.image()),
            _ => None,
        };
        self.image().source(inode, pack)
    }

    /// Swaps the root's number with 1, the root in FUSE.
    fn swap(&self, ino: u64) -> u64 {
        let root = self.image.superblock.root.into();
        match ino {
            1 => root,
            _ if ino == root => 1,
            _ => ino,
        }
    }

    /// Logs `error` for the inode `ino`, and returns the error for the kernel.
    fn report(&self, ino: u64, error: daxfs_reader::Error) -> Errno {
        eprintln!("daxfs: {}: inode {ino}: {error}", self.image.name);
        match error.problem {
            Problem::Unreadable => Errno::EIO,
            _ => Errno::from_i32(rustix::io::Errno::UCLEAN.raw_os_error()),
        }
    }

    /// Fails if another image has replaced `image`.
    fn check_replaced(&self, image: &Image<'_, Region>) -> Result<()> {
        if image.is_replaced() {
            let name = &self.image.name;
            eprintln!("daxfs: {name}: another image took its place; mount that instead");
            return Err(Errno::EIO);
        }
        Ok(())
    }

    fn inode(&self, ino: INodeNo) -> Result<Inode> {
        let ino = self.swap(ino.0);
        let number = u32::try_from(ino).map_err(|_| Errno::ESTALE)?;
        let inode = if number == self.image.superblock.root {
            self.image().root()
        } else {
            self.image().inode(number)
        };
        self.check_replaced(&self.image())?;
        inode.map_err(|error| self.report(ino, error))
    }

    fn directory(&self, ino: INodeNo) -> Result<Directory> {
        self.inode(ino)?.directory().ok_or(Errno::ENOTDIR)
    }

    fn attributes(&self, inode: &Inode) -> FileAttr {
        let time = self::time(inode.mtime_sec, inode.mtime_nsec);
        let allocated = match inode.content {
            Content::Directory(_) => inode.size,
            _ => self
                .find_source(inode)
                .map_or(0, |(image, source)| allocated(&image, &source)),
        };
        FileAttr {
            ino: INodeNo(self.swap(inode.ino.into())),
            size: inode.size,
            blocks: allocated.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: UNIX_EPOCH,
            kind: kind(inode.file_type),
            perm: inode.permissions(),
            nlink: inode.nlink,
            uid: self.owner.uid.unwrap_or(inode.uid),
            gid: self.owner.gid.unwrap_or(inode.gid),
            rdev: match inode.content {
                // The kernel's packing of 12 and 20 bits into 32.
                Content::Device { major, minor } => {
                    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
                }
                _ => 0,
            },
            blksize: BLOCK,
            flags: 0,
        }
    }

    fn find(&self, parent: INodeNo, name: &OsStr) -> Result<Option<Inode>> {
        if name.len() > layout::NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        // To open a handle, the kernel looks these up: `.` of any inode, `..` of a directory.
        if name == "." {
            return self.inode(parent).map(Some);
        }
        let directory = self.directory(parent)?;
        if name == ".." {
            let parent = INodeNo(self.swap(directory.parent.into()));
            return self.inode(parent).map(Some);
        }
        let child = self.image().child(&directory, name.as_bytes());
        self.check_replaced(&self.image())?;
        child.map_err(|error| self.report(directory.ino.into(), error))
    }

    /// Passes the entries of a directory from `offset` on to `add`, each with the position of the
    /// next one, inode number, type and name, until `add` is full.
    fn list(
        &self,
        ino: INodeNo,
        offset: u64,
        add: &mut dyn FnMut(u64, u32, FileType, &OsStr) -> bool,
    ) -> Result<()> {
        let directory = self.directory(ino)?;
        let dots = [(".", directory.ino), ("..", directory.parent)];
        for (next, (name, ino)) in (1..).zip(dots).skip(offset.min(DOTS) as usize) {
            if add(next, ino, FileType::Directory, OsStr::new(name)) {
                return Ok(());
            }
        }
        let Ok(start) = u32::try_from(offset.saturating_sub(DOTS)) else {
            return Ok(());
        };
        let mut entries = self.image().entries(&directory, start);
        let mut next = u64::from(start) + DOTS;
        while let Some(entry) = entries.next() {
            next += 1;
            let (entry, name) = entry.map_err(|error| self.report(directory.ino.into(), error))?;
            if add(next, entry.ino, entry.file_type, OsStr::from_bytes(name)) {
                break;
            }
        }
        self.check_replaced(&self.image())
    }

    /// Returns the names of a file's extended attributes, or the value of `wanted`.
    fn xattrs(&self, request: &Request, ino: INodeNo, wanted: Option<&[u8]>) -> Result<Vec<u8>> {
        let inode = self.inode(ino)?;
        let failed = |error| self.report(inode.ino.into(), error);
        if let Some(wanted) = wanted {
            let value = self.image().xattr_named(&inode, wanted);
            self.check_replaced(&self.image())?;
            return value.map_err(failed)?.ok_or(Errno::ENODATA);
        }
        let visible = |prefix| request.uid() == 0 || prefix != XattrPrefix::Trusted;
        let names = self.image().xattr_names(&inode, visible);
        self.check_replaced(&self.image())?;
        names.map_err(failed)
    }
}

/// Returns the bytes of `image` that the regular file `inode` occupies, 0 for other files.
fn allocated(image: &Image<'_, Region>, inode: &Inode) -> u64 {
    let block = image.superblock().block_size.into();
    match inode.content {
        Content::Regular { .. } if inode.packed => inode.size,
        Content::Regular { .. } => inode.size.next_multiple_of(block),
        _ => 0,
    }
}

fn time(sec: i64, nsec: u32) -> SystemTime {
    let seconds = Duration::from_secs(sec.unsigned_abs());
    let whole = if sec < 0 {
        UNIX_EPOCH.checked_sub(seconds)
    } else {
        UNIX_EPOCH.checked_add(seconds)
    };
    let time = whole.and_then(|time| time.checked_add(Duration::from_nanos(nsec.into())));
    time.unwrap_or(UNIX_EPOCH)
}

fn kind(file_type: FileType) -> fuser::FileType {
    match file_type {
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::CharDevice => fuser::FileType::CharDevice,
        FileType::Directory => fuser::FileType::Directory,
        FileType::BlockDevice => fuser::FileType::BlockDevice,
        FileType::Regular => fuser::FileType::RegularFile,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::Socket => fuser::FileType::Socket,
    }
}

/// Answers with bytes, or with their number if `size` is 0.
fn reply_sized(reply: ReplyXattr, size: u32, bytes: Result<Vec<u8>>) {
    match bytes {
        Err(error) => reply.error(error),
        Ok(bytes) if size == 0 => match u32::try_from(bytes.len()) {
            Ok(length) => reply.size(length),
            Err(_) => reply.error(Errno::E2BIG),
        },
        Ok(bytes) if bytes.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(bytes) => reply.data(&bytes),
    }
}

impl Filesystem for ImageFs {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for wanted in [
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_POSIX_ACL,
            // Handles stay valid: inode numbers come from the image and never change.
            InitFlags::FUSE_EXPORT_SUPPORT,
        ] {
            // Older kernels may lack this.
            let _ = config.add_capabilities(wanted);
        }
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let attributes = self.find(parent, name).and_then(|found| match found {
            Some(inode) => Ok(self.attributes(&inode)),
            // Inode number 0 lets the kernel cache that the name does not exist. It ignores the
            // rest.
            None => Ok(FileAttr {
                ino: INodeNo(0),
                ..self.attributes(&self.inode(parent)?)
            }),
        });
        match attributes {
            Ok(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        match self.inode(ino) {
            Ok(inode) => reply.attr(&FOREVER, &self.attributes(&inode)),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        let target = self.inode(ino).and_then(|inode| {
            let target = self.image().target(&inode);
            self.check_replaced(&self.image())?;
            let target = target.map_err(|error| self.report(inode.ino.into(), error))?;
            target.ok_or(Errno::EINVAL)
        });
        match target {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.inode(ino) {
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error),
        }
    }

    fn opendir(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR;
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.inode(ino).and_then(|inode| {
            let left = inode.size.saturating_sub(offset).min(size.into());
            let mut bytes = vec![0; left as usize];
            let failed = |error| self.report(inode.ino.into(), error);
            let (image, source) = self.find_source(&inode).map_err(failed)?;
            let length = image.read(&source, offset, &mut bytes).map_err(failed)?;
            self.check_replaced(&image)?;
            bytes.truncate(length);
            Ok(bytes)
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.list(ino, offset, &mut |next, ino, file_type, name| {
            let ino = INodeNo(self.swap(ino.into()));
            reply.add(ino, next, kind(file_type), name)
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let superblock = &self.image.superblock;
        let packs = self.image.open_packs().map(|it| it.superblock.total_size);
        let blocks = packs.fold(superblock.total_size, u64::saturating_add) / u64::from(BLOCK);
        reply.statfs(blocks, 0, 0, superblock.inode_count(), 0, BLOCK, 255, BLOCK);
    }

    fn getxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        reply_sized(
            reply,
            size,
            self.xattrs(request, ino, Some(name.as_bytes())),
        );
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        reply_sized(reply, size, self.xattrs(request, ino, None));
    }
}
