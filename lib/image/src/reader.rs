// SPDX-License-Identifier: GPL-2.0-only

//! Finds and walks files of an image. The image may contain anything: the kernel's reader loads
//! every record, and a walk visits each directory at most once.

use crate::error::{Error, Result};
use crate::text::shown;
use daxfs_files::digest::hex;
use daxfs_files::memory::{Storage, ZEROS};
use daxfs_reader::{
    self as image, layout, Content, Directory, FindError, Image, Inode, OwnedXattr, Problem,
};
use std::borrow::Cow;

/// Bytes of content to read at a time.
pub const PIECE: usize = 1 << 20;

/// Reads an image. Its errors start with the names of the image and the file.
pub struct Reader<'a, S> {
    /// The image.
    pub image: Image<'a, S>,
    name: &'a str,
    packs: Packs<'a, S>,
}

/// An image's packs, in the order of its table: `None` if missing, an error if unusable.
pub type Packs<'a, S> = Vec<std::result::Result<Option<Reader<'a, S>>, &'a Error>>;

/// A directory entry with its inode.
#[derive(Clone)]
pub struct Child {
    /// The name.
    pub name: Box<[u8]>,
    /// The inode.
    pub inode: Inode,
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
    /// Returns a reader of `image`, called `name` in messages.
    pub fn new(image: Image<'a, S>, name: &'a str) -> Self {
        Reader {
            image,
            name,
            packs: Vec::new(),
        }
    }

    /// Returns this reader with the packs of the image.
    pub fn with_packs(self, packs: Packs<'a, S>) -> Self {
        Reader { packs, ..self }
    }

    /// Returns the size of the data of the image and its packs.
    pub fn data_length(&self) -> u64 {
        let packs = self.packs.iter().flatten().flatten();
        let packs = packs.map(Reader::data_length);
        let own = self.image.superblock().data.length;
        packs.fold(own, u64::saturating_add)
    }

    /// Returns the error for a failed access to the file `path`.
    pub fn fail(&self, path: &[u8], error: image::Error) -> Error {
        Error::image(self.name, path, error)
    }

    /// Returns the error for an unsuitable `path`.
    pub fn refuse(&self, path: &[u8], why: impl Into<Cow<'static, str>>) -> Error {
        Error::refused(format!("{}: {}", self.name, shown(path)), why)
    }

    /// Fails if another image has replaced this one or is about to, so that reads may mix both.
    pub fn check_replaced(&self) -> Result<()> {
        let why = if self.image.is_replaced() {
            "another image took its place while it was read; try again"
        } else if self.image.memory().is_modified() {
            "was modified while it was read; try again when it is complete"
        } else {
            return Ok(());
        };
        Err(Error::refused(self.name, why))
    }

    /// Returns the table of packs.
    pub fn packs(&self) -> Result<Vec<layout::Pack>> {
        let packs = self.image.packs();
        packs.map_err(|error| self.fail(b"", error))
    }

    /// Returns the root directory.
    pub fn root(&self) -> Result<Inode> {
        self.image.root().map_err(|error| self.fail(b"", error))
    }

    /// Returns the inode at `path` as a process with the image's root sees it: follows `.`, `..`
    /// and symlinks on the way, and a symlink at the end if `follow`.
    pub fn find(&self, path: &[u8], follow: bool) -> Result<Inode> {
        self.image.find(path, follow).map_err(|error| {
            let is_there = || follow && self.image.find(path, false).is_ok();
            let why = match error {
                FindError::NotFound if is_there() => {
                    "is a symlink to a file that the image lacks; 'daxfs stat' shows it"
                }
                FindError::NotFound => "no such file in the image; 'daxfs ls' lists them",
                FindError::NotDirectory => "not a directory on the way; check the path",
                FindError::TrailingSlash => "not a directory; leave out the slash at its end",
                FindError::Loop => "too many symbolic links; they lead in circles",
                FindError::Image(error) => return self.fail(path, error),
            };
            self.refuse(path, why)
        })
    }

