// SPDX-License-Identifier: GPL-2.0

//! Reads a directory into a [`Tree`].

use crate::build::Builder;
use crate::directory::{Directory, PATH_MAX};
use crate::exclude::Exclude;
use crate::image::FileType;
use crate::origin::{Bytes, Origin};
use crate::tree::{Attributes, Identity, Kind, Name, Node, NodeId, Place, Tree, ROOT};
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

/// How to read a directory.
#[derive(Default)]
pub struct Options<'a> {
    /// The directory that the image will be written to, which must not lie in the tree.
    pub output: Option<Identity>,
    /// Leaves directories on which something else is mounted empty.
    pub one_file_system: bool,
    /// What to leave out.
    pub exclude: Option<&'a Exclude>,
}

/// Reads the directory at `path`. What cannot be stored but is no reason to give up goes to `warn`, a line each.
/// `output` is as in [`Options`].
///
/// # Errors
///
/// [`Error::Io`] for what cannot be read, [`Error::Changed`] and [`Error::Refused`].
pub fn scan(path: &Path, output: Option<Identity>, mut warn: impl FnMut(String)) -> Result<Tree> {
    let mut builder = Builder::new();
    let options = Options {
        output,
        ..Options::default()
    };
    scan_into(&mut builder, path, &options, &mut warn)?;
    Ok(builder.finish())
}

/// The same, on top of what is in `builder`.
pub(crate) fn scan_into(
    builder: &mut Builder,
    path: &Path,
    options: &Options<'_>,
    warn: &mut dyn FnMut(String),
) -> Result<()> {
    let merging = !builder.is_empty();
    let origin = builder.tree.origins.len() as u32;
    builder.tree.origins.push(Origin::directory(path)?);
    let mut scanner = Scanner {
        builder,
        origin,
        merging,
        options,
        directories: HashMap::new(),
        links: HashMap::new(),
        xattrs: XattrReader::new(),
        unknown: BTreeMap::new(),
    };
    scanner.root(path)?;
    left_out(&scanner.unknown).for_each(warn);
    Ok(())
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

struct Scanner<'a> {
    builder: &'a mut Builder,
    /// Number of the origin in the tree.
    origin: u32,
    /// Whether the tree had files before.
    merging: bool,
    options: &'a Options<'a>,
    /// Every directory seen.
    directories: HashMap<NodeId, Identity>,
    /// Files with several names.
    links: HashMap<Identity, NodeId>,
    xattrs: XattrReader,
    /// Extended attributes that cannot be stored: a file that has it, and how many do.
    unknown: BTreeMap<Vec<u8>, (PathBuf, u64)>,
}

/// A file that is about to be added.
struct Found<'a> {
    parent: NodeId,
    name: Name,
    stat: &'a Stat,
    /// Its path for the system.
    access: &'a Path,
    /// Its path for people.
    path: &'a Path,
}

