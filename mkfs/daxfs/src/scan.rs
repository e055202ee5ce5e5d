// SPDX-License-Identifier: GPL-2.0

//! Reads a directory into a [`Tree`].

use crate::image::FileType;
use crate::origin::{Origin, PATH_MAX};
use crate::tree::{Attributes, Entry, Identity, Kind, Name, Node, NodeId, Tree, ROOT};
use crate::xattr::XattrReader;
use crate::{Error, Result};
use rustix::fs::{fstat, major, minor, readlinkat, statat, AtFlags, OFlags, RawDir, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Devices of Linux have majors of 12 bits and minors of 20.
const MAJOR_LIMIT: u32 = 1 << 12;
const MINOR_LIMIT: u32 = 1 << 20;

/// Bytes of directory entries that are read at a time.
const LISTING: usize = 64 << 10;

/// Reads the directory at `path`. `output` is the directory that the image will be written to, which must
/// not lie in the tree. What cannot be stored but is no reason to give up goes to `warn`, a line each.
///
/// # Errors
///
/// [`Error::Io`] for what cannot be read, [`Error::Changed`] and [`Error::Refused`].
pub fn scan(path: &Path, output: Option<Identity>, warn: impl FnMut(String)) -> Result<Tree> {
    let mut scanner = Scanner {
        tree: Tree::new(Origin::open(path)?),
        output,
        directories: HashMap::new(),
        links: HashMap::new(),
        xattrs: XattrReader::new(),
        unknown: BTreeMap::new(),
    };
    scanner.root()?;
    left_out(&scanner.unknown).for_each(warn);
    scanner.tree.sort();
    Ok(scanner.tree)
}

/// The identity in a `stat` structure.
pub(crate) fn identity(stat: &Stat) -> Identity {
    Identity {
        dev: stat.st_dev,
        ino: stat.st_ino,
    }
}

/// The modification time in a `stat` structure.
pub(crate) fn mtime(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, stat.st_mtime_nsec as u32)
}

struct Scanner {
    tree: Tree,
    output: Option<Identity>,
    /// Every directory seen.
    directories: HashMap<NodeId, Identity>,
    /// Files with several names.
    links: HashMap<Identity, NodeId>,
    xattrs: XattrReader,
    /// Extended attributes that cannot be stored: a file that has it, and how many do.
    unknown: BTreeMap<Vec<u8>, (PathBuf, u64)>,
}

impl Scanner {
    fn root(&mut self) -> Result<()> {
        let path = self.tree.origin.path.clone();
        let directory = self.open(ROOT, Path::new(""), &path)?;
        let stat = fstat(&directory).map_err(|error| Error::io(&path, "examine", error))?;
        let name = self.tree.keep_name(b"");
        // The path itself may be a symlink, which "." behind it resolves.
        self.add(ROOT, name, &stat, &path.join("."), None)?;
        // Each directory is listed when its number comes off the stack; none is open meanwhile.
        let mut pending = vec![ROOT];
        while let Some(id) = pending.pop() {
            self.directory(id, &mut pending)?;
        }
        Ok(())
    }

