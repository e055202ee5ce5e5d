// SPDX-License-Identifier: GPL-2.0-only

//! Hard links of an image.

use daxfs_files::memory::Storage;
use daxfs_image::error::Result;
use daxfs_image::reader::Reader;
use daxfs_reader::{FileType, Inode};
use std::collections::HashMap;

/// Finds hard links.
pub struct Links {
    /// First path of each inode with several names.
    names: HashMap<u32, Box<[u8]>>,
    /// A bit for each extracted inode.
    seen: Vec<u64>,
}

impl Links {
    /// Creates an empty set for the image of `reader`.
    pub fn new<S: Storage>(reader: &Reader<'_, S>) -> Self {
        let words = reader.image.superblock().inode_count() / 64 + 1;
        Links {
            names: HashMap::new(),
            seen: vec![0; words as usize],
        }
    }

    /// Returns the first path of `inode` if it was met before; `path` is the present one.
    pub fn meet<S: Storage>(
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
            // Copying it for each name could fill any disk.
            None => Err(reader.refuse(
                path,
                "has more names than links; the image is damaged: restore it from a copy, or make it again",
            )),
        }
    }
}