impl Scanner<'_> {
    fn tree(&self) -> &Tree {
        &self.builder.tree
    }

    /// The directory in which everything is.
    fn directory_handle(&self) -> Option<&Directory> {
        match &self.tree().origins[self.origin as usize].bytes {
            Bytes::Directory { directory, .. } => Some(directory),
            Bytes::File(_) | Bytes::Nothing => None,
        }
    }

    /// The path of a directory, for people.
    fn shown(&self, id: NodeId) -> PathBuf {
        self.tree().origins[self.origin as usize].show(&self.tree().relative_path(id))
    }

    fn root(&mut self, path: &Path) -> Result<()> {
        let directory = self.open(ROOT, Path::new(""), path)?;
        let stat = fstat(&directory).map_err(|error| Error::io(path, "examine", error))?;
        // The path itself may be a symlink, which "." behind it resolves.
        let attributes = self.attributes(&stat, &path.join("."), path)?;
        self.enter(ROOT, &stat, path)?;
        self.builder.describe(ROOT, attributes, self.origin);
        // Each directory is listed when its number comes off the stack; none is open meanwhile.
        let mut pending = vec![ROOT];
        while let Some(id) = pending.pop() {
            self.directory(id, &mut pending)?;
        }
        Ok(())
    }

    fn open(&self, id: NodeId, relative: &Path, path: &Path) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = match self.directory_handle() {
            Some(directory) => directory.open_below(relative, flags),
            None => Err(Errno::NOTDIR),
        };
        opened.map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP if id != ROOT => {
                Error::changed(path, "removed or replaced")
            }
            error => Error::io(path, "open the directory", error),
        })
    }

    /// Lists a directory and adds what is in it.
    fn directory(&mut self, id: NodeId, pending: &mut Vec<NodeId>) -> Result<()> {
        let path = self.shown(id);
        let relative = self.tree().relative_path(id);
        let fd = self.open(id, &relative, &path)?;
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
            let bytes = OsStr::from_bytes(name.to_bytes());
            let (child, access) = (path.join(bytes), access.join(bytes));
            let stat = match statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Err(Error::changed(&child, "removed")),
                other => other.map_err(|error| Error::io(&child, "examine", error))?,
            };
            if let Some(exclude) = self.options.exclude {
                let directory = file_type(&stat) == Some(FileType::Directory);
                if exclude.matches(&relative.join(bytes), directory) {
                    continue;
                }
            }
            let found = Found {
                parent: id,
                name: self.builder.tree.keep_name(name.to_bytes()),
                stat: &stat,
                access: &access,
                path: &child,
            };
            let node = self.child(&found, &fd, name, pending)?;
            entries.push(self.tree().entry(found.name, node));
        }
        let stat = fstat(&fd).map_err(|error| Error::io(&path, "examine", error))?;
        if self.directories.get(&id) != Some(&identity(&stat)) {
            return Err(Error::changed(&path, "another directory took its place"));
        }
        if mtime(&stat) != self.tree().node(id).attributes.mtime {
            return Err(Error::changed(&path, "entries were added or removed"));
        }
        if self.merging {
            for entry in entries {
                self.builder.set(id, entry.name, entry.node);
            }
        } else {
            self.builder.fill(id, entries);
        }
        Ok(())
    }

    /// Adds a file, `name` of the directory that is open as `fd`, unless it is there under another name.
    fn child(
        &mut self,
        found: &Found<'_>,
        fd: &OwnedFd,
        name: &CStr,
        pending: &mut Vec<NodeId>,
    ) -> Result<NodeId> {
        let stat = found.stat;
        if file_type(stat) == Some(FileType::Directory) {
            return self.subdirectory(found, pending);
        }
        let linked = stat.st_nlink > 1;
        if linked {
            if let Some(&node) = self.links.get(&identity(stat)) {
                return Ok(node);
            }
        }
        let kind = self.kind(found, fd, name)?;
        let node = self.add(found, kind)?;
        if linked {
            self.links.insert(identity(stat), node);
        }
        Ok(node)
    }

    /// Adds a directory, or what it has to one that is there already.
    fn subdirectory(&mut self, found: &Found<'_>, pending: &mut Vec<NodeId>) -> Result<NodeId> {
        self.refuse_loop(found.parent, found.stat, found.path)?;
        let present = if self.merging {
            let name = self.tree().name(&found.name).to_vec();
            self.builder.find(found.parent, &name)
        } else {
            None
        };
        let node = match present.filter(|&present| self.builder.is_directory(present)) {
            Some(present) => {
                let attributes = self.attributes(found.stat, found.access, found.path)?;
                self.builder.describe(present, attributes, self.origin);
                present
            }
            None => self.add(found, Kind::Directory(Vec::new()))?,
        };
        self.enter(node, found.stat, found.path)?;
        let parent = self.directories.get(&found.parent);
        let mounted = parent.is_none_or(|parent| parent.dev != found.stat.st_dev);
        if !(self.options.one_file_system && mounted) {
            pending.push(node);
        }
        Ok(node)
    }

    /// Notes that `id` is the directory in `stat`.
    fn enter(&mut self, id: NodeId, stat: &Stat, path: &Path) -> Result<()> {
        if self.options.output == Some(identity(stat)) {
            let why = "the image would be written into the tree it is made of; write it elsewhere";
            return Err(Error::refused(path, why));
        }
        self.directories.insert(id, identity(stat));
        Ok(())
    }

    /// A directory below itself, as bind mounts make it, would never end.
    fn refuse_loop(&self, parent: NodeId, stat: &Stat, path: &Path) -> Result<()> {
        let mut above = parent;
        loop {
            if self.directories.get(&above) == Some(&identity(stat)) {
                let same = crate::error::shown(&self.shown(above));
                let why = format!("is the same directory as {same} above it; unmount it first");
                return Err(Error::refused(path, why));
            }
            if above == ROOT {
                return Ok(());
            }
            above = self.tree().node(above).parent;
        }
    }

    /// What a file other than a directory is.
    fn kind(&self, found: &Found<'_>, fd: &OwnedFd, name: &CStr) -> Result<Kind> {
        let stat = found.stat;
        Ok(match file_type(stat) {
            Some(FileType::Regular) => Kind::Regular {
                size: stat.st_size as u64,
                place: Place::File {
                    identity: identity(stat),
                    mtime: mtime(stat),
                },
            },
            Some(FileType::Symlink) => {
                let target = readlinkat(fd, name, Vec::new());
                let target =
                    target.map_err(|error| Error::io(found.path, "read the symlink", error))?;
                Kind::Symlink(target.into_bytes().into())
            }
            Some(file_type @ (FileType::BlockDevice | FileType::CharDevice)) => {
                let number = (major(stat.st_rdev), minor(stat.st_rdev));
                device(file_type, number).map_err(|why| Error::refused(found.path, why))?
            }
            Some(FileType::Fifo) => Kind::Fifo,
            Some(FileType::Socket) => Kind::Socket,
            Some(FileType::Directory) => Kind::Directory(Vec::new()),
            None => {
                let why = format!("has an unknown file type (mode {:#o})", stat.st_mode);
                return Err(Error::refused(found.path, why));
            }
        })
    }

    /// Adds an inode.
    fn add(&mut self, found: &Found<'_>, kind: Kind) -> Result<NodeId> {
        let attributes = self.attributes(found.stat, found.access, found.path)?;
        self.builder.add(Node {
            attributes,
            parent: found.parent,
            name: found.name,
            origin: self.origin,
            kind,
        })
    }

    /// The attributes of a file, extended ones included.
    fn attributes(&mut self, stat: &Stat, access: &Path, path: &Path) -> Result<Attributes> {
        let unknown = &mut self.unknown;
        let set = self.xattrs.read(
            access,
            || path.into(),
            |name| {
                unknown
                    .entry(name.into())
                    .or_insert_with(|| (path.into(), 0))
                    .1 += 1;
            },
        )?;
        Ok(Attributes {
            permissions: (stat.st_mode & 0o7777) as u16,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: mtime(stat),
            xattrs: self.builder.tree.keep_xattrs(set),
        })
    }
}

/// A device node with that major and minor number, or why there is none.
pub(crate) fn device(
    file_type: FileType,
    (major, minor): (u32, u32),
) -> std::result::Result<Kind, String> {
    if major >= MAJOR_LIMIT || minor >= MINOR_LIMIT {
        return Err(format!(
            "device number {major}:{minor} is beyond what Linux knows"
        ));
    }
    Ok(Kind::Device {
        file_type,
        major,
        minor,
    })
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
