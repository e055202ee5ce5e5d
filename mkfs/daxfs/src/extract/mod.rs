// SPDX-License-Identifier: GPL-2.0-only

//! `extract`: extract an image to a directory or a tar archive.

mod attributes;
mod cursor;
mod dir;
mod pax;
mod tar;

pub use dir::to_directory;
pub use tar::{to_tar, unwritten};

use crate::error::Result;
use crate::reader::Reader;
use crate::text::shown;
use daxfs_check::memory::Storage;
use daxfs_reader::{FileType, Inode};
use std::collections::{BTreeMap, HashMap};

/// How to extract.
#[derive(Clone, Copy)]
pub struct Options {
    /// Give files their owners.
    pub owner: bool,
}

/// What could not be restored: each reason with the first file and how many there are.
#[derive(Default)]
pub struct Losses(BTreeMap<String, (Vec<u8>, u64)>);

impl Losses {
    /// Record that `what` of the file `path` could not be restored.
    fn add(&mut self, what: String, path: &[u8]) {
        self.0.entry(what).or_insert_with(|| (path.to_vec(), 0)).1 += 1;
    }

    /// Return a line for each.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|(what, (path, files))| {
            let others = match files - 1 {
                0 => String::new(),
                1 => " (and 1 other file)".into(),
                n => format!(" (and {n} other files)"),
            };
            format!("{}: {what}{others}", shown(path))
        })
    }
}

/// Finds hard links.
struct Links {
    /// First path of each inode with several names.
    names: HashMap<u32, Box<[u8]>>,
    /// A bit for each inode that has been extracted.
    seen: Vec<u64>,
}

impl Links {
    fn new<S: Storage>(reader: &Reader<'_, S>) -> Self {
        let words = reader.image.superblock().inode_count() / 64 + 1;
        Links {
            names: HashMap::new(),
            seen: vec![0; words as usize],
        }
    }

    /// Return the first path of `inode`, if it has been met before; `path` is its path here.
    fn meet<S: Storage>(
        &mut self,
        reader: &Reader<'_, S>,
        inode: &Inode,
        path: &[u8],
    ) -> Result<Option<&[u8]>> {
        if inode.file_type == FileType::Directory {
            return Ok(None);
        }
        let (word, bit) = (inode.ino as usize / 64, inode.ino % 64);
        let seen = (self.seen[word] >> bit) & 1 != 0;
        self.seen[word] |= 1 << bit;
        if !seen {
            if inode.nlink > 1 {
                self.names.insert(inode.ino, path.into());
            }
            return Ok(None);
        }
        match self.names.get(&inode.ino) {
            Some(first) => Ok(Some(first)),
            // A copy for each name could fill any disk.
            None => Err(reader.refuse(
                path,
                "has more names than links; the image is damaged: restore it from a copy, or make it again",
            )),
        }
    }
}