    fn open(&self, id: NodeId, relative: &Path, path: &Path) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = self.tree.origin.open_below(relative, flags);
        opened.map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP if id != ROOT => {
                Error::changed(path, "removed or replaced")
            }
            error => Error::io(path, "open the directory", error),
        })
    }

    /// Lists a directory and adds what is in it.
    fn directory(&mut self, id: NodeId, pending: &mut Vec<NodeId>) -> Result<()> {
        let path = self.tree.path(id);
        let fd = self.open(id, &self.tree.relative_path(id), &path)?;
        // A path that the kernel does not take is replaced by one through the open directory.
        let short = path.as_os_str().len() + 1 + 255 <= PATH_MAX;
        let access = if short {
            path.clone()
        } else {
            format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
        };

        let mut entries = Vec::new();
        let names = list(&fd).map_err(|error| Error::io(&path, "list the directory", error))?;
        for name in &names {
            let child = path.join(OsStr::from_bytes(name.to_bytes()));
            let access = access.join(OsStr::from_bytes(name.to_bytes()));
            let entry = self.child(id, &fd, name, &child, &access, pending)?;
            entries.push(entry);
        }
        let stat = fstat(&fd).map_err(|error| Error::io(&path, "examine", error))?;
        if self.directories.get(&id) != Some(&identity(&stat)) {
            return Err(Error::changed(&path, "another directory took its place"));
        }
        let node = &mut self.tree.nodes[id as usize];
        if mtime(&stat) != node.attributes.mtime {
            return Err(Error::changed(&path, "entries were added or removed"));
        }
        node.kind = Kind::Directory(entries);
        Ok(())
    }

    /// Adds the file `name` of the directory `parent`, which is open as `fd`.
    fn child(
        &mut self,
        parent: NodeId,
        fd: &OwnedFd,
        name: &CStr,
        path: &Path,
        access: &Path,
        pending: &mut Vec<NodeId>,
    ) -> Result<Entry> {
        let stat = match statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Err(Error::changed(path, "removed")),
            other => other.map_err(|error| Error::io(path, "examine", error))?,
        };
        let kept = self.tree.keep_name(name.to_bytes());
        let directory = file_type(&stat) == Some(FileType::Directory);
        let linked = stat.st_nlink > 1 && !directory;
        if linked {
            if let Some(&node) = self.links.get(&identity(&stat)) {
                return Ok(self.tree.entry(kept, node));
            }
        }
        if directory {
            self.refuse_loop(parent, &stat, path)?;
        }
        let target = if file_type(&stat) == Some(FileType::Symlink) {
            let target = readlinkat(fd, name, Vec::new());
            let target = target.map_err(|error| Error::io(path, "read the symlink", error))?;
            Some(target.into_bytes())
        } else {
            None
        };
        let node = self.add(parent, kept, &stat, access, target)?;
        if linked {
            self.links.insert(identity(&stat), node);
        }
        if directory {
            pending.push(node);
        }
        Ok(self.tree.entry(kept, node))
    }

    /// A directory below itself, as bind mounts make it, would never end.
    fn refuse_loop(&self, parent: NodeId, stat: &Stat, path: &Path) -> Result<()> {
        let mut above = parent;
        loop {
            if self.directories.get(&above) == Some(&identity(stat)) {
                let same = crate::error::shown(&self.tree.path(above));
                let why = format!("is the same directory as {same} above it; unmount it first");
                return Err(Error::refused(path, why));
            }
            if above == ROOT {
                return Ok(());
            }
            above = self.tree.node(above).parent;
        }
    }

    /// Adds an inode, which `access` leads to.
    fn add(
        &mut self,
        parent: NodeId,
        name: Name,
        stat: &Stat,
        access: &Path,
        target: Option<Vec<u8>>,
    ) -> Result<NodeId> {
        let id = self.tree.nodes.len() as NodeId;
        let shown = |tree: &Tree| match id {
            ROOT => tree.origin.path.clone(),
            _ => tree.path(parent).join(OsStr::from_bytes(tree.name(&name))),
        };
        if id == NodeId::MAX {
            let why = "has more files than an image can hold (4294967294)";
            return Err(Error::refused(&self.tree.origin.path, why));
        }
        let kind = match file_type(stat) {
            Some(FileType::Regular) => Kind::Regular {
                size: stat.st_size as u64,
                identity: identity(stat),
            },
            Some(FileType::Directory) => {
                if self.output == Some(identity(stat)) {
                    let why = "the image would be written into the tree it is made of; write it elsewhere";
                    return Err(Error::refused(&shown(&self.tree), why));
                }
                self.directories.insert(id, identity(stat));
                Kind::Directory(Vec::new())
            }
            Some(FileType::Symlink) => Kind::Symlink(target.unwrap_or_default().into()),
            Some(file_type @ (FileType::BlockDevice | FileType::CharDevice)) => {
                let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
                if major >= MAJOR_LIMIT || minor >= MINOR_LIMIT {
                    let why = format!("device number {major}:{minor} is beyond what Linux knows");
                    return Err(Error::refused(&shown(&self.tree), why));
                }
                Kind::Device {
                    file_type,
                    major,
                    minor,
                }
            }
            Some(FileType::Fifo) => Kind::Fifo,
            Some(FileType::Socket) => Kind::Socket,
            None => {
                let why = format!("has an unknown file type (mode {:#o})", stat.st_mode);
                return Err(Error::refused(&shown(&self.tree), why));
            }
        };
        let unknown = &mut self.unknown;
        let tree = &self.tree;
        let set = self.xattrs.read(
            access,
            || shown(tree),
            |name| {
                unknown
                    .entry(name.into())
                    .or_insert_with(|| (shown(tree), 0))
                    .1 += 1;
            },
        )?;
        let attributes = Attributes {
            permissions: (stat.st_mode & 0o7777) as u16,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: mtime(stat),
            xattrs: self.tree.keep_xattrs(set),
        };
        self.tree.nodes.push(Node {
            attributes,
            parent,
            name,
            kind,
        });
        Ok(id)
    }
}

/// A line for each of the extended attributes that an image cannot hold.
fn left_out(unknown: &BTreeMap<Vec<u8>, (PathBuf, u64)>) -> impl Iterator<Item = String> + '_ {
    unknown.iter().map(|(name, (path, files))| {
        let name = crate::error::shown(Path::new(OsStr::from_bytes(name)));
        let path = crate::error::shown(path);
        let others = match files - 1 {
            0 => String::new(),
            1 => " (and of 1 other file)".into(),
            n => format!(" (and of {n} other files)"),
        };
        format!("{path}: extended attribute {name} left out{others}: an image has no room for its name space")
    })
}

fn file_type(stat: &Stat) -> Option<FileType> {
    FileType::of_mode((stat.st_mode & 0o170_000) as u16)
}

/// The names in a directory, `.` and `..` not among them.
fn list(fd: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    let mut buffer = vec![MaybeUninit::uninit(); LISTING];
    let mut listing = RawDir::new(fd, &mut buffer);
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_attributes_are_named_once() {
        let unknown = BTreeMap::from([
            (b"system.nfs4_acl".to_vec(), (PathBuf::from("tree/a"), 3)),
            (b"x\n\xff".to_vec(), (PathBuf::from("tree/b"), 1)),
        ]);
        let lines: Vec<_> = left_out(&unknown).collect();
        let because = "an image has no room for its name space";
        let first = "tree/a: extended attribute system.nfs4_acl left out (and of 2 other files)";
        assert_eq!(lines[0], format!("{first}: {because}"));
        assert_eq!(
            lines[1],
            format!("tree/b: extended attribute x\\n\u{fffd} left out: {because}")
        );
    }
}
