// SPDX-License-Identifier: GPL-2.0-only

//! Extracts to a directory. All files are created in a directory that only the owner can enter,
//! which becomes the target when it is complete: no existing file is overwritten, and no file
//! remains after a failure.

use crate::attributes::{inherit_nothing, restore, FileRef};
use crate::cursor::{Cursor, DIRECTORY};
use crate::links::Links;
use daxfs_files::bar::Bar;
use daxfs_files::memory::Storage;
use daxfs_files::signals::Interrupt;
use daxfs_files::{parent_of, plain, Losses, Progress};
use daxfs_image::error::{Error, Result};
use daxfs_image::reader::{buffer_for, Child, Event, Reader, PIECE};
use daxfs_image::text::{shown, shown_path};
use daxfs_reader::{Content, FileType, Inode};
use rustix::fs::{
    chmodat, fchmod, fstat, ftruncate, linkat, mknodat, open, openat, renameat, rmdir, symlinkat,
    AtFlags, Mode, OFlags,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

/// Zeros of this length and alignment become holes.
const BLOCK: usize = 4096;

/// Extracts the directory `start` of an image to the directory `target`, which must be empty or not
/// exist. Restores owners if `owner`. Returns what could not be restored.
///
/// On error, the target is unchanged.
pub fn to_directory<S: Storage>(
    reader: &Reader<'_, S>,
    start: &Inode,
    target: &Path,
    owner: bool,
    interrupt: &Interrupt,
) -> Result<Losses> {
    let fail = |operation: &'static str, error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "; create its parent directory first",
            _ => "",
        };
        Error::system(shown_path(target), operation, remedy, error)
    };
    let exists = match target.read_dir() {
        Ok(mut entries) => {
            if entries.next().is_some() {
                let why = "is not empty; name a new or an empty directory";
                return Err(Error::refused(shown_path(target), why));
            }
            true
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(fail("cannot extract to it", error)),
    };
    let parent = if exists { target } else { parent_of(target) };
    let temporary = tempfile::Builder::new()
        .prefix(".daxfs-")
        .suffix(".tmp")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(|error| fail("cannot make a directory for it", plain(error)))?;
    let root = open(temporary.path(), DIRECTORY, Mode::empty());
    let root = root.and_then(|root| {
        if fstat(&root)?.st_uid == geteuid().as_raw() {
            Ok(root)
        } else {
            // Another user has replaced the directory.
            Err(Errno::PERM)
        }
    });
    let root = root.map_err(|error| fail("cannot open the directory made for it", error.into()))?;
    inherit_nothing(&root);

    let mut extraction = Extraction {
        reader,
        target,
        root,
        owner,
        interrupt,
        losses: Losses::default(),
        links: Links::new(reader),
        buffer: vec![0; PIECE],
        bar: Bar::of("extracting", reader.data_length()),
    };
    let made = extraction.pass(start, false).and_then(|()| {
        extraction.pass(start, true)?;
        interrupt.check()?;
        if exists {
            return extraction.move_up(start, temporary.path());
        }
        let root = extraction.clone_root()?;
        extraction.attributes(&FileRef::Open(root.as_fd()), start, b"")?;
        // This can replace only an empty directory.
        std::fs::rename(temporary.path(), target)
            .map_err(|error| fail("cannot put it in place", error))
    });
    match made {
        Ok(()) => {
            // The directory has been renamed or removed.
            let _ = temporary.keep();
            Ok(extraction.losses)
        }
        Err(why) => {
            // Files that cannot be removed stay in a hidden directory.
            let _ = fchmod(&extraction.root, Mode::RWXU);
            let _ = Cursor::new(extraction.root).clear();
            Err(why)
        }
    }
}

struct Extraction<'a, S> {
    reader: &'a Reader<'a, S>,
    target: &'a Path,
    root: OwnedFd,
    /// Whether to restore owners.
    owner: bool,
    interrupt: &'a Interrupt,
    losses: Losses,
    links: Links,
    buffer: Vec<u8>,
    bar: Bar,
}

