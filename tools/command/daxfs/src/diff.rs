// SPDX-License-Identifier: GPL-2.0-only

//! `diff`: compares an image with another, or with a directory.

mod directory;

pub use directory::Directory;

use clap::ValueEnum;
use daxfs_check::memory::Storage;
use daxfs_image::error::Result;
use daxfs_image::reader::{join, Reader, Xattr};
use daxfs_image::text::{mode, shown, time, type_name};
use daxfs_reader::{Content, FileType, Inode};
use std::collections::HashMap;

/// Bytes of content that are compared at a time.
const PIECE: usize = 256 << 10;

/// Facts about a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Facts {
    /// Type.
    pub kind: FileType,
    /// Permission bits.
    pub permissions: u16,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Modification time.
    pub mtime: (i64, u32),
    /// Bytes, 0 unless it is a regular file.
    pub size: u64,
    /// Numbers of a device.
    pub device: (u32, u32),
    /// Identifies the file on its side if it has several names.
    pub links: Option<(u64, u64)>,
}

/// Names and their files.
pub type Children<F> = Vec<(Box<[u8]>, F)>;

/// A tree that can be compared.
pub trait Side {
    /// A file of it.
    type File;

    /// Return the root.
    fn root(&self) -> Result<Self::File>;
    /// Return the facts about `file`.
    fn facts(&self, file: &Self::File) -> Facts;
    /// Return the entries of the directory `file`, sorted by name.
    fn children(&self, file: &Self::File, path: &[u8]) -> Result<Children<Self::File>>;
    /// Return the target of a symlink.
    fn target(&self, file: &Self::File, path: &[u8]) -> Result<Vec<u8>>;
    /// Return the extended attributes, sorted by name.
    fn xattrs(&self, file: &Self::File, path: &[u8]) -> Result<Vec<Xattr>>;
    /// Read content at `offset`. Return the length, which is `into`'s unless the file ends there.
    fn read(&self, file: &Self::File, path: &[u8], offset: u64, into: &mut [u8]) -> Result<usize>;
}

impl<S: Storage> Side for Reader<'_, S> {
    type File = Inode;

    fn root(&self) -> Result<Inode> {
        Reader::root(self)
    }

    fn facts(&self, inode: &Inode) -> Facts {
        Facts {
            kind: inode.file_type,
            permissions: inode.permissions(),
            owner: (inode.uid, inode.gid),
            mtime: (inode.mtime_sec, inode.mtime_nsec),
            size: match inode.content {
                Content::Regular { .. } | Content::MetadataOnly => inode.size,
                _ => 0,
            },
            device: match inode.content {
                Content::Device { major, minor } => (major, minor),
                _ => (0, 0),
            },
            links: (inode.nlink > 1).then_some((0, inode.ino.into())),
        }
    }

    fn children(&self, inode: &Inode, path: &[u8]) -> Result<Children<Inode>> {
        let Content::Directory(directory) = inode.content else {
            return Ok(Vec::new());
        };
        let children = Reader::children(self, &directory, path)?.into_iter();
        Ok(children.map(|child| (child.name, child.inode)).collect())
    }

    fn target(&self, inode: &Inode, path: &[u8]) -> Result<Vec<u8>> {
        Reader::target(self, inode, path)
    }

    fn xattrs(&self, inode: &Inode, path: &[u8]) -> Result<Vec<Xattr>> {
        let mut xattrs = Reader::xattrs(self, inode, path)?;
        xattrs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(xattrs)
    }

    fn read(&self, inode: &Inode, path: &[u8], offset: u64, into: &mut [u8]) -> Result<usize> {
        Reader::read(self, inode, offset, into).map_err(|error| self.fail(path, error))
    }
}

/// Aspects that a comparison can ignore.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Aspect {
    /// Owner and group
    Owner,
    /// Permission bits
    Mode,
    /// Modification times
    Time,
    /// Extended attributes
    Xattrs,
    /// Which names are hard links of each other
    Links,
}

/// Called with the path of a file and a difference.
type Report<'a> = dyn FnMut(&[u8], &str) -> Result<()> + 'a;

/// Compare two trees, and call `report` for each difference. Return true if they differ.
pub fn diff<A: Side, B: Side>(
    a: &A,
    b: &B,
    ignore: &[Aspect],
    report: &mut Report<'_>,
) -> Result<bool> {
    let mut comparison = Comparison {
        a,
        b,
        ignore,
        report,
        differ: false,
        there: HashMap::new(),
        back: HashMap::new(),
        buffers: (Vec::new(), Vec::new()),
    };
    // Directories to compare with their paths, the next one last.
    let mut pending = vec![(Vec::new(), a.root()?, b.root()?)];
    while let Some((path, first, second)) = pending.pop() {
        let path = if path.is_empty() { b"/".to_vec() } else { path };
        if !comparison.pair(&path, &first, &second)? {
            continue;
        }
        let mut inner = Vec::new();
        let mut right = b.children(&second, &path)?.into_iter().peekable();
        for (name, file) in a.children(&first, &path)? {
            while let Some((other, _)) = right.next_if(|(other, _)| *other < name) {
                comparison.only("second", &join(&path, &other))?;
            }
            let path = join(&path, &name);
            let Some((_, other)) = right.next_if(|(other, _)| *other == name) else {
                comparison.only("first", &path)?;
                continue;
            };
            let kinds = (a.facts(&file).kind, b.facts(&other).kind);
            if kinds == (FileType::Directory, FileType::Directory) {
                inner.push((path, file, other));
            } else {
                comparison.pair(&path, &file, &other)?;
            }
        }
        for (name, _) in right {
            comparison.only("second", &join(&path, &name))?;
        }
        pending.extend(inner.into_iter().rev());
    }
    Ok(comparison.differ)
}

