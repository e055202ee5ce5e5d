// SPDX-License-Identifier: GPL-2.0

//! Extended attributes of an inode.

use super::error::{Error, Problem, Result};
use super::inode::Inode;
use super::layout::{self, XattrPrefix};
use super::memory::{load, Memory};
use super::Image;
use core::mem::size_of;

/// Where one extended attribute stands in the image; every range has been checked against the xattr table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xattr {
    /// What its name starts with.
    pub prefix: XattrPrefix,
    /// Offset of the rest of the name in bytes.
    pub name: u64,
    /// Length of the rest of the name in bytes.
    pub name_len: u8,
    /// Offset of the value in bytes.
    pub value: u64,
    /// Length of the value in bytes.
    pub value_len: u32,
}

/// The extended attributes of one inode, in the order of (prefix, name).
pub struct Xattrs<'a, M> {
    memory: &'a M,
    /// Offset of the next entry.
    next: u64,
    /// End of the set.
    end: u64,
    /// Entries not yet seen.
    left: u32,
}

impl<'a, M: Memory> Image<'a, M> {
    /// The extended attributes of `inode`.
    ///
    /// # Errors
    ///
    /// [`Problem::Xattr`] when the set leaves the xattr table.
    pub fn xattrs(&self, inode: &Inode) -> Result<Xattrs<'a, M>> {
        let start = inode.xattrs;
        let mut xattrs = Xattrs {
            memory: self.memory,
            next: start,
            end: start,
            left: 0,
        };
        if start != 0 {
            let set: layout::XattrSet = load(self.memory, start)?;
            let length = u64::from(set.length.get());
            let head = size_of::<layout::XattrSet>() as u64;
            let table = &self.superblock.xattrs;
            if length < head || !table.holds(start - table.offset, length) {
                return Err(Error::new(Problem::Xattr, start, length));
            }
            xattrs.next = start + head;
            xattrs.end = start + length;
            xattrs.left = set.count.get();
        }
        Ok(xattrs)
    }
}

impl<M: Memory> Xattrs<'_, M> {
    fn load_next(&mut self) -> Result<Xattr> {
        let error = |value| Error::new(Problem::Xattr, self.next, value);
        let head = size_of::<layout::XattrEntry>() as u64;
        if self.end - self.next < head {
            return Err(error(self.end - self.next));
        }
        let raw: layout::XattrEntry = load(self.memory, self.next)?;
        let prefix = XattrPrefix::ALL
            .into_iter()
            .find(|&prefix| prefix as u8 == raw.prefix)
            .ok_or(error(raw.prefix.into()))?;
        let name = self.next + head;
        let value = name + u64::from(raw.name_len);
        // The last entry's padding may lie behind the set's length.
        let end = value + u64::from(raw.value_len.get());
        if end > self.end {
            return Err(error(raw.value_len.get().into()));
        }
        self.next = end.next_multiple_of(4).min(self.end);
        Ok(Xattr {
            prefix,
            name,
            name_len: raw.name_len,
            value,
            value_len: raw.value_len.get(),
        })
    }
}

impl<M: Memory> Iterator for Xattrs<'_, M> {
    type Item = Result<Xattr>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let next = self.load_next();
        if next.is_err() {
            self.left = 0;
        }
        Some(next)
    }
}
