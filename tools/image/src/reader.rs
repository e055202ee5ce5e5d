// SPDX-License-Identifier: GPL-2.0-only

//! Find and walk files of an image. The image may contain anything: the kernel's reader loads every
//! record, and a walk visits each directory at most once.

use crate::error::{Error, Result};
use crate::text::shown;
use daxfs_files::memory::{Storage, ZEROS};
use daxfs_reader::{
    self as image, Content, Directory, FileType, FindError, Image, Inode, XATTR_NAME_MAX,
};
use std::borrow::Cow;

/// Bytes of content that are read together.
pub const PIECE: usize = 1 << 20;

/// Reads an image. Its errors start with the names of the image and the file.
pub struct Reader<'a, S> {
    /// The image.
    pub image: Image<'a, S>,
    name: &'a str,
}

/// A directory entry with its inode.
#[derive(Clone)]
pub struct Child {
    /// The name.
    pub name: Box<[u8]>,
    /// The inode.
    pub inode: Inode,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xattr {
    /// The whole name.
    pub name: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// A step of a walk.
pub enum Event<'a> {
    /// A directory, before its entries.
    Enter(&'a Inode),
    /// Anything else.
    File(&'a Inode),
    /// The end of a directory.
    Leave(&'a Inode),
}

/// Called for each step of a walk, with the path and the name in its directory.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8], Event<'_>) -> Result<()> + 'a;

impl<'a, S: Storage> Reader<'a, S> {
    /// Return a reader of `image`, which messages call `name`.
    pub fn new(image: Image<'a, S>, name: &'a str) -> Self {
        Reader { image, name }
    }

    /// Return the message for an `error` with the file `path`.
    pub fn fail(&self, path: &[u8], error: image::Error) -> Error {
        Error::image(self.name, path, error)
    }

    /// Return the message for an unsuitable `path`.
    pub fn refuse(&self, path: &[u8], why: impl Into<Cow<'static, str>>) -> Error {
        Error::refused(format!("{}: {}", self.name, shown(path)), why)
    }

    /// Return the root directory.
    pub fn root(&self) -> Result<Inode> {
        self.image.root().map_err(|error| self.fail(b"", error))
    }

    /// Return the inode at `path` as a process sees it whose root is the image's: `.`, `..` and
    /// symlinks on the way are followed, a symlink at the end if `follow`.
    pub fn find(&self, path: &[u8], follow: bool) -> Result<Inode> {
        self.image.find(path, follow).map_err(|error| {
            let why = match error {
                FindError::NotFound => "no such file in the image; 'daxfs ls' lists them",
                FindError::NotDirectory => "not a directory on the way; check the path",
                FindError::TrailingSlash => "not a directory; leave out the slash at its end",
                FindError::Loop => "too many symbolic links; they lead in circles",
                FindError::Image(error) => return self.fail(path, error),
            };
            self.refuse(path, why)
        })
    }

    /// Return the entries of `directory`, which has the path `path`, sorted by name.
    pub fn children(&self, directory: &Directory, path: &[u8]) -> Result<Vec<Child>> {
        let mut children = Vec::new();
        let mut entries = self.image.entries(directory, 0);
        while let Some(entry) = entries.next() {
            let (entry, name) = entry.map_err(|error| self.fail(path, error))?;
            let inode = self.image.inode(entry.ino).and_then(|inode| {
                self.image.check_child(directory, &entry, &inode)?;
                Ok(inode)
            });
            let inode = inode.map_err(|error| self.fail(&join(path, name), error))?;
            children.push(Child {
                name: name.into(),
                inode,
            });
        }
        children.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = children
            .windows(2)
            .find(|pair| pair[0].name == pair[1].name)
        {
            let why = "the name appears twice; the image is damaged: restore it from a copy, or make it again";
            return Err(self.refuse(&join(path, &pair[0].name), why));
        }
        Ok(children)
    }

    /// Visit `start`, which has the path `path`, and all below, in the order of names, directories
    /// before their content. `visit` gets the path, the name in its directory, and the inode.
    pub fn walk(&self, start: &Inode, path: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        let mut path = path.to_vec();
        let first = Child {
            name: path
                .rsplit(|&byte| byte == b'/')
                .next()
                .unwrap_or_default()
                .into(),
            inode: *start,
        };
        let Content::Directory(directory) = start.content else {
            return visit(&path, &first.name, Event::File(start));
        };
        visit(&path, &first.name, Event::Enter(start))?;
        let children = self.children(&directory, &path)?.into_iter();
        // The directories that are open: each with its entries that are left and the length of its
        // path.
        let mut open = vec![(first, children, path.len())];
        while let Some((directory, children, length)) = open.last_mut() {
            path.truncate(*length);
            let Some(child) = children.next() else {
                visit(&path, &directory.name, Event::Leave(&directory.inode))?;
                open.pop();
                continue;
            };
            append(&mut path, &child.name);
            match child.inode.content {
                Content::Directory(inner) => {
                    visit(&path, &child.name, Event::Enter(&child.inode))?;
                    let children = self.children(&inner, &path)?.into_iter();
                    open.push((child, children, path.len()));
                }
                _ => visit(&path, &child.name, Event::File(&child.inode))?,
            }
        }
        Ok(())
    }

    /// Return the extended attributes of `inode`, which has the path `path`.
    pub fn xattrs(&self, inode: &Inode, path: &[u8]) -> Result<Vec<Xattr>> {
        let read = || {
            let mut all: Vec<Xattr> = Vec::new();
            let mut last = None;
            let mut buffer = [0; XATTR_NAME_MAX];
            for xattr in self.image.xattr_set(inode.xattrs)? {
                let xattr = xattr?;
                let end = self.image.xattr_name(&xattr, &mut buffer)?;
                // Each name once, in the order of the format.
                let place = (xattr.prefix, end.to_vec());
                if last.as_ref().is_some_and(|last| *last >= place) {
                    let length = xattr.name_len.into();
                    return Err(image::Error::new(image::Problem::Xattr, xattr.name, length));
                }
                let name = [xattr.prefix.text().as_bytes(), end].concat();
                last = Some(place);
                let mut value = vec![0; xattr.value_len as usize];
                self.image.xattr_value(&xattr, &mut value)?;
                all.push(Xattr { name, value });
            }
            Ok(all)
        };
        read().map_err(|error| self.fail(path, error))
    }

    /// Return the target of the symlink `inode`, nothing for other files.
    pub fn target(&self, inode: &Inode, path: &[u8]) -> Result<Vec<u8>> {
        let Content::Symlink { target, length } = inode.content else {
            return Ok(Vec::new());
        };
        let mut text = vec![0; length.into()];
        self.image
            .symlink(target, &mut text)
            .map_err(|error| self.fail(path, error))?;
        Ok(text)
    }

    /// Return the offset of the data of `inode` in the image, or `None` if it is not a regular file.
    fn start(&self, inode: &Inode) -> image::Result<Option<u64>> {
        match inode.content {
            Content::Regular { data } => Ok(Some(data)),
            Content::MetadataOnly => Err(inode.no_data(self.image.superblock())),
            _ => Ok(None),
        }
    }

    /// Read content of the regular file `inode` from `offset` on and return the number of
    /// bytes. The rest of `into` is unchanged if the file ends there.
    pub fn read(&self, inode: &Inode, offset: u64, into: &mut [u8]) -> image::Result<usize> {
        let Some(data) = self.start(inode)? else {
            return Ok(0);
        };
        let left = inode.size.saturating_sub(offset).min(into.len() as u64) as usize;
        if left == 0 {
            return Ok(0);
        }
        self.image.memory().read(data + offset, &mut into[..left])?;
        Ok(left)
    }

    /// Pass the content of the regular file `inode` to `sink`, piece by piece with the offset of
    /// each. Holes between pieces are left out, others passed as zeros. Stop when `sink` fails.
    pub fn data(
        &self,
        inode: &Inode,
        path: &[u8],
        buffer: &mut [u8],
        sink: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let start = self.start(inode);
        let Some(data) = start.map_err(|error| self.fail(path, error))? else {
            return Ok(());
        };
        let failed = |error| self.fail(path, error);
        let memory = self.image.memory();
        let mut at = 0;
        while at < inode.size {
            let left = inode.size - at;
            // Do not look for holes in a single read.
            if left > buffer.len() as u64 {
                let next = memory.data(data + at).map_err(failed)? - data;
                if next > at {
                    at = next.min(inode.size);
                    continue;
                }
            }
            let length = left.min(buffer.len() as u64) as usize;
            let piece = &mut buffer[..length];
            memory.read(data + at, piece).map_err(failed)?;
            sink(at, piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Do as [`Reader::data`], but pass zeros for holes.
    pub fn content(
        &self,
        inode: &Inode,
        path: &[u8],
        buffer: &mut [u8],
        sink: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        if inode.file_type != FileType::Regular {
            return Ok(());
        }
        let mut at = 0;
        self.data(inode, path, buffer, &mut |offset, piece| {
            zeros(&mut at, offset, sink)?;
            at += piece.len() as u64;
            sink(offset, piece)
        })?;
        zeros(&mut at, inode.size, sink)
    }
}

/// Pass zeros from `at` to `end` to `sink`.
fn zeros(at: &mut u64, end: u64, sink: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    while *at < end {
        let length = (end - *at).min(ZEROS.len() as u64);
        sink(*at, &ZEROS[..length as usize])?;
        *at += length;
    }
    Ok(())
}

/// Return `path/name`.
pub fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = path.to_vec();
    append(&mut path, name);
    path
}

fn append(path: &mut Vec<u8>, name: &[u8]) {
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// Return the size of a buffer for reading `inode`.
pub fn buffer_for(inode: &Inode) -> usize {
    inode.size.clamp(1, PIECE as u64) as usize
}