struct Comparison<'a, A, B> {
    a: &'a A,
    b: &'a B,
    ignore: &'a [Aspect],
    report: &'a mut Report<'a>,
    differ: bool,
    /// Files with several names on one side, and their counterparts on the other.
    there: HashMap<(u64, u64), (u64, u64)>,
    back: HashMap<(u64, u64), (u64, u64)>,
    buffers: (Vec<u8>, Vec<u8>),
}

impl<A: Side, B: Side> Comparison<'_, A, B> {
    fn say(&mut self, path: &[u8], text: &str) -> Result<()> {
        self.differ = true;
        (self.report)(path, text)
    }

    fn ignores(&self, aspect: Aspect) -> bool {
        self.ignore.contains(&aspect)
    }

    fn only(&mut self, side: &str, path: &[u8]) -> Result<()> {
        self.say(path, &format!("only in the {side}"))
    }

    /// Compare two files; return whether they are of the same type.
    fn pair(&mut self, path: &[u8], first: &A::File, second: &B::File) -> Result<bool> {
        let (a, b) = (self.a.facts(first), self.b.facts(second));
        if a.kind != b.kind {
            let what = format!("type {} and {}", type_name(a.kind), type_name(b.kind));
            return self.say(path, &what).map(|()| false);
        }
        let symlink = a.kind == FileType::Symlink;
        // The mode of a symlink means nothing.
        if a.permissions != b.permissions && !self.ignores(Aspect::Mode) && !symlink {
            let (a, b) = (mode(a.kind, a.permissions), mode(b.kind, b.permissions));
            self.say(path, &format!("mode {a} and {b}"))?;
        }
        if a.owner != b.owner && !self.ignores(Aspect::Owner) {
            let ((a, b), (c, d)) = (a.owner, b.owner);
            self.say(path, &format!("owner {a}:{b} and {c}:{d}"))?;
        }
        if a.mtime != b.mtime && !self.ignores(Aspect::Time) {
            let (a, b) = (time(a.mtime.0, a.mtime.1), time(b.mtime.0, b.mtime.1));
            self.say(path, &format!("time {a} and {b}"))?;
        }
        if a.device != b.device {
            let ((a, b), (c, d)) = (a.device, b.device);
            self.say(path, &format!("device {a}:{b} and {c}:{d}"))?;
        }
        if !self.ignores(Aspect::Xattrs) {
            self.xattrs(path, first, second)?;
        }
        if a.kind != FileType::Directory && !self.ignores(Aspect::Links) {
            self.links(path, &a, &b)?;
        }
        match a.kind {
            FileType::Symlink => {
                let (a, b) = (self.a.target(first, path)?, self.b.target(second, path)?);
                if a != b {
                    let text = format!("target {} and {}", shown(&a), shown(&b));
                    self.say(path, &text)?;
                }
            }
            FileType::Regular if a.size != b.size => {
                self.say(path, &format!("size {} and {}", a.size, b.size))?;
            }
            FileType::Regular => self.content(path, first, second, a.size)?,
            _ => (),
        }
        Ok(true)
    }

    fn xattrs(&mut self, path: &[u8], first: &A::File, second: &B::File) -> Result<()> {
        let (a, b) = (self.a.xattrs(first, path)?, self.b.xattrs(second, path)?);
        let find = |set: &[Xattr], name: &[u8]| set.iter().position(|xattr| xattr.name == name);
        for xattr in &a {
            let how = match find(&b, &xattr.name) {
                None => "only in the first",
                Some(index) if b[index].value != xattr.value => "differs",
                Some(_) => continue,
            };
            self.xattr(path, &xattr.name, how)?;
        }
        for xattr in b.iter().filter(|xattr| find(&a, &xattr.name).is_none()) {
            self.xattr(path, &xattr.name, "only in the second")?;
        }
        Ok(())
    }

    fn xattr(&mut self, path: &[u8], name: &[u8], how: &str) -> Result<()> {
        let text = format!("extended attribute {} {how}", shown(name));
        self.say(path, &text)
    }

    /// Check that hard links on one side are hard links on the other. A file with other names
    /// outside the tree has a single name in an image.
    fn links(&mut self, path: &[u8], a: &Facts, b: &Facts) -> Result<()> {
        let same = match (a.links, b.links) {
            (Some(a), Some(b)) => {
                *self.there.entry(a).or_insert(b) == b && *self.back.entry(b).or_insert(a) == a
            }
            (Some(a), None) => self.there.insert(a, (u64::MAX, u64::MAX)).is_none(),
            (None, Some(b)) => self.back.insert(b, (u64::MAX, u64::MAX)).is_none(),
            (None, None) => true,
        };
        if same {
            return Ok(());
        }
        self.say(path, "hard links to other files")
    }

    fn content(&mut self, path: &[u8], first: &A::File, second: &B::File, size: u64) -> Result<()> {
        let (mut a, mut b) = std::mem::take(&mut self.buffers);
        a.resize(PIECE, 0);
        b.resize(PIECE, 0);
        let mut offset = 0;
        while offset < size {
            let length = (size - offset).min(PIECE as u64) as usize;
            let (a, b) = (&mut a[..length], &mut b[..length]);
            let found = (
                self.a.read(first, path, offset, a)?,
                self.b.read(second, path, offset, b)?,
            );
            if found != (length, length) {
                self.say(path, "size changed while it was compared")?;
                break;
            }
            if a != b {
                let at = a.iter().zip(&*b).position(|(a, b)| a != b).unwrap_or(0);
                let text = format!("content from byte {}", offset + at as u64);
                self.say(path, &text)?;
                break;
            }
            offset += length as u64;
        }
        self.buffers = (a, b);
        Ok(())
    }
}