impl<S: Storage> Extraction<'_, S> {
    fn fail(&self, path: &[u8], what: &str, error: Errno) -> Error {
        let error = io::Error::from(error);
        let relative = OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path));
        let path = shown_path(&self.target.join(relative));
        Error::system(path, format!("cannot {what}"), "", error)
    }

    fn clone_root(&self) -> Result<OwnedFd> {
        self.root.try_clone().map_err(|error| {
            Error::system(shown_path(self.target), "cannot open it again", "", error)
        })
    }

    /// Creates all files, and directories without their attributes. If `finish`, sets the
    /// attributes of the directories in `start` instead: after all files, because creating files
    /// changes times and needs permissions.
    fn pass(&mut self, start: &Inode, finish: bool) -> Result<()> {
        let reader = self.reader;
        let mut at = Cursor::new(self.clone_root()?);
        reader.walk(start, b"", &mut |path, name, event| {
            self.interrupt.check()?;
            match event {
                Event::Enter(_) | Event::Leave(_) if path.is_empty() => Ok(()),
                Event::Enter(_) => {
                    let entered = if finish {
                        at.enter(name)
                    } else {
                        at.make(name)
                    };
                    entered.map_err(|error| self.fail(path, "make the directory", error))
                }
                Event::Leave(inode) => {
                    let left = at.leave();
                    let left =
                        left.map_err(|error| self.fail(path, "leave the directory", error))?;
                    if finish {
                        self.attributes(&FileRef::Open(left.as_fd()), inode, path)
                    } else {
                        Ok(())
                    }
                }
                Event::File(inode) if !finish => self.file(at.here(), path, name, inode),
                Event::File(_) => Ok(()),
            }
        })
    }

    fn attributes(&mut self, file: &FileRef<'_>, inode: &Inode, path: &[u8]) -> Result<()> {
        let xattrs = self.reader.xattrs(inode, path)?;
        restore(file, inode, &xattrs, path, self.owner, &mut self.losses)
            .map_err(|(what, error)| self.fail(path, what, error))
    }

    /// If `inode` has already been extracted, makes `name` in `here` a hard link and returns true.
    fn link(&mut self, here: &OwnedFd, path: &[u8], name: &[u8], inode: &Inode) -> Result<bool> {
        let Some(first) = self.links.meet(self.reader, inode, path)? else {
            return Ok(false);
        };
        let cut = first.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let linked = Cursor::walk(&self.root, &first[..cut]).and_then(|directory| {
            linkat(&directory, &first[cut + 1..], here, name, AtFlags::empty())
        });
        match linked {
            Ok(()) => Ok(true),
            // The device could not be created.
            Err(Errno::NOENT) if matches!(inode.content, Content::Device { .. }) => Ok(true),
            Err(error) => Err(self.fail(path, "make a hard link", error)),
        }
    }

    fn file(&mut self, here: &OwnedFd, path: &[u8], name: &[u8], inode: &Inode) -> Result<()> {
        if self.link(here, path, name, inode)? {
            return Ok(());
        }
        let made = match inode.content {
            Content::Regular { .. } | Content::InPack { .. } => {
                return self.regular(here, path, name, inode);
            }
            Content::Symlink { .. } => {
                let target = self.reader.target(inode, path)?;
                symlinkat(target.as_slice(), here, name)
            }
            Content::Device { major, minor } => {
                let kind = match inode.file_type {
                    FileType::BlockDevice => rustix::fs::FileType::BlockDevice,
                    _ => rustix::fs::FileType::CharacterDevice,
                };
                let device = rustix::fs::makedev(major, minor);
                match mknodat(here, name, kind, Mode::RUSR, device) {
                    Err(Errno::PERM) => {
                        let why = "device left out; only root can make devices".into();
                        self.losses.add(why, || shown(path));
                        return Ok(());
                    }
                    made => made,
                }
            }
            Content::Special => {
                let kind = match inode.file_type {
                    FileType::Socket => rustix::fs::FileType::Socket,
                    _ => rustix::fs::FileType::Fifo,
                };
                mknodat(here, name, kind, Mode::RUSR, 0)
            }
            Content::Directory(_) => return Ok(()),
        };
        made.map_err(|error| self.fail(path, "make it", error))?;
        self.attributes(&FileRef::Named(here.as_fd(), name), inode, path)
    }

    fn regular(&mut self, here: &OwnedFd, path: &[u8], name: &[u8], inode: &Inode) -> Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(here, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| self.fail(path, "make the file", error))?;
        ftruncate(&fd, inode.size).map_err(|error| self.fail(path, "set its size", error))?;
        let file = File::from(fd);
        let mut buffer = std::mem::take(&mut self.buffer);
        let piece = &mut buffer[..buffer_for(inode)];
        let copied = self.reader.data(inode, path, piece, &mut |offset, piece| {
            self.interrupt.check()?;
            put(&file, offset, piece).map_err(|error| {
                let error = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                self.fail(path, "write", error)
            })?;
            self.bar.advance(piece.len() as u64);
            Ok(())
        });
        self.buffer = buffer;
        copied?;
        self.attributes(&FileRef::Open(file.as_fd()), inode, path)
    }

    /// Moves everything from the directory `temporary` to its parent, the target, or moves nothing.
    fn move_up(&mut self, start: &Inode, temporary: &Path) -> Result<()> {
        let Some(directory) = start.directory() else {
            return Ok(());
        };
        let fail = |this: &Self, error| this.fail(b"", "put the files in place", error);
        // The target may be a symlink to a directory.
        let target = open(self.target, DIRECTORY - OFlags::NOFOLLOW, Mode::empty());
        let target = target.map_err(|error| fail(self, error))?;
        let children = self.reader.children(&directory, b"")?;
        let is_directory = |child: &Child| matches!(child.inode.content, Content::Directory(_));
        // Set attributes that may fail before moving anything. Moving changes times.
        self.attributes(&FileRef::Open(target.as_fd()), start, b"")?;
        let losses = std::mem::take(&mut self.losses);
        fchmod(&target, Mode::RWXU).map_err(|error| fail(self, error))?;
        let mut moved = Vec::new();
        for child in children {
            let name = &*child.name;
            // A directory can be moved only if its owner may write to it.
            let writable = if is_directory(&child) {
                chmodat(&self.root, name, Mode::RWXU, AtFlags::empty())
            } else {
                Ok(())
            };
            match writable.and_then(|()| renameat(&self.root, name, &target, name)) {
                Ok(()) => moved.push(child),
                // The file was left out.
                Err(Errno::NOENT) => (),
                Err(error) => {
                    for child in moved {
                        let _ = renameat(&target, &*child.name, &self.root, &*child.name);
                    }
                    return Err(fail(self, error));
                }
            }
        }
        // Remove it before setting the target's time.
        rmdir(temporary).map_err(|error| fail(self, error))?;
        for child in moved.iter().filter(|child| is_directory(child)) {
            let file = FileRef::Named(target.as_fd(), &child.name);
            self.attributes(&file, &child.inode, &child.name)?;
        }
        self.attributes(&FileRef::Open(target.as_fd()), start, b"")?;
        self.losses = losses;
        Ok(())
    }
}

/// Writes `piece` to `file`, except blocks of zeros.
fn put(file: &File, offset: u64, piece: &[u8]) -> io::Result<()> {
    let zeros = |block: &[u8]| block.iter().all(|&byte| byte == 0);
    let mut at = 0;
    for run in piece
        .chunks(BLOCK)
        .collect::<Vec<_>>()
        .chunk_by(|a, b| zeros(a) == zeros(b))
    {
        let length: usize = run.iter().map(|block| block.len()).sum();
        if !zeros(run[0]) {
            file.write_all_at(&piece[at..at + length], offset + at as u64)?;
        }
        at += length;
    }
    Ok(())
}