    /// Returns the entries of `directory`, whose path is `path`, sorted by name.
    pub fn children(&self, directory: &Directory, path: &[u8]) -> Result<Vec<Child>> {
        let mut children = Vec::new();
        let mut entries = self.image.entries(directory, 0);
        while let Some(entry) = entries.next() {
            let (entry, name) = entry.map_err(|error| self.fail(path, error))?;
            let inode = self.image.entry_inode(directory, &entry);
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

    /// Visits `start` at `path` and everything below in the order of names, directories before
    /// their content. `visit` receives the path, the name in its directory, and the inode.
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
        let Some(directory) = start.directory() else {
            return visit(&path, &first.name, Event::File(start));
        };
        visit(&path, &first.name, Event::Enter(start))?;
        let children = self.children(&directory, &path)?.into_iter();
        // The open directories, each with its remaining entries and the length of its path.
        let mut open = vec![(first, children, path.len())];
        while let Some((directory, children, length)) = open.last_mut() {
            path.truncate(*length);
            let Some(child) = children.next() else {
                visit(&path, &directory.name, Event::Leave(&directory.inode))?;
                open.pop();
                continue;
            };
            append(&mut path, &child.name);
            let Some(inner) = child.inode.directory() else {
                visit(&path, &child.name, Event::File(&child.inode))?;
                continue;
            };
            visit(&path, &child.name, Event::Enter(&child.inode))?;
            let children = self.children(&inner, &path)?.into_iter();
            open.push((child, children, path.len()));
        }
        self.check_replaced()
    }

    /// Returns the extended attributes of `inode`, whose path is `path`.
    pub fn xattrs(&self, inode: &Inode, path: &[u8]) -> Result<Vec<OwnedXattr>> {
        let xattrs = self.image.xattrs(inode);
        xattrs.map_err(|error| self.fail(path, error))
    }

    /// Returns the target of the symlink `inode`, empty for other files.
    pub fn target(&self, inode: &Inode, path: &[u8]) -> Result<Vec<u8>> {
        let target = self.image.target(inode);
        Ok(target
            .map_err(|error| self.fail(path, error))?
            .unwrap_or_default())
    }

    /// Returns the reader of the pack with this index, or `refuse`'s error for its description.
    pub fn pack(&self, index: u32, refuse: impl Fn(String) -> Error) -> Result<&Self> {
        match self.packs.get(index as usize) {
            Some(Ok(Some(pack))) => Ok(pack),
            Some(Err(error)) => Err(refuse(format!("a pack that cannot be used: {error}"))),
            Some(Ok(None)) | None => {
                let record = self.image.pack(index);
                let sha256 = hex(&record.map_err(|error| self.fail(b"", error))?.sha256);
                Err(refuse(format!(
                    "the pack {sha256}, which is missing; name its file with --pack"
                )))
            }
        }
    }

    /// Returns the reader that has the data of `inode`, whose path is `path`: this one or a pack's.
    /// Also returns the inode there, and the path for messages.
    pub fn source<'s>(
        &'s self,
        inode: &Inode,
        path: &'s [u8],
    ) -> Result<(&'s Self, Inode, &'s [u8])> {
        let Content::InPack { pack: index, .. } = inode.content else {
            return Ok((self, *inode, path));
        };
        let no_pack = |why: String| self.refuse(path, format!("its content is in {why}"));
        let pack = self.pack(index, no_pack)?;
        let (memory, superblock) = (pack.image.memory(), pack.image.superblock());
        let found = self
            .image
            .source(inode, |_| Some(Image::new(memory, superblock)));
        match found {
            Ok((_, original)) => Ok((pack, original, b"")),
            Err(error) if error.problem == Problem::Unreadable => Err(pack.fail(b"", error)),
            Err(error) => Err(self.fail(path, error)),
        }
    }

    /// Reads content of the regular file `inode`, whose path is `path`, at `offset`. Returns the
    /// number of bytes: less than `into.len()` at the end of the file, 0 for other files.
    pub fn read(&self, inode: &Inode, path: &[u8], offset: u64, into: &mut [u8]) -> Result<usize> {
        let (reader, inode, path) = self.source(inode, path)?;
        let read = reader.image.read(&inode, offset, into);
        let length = read.map_err(|error| reader.fail(path, error))?;
        reader.check_replaced().map(|()| length)
    }

    /// Passes the content of the regular file `inode` to `sink`, piece by piece, each with its
    /// offset. Skips holes between pieces and passes other holes as zeros. Stops when `sink` fails.
    pub fn data(
        &self,
        inode: &Inode,
        path: &[u8],
        buffer: &mut [u8],
        sink: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let (reader, inode, path) = self.source(inode, path)?;
        let failed = |error| reader.fail(path, error);
        let start = inode.data(reader.image.superblock());
        let Some(data) = start.map_err(failed)? else {
            return Ok(());
        };
        let memory = reader.image.memory();
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
        reader.check_replaced()
    }

    /// Passes the regular file `inode`'s content to `sink`, with zeros for holes. Stops if `sink`
    /// fails.
    pub fn content(
        &self,
        inode: &Inode,
        path: &[u8],
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let (mut buffer, mut at) = (vec![0; buffer_for(inode)], 0);
        self.data(inode, path, &mut buffer, &mut |offset, piece| {
            zeros(offset - at, sink)?;
            at = offset + piece.len() as u64;
            sink(piece)
        })?;
        zeros(inode.size - at, sink)
    }
}

fn zeros(mut left: u64, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    while left > 0 {
        let piece = &ZEROS[..left.min(ZEROS.len() as u64) as usize];
        sink(piece)?;
        left -= piece.len() as u64;
    }
    Ok(())
}

/// Returns `path/name`.
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

/// Returns the size of a buffer for reading `inode`.
pub fn buffer_for(inode: &Inode) -> usize {
    inode.size.clamp(1, PIECE as u64) as usize
}
