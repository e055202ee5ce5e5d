// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Reads the extended attributes of an inode.

use super::error::{
    Error,
    Problem,
    Result, //
};
use super::layout::{
    self,
    XattrPrefix,
    XATTR_COUNT_MAX,
    XATTR_VALUE_MAX, //
};
use super::memory::{
    load,
    Memory, //
};
use super::Image;
use core::mem::offset_of;

/// Longest name after the prefix, in bytes.
pub const XATTR_NAME_MAX: usize = u8::MAX as usize;

/// An extended attribute. All ranges have been checked against the xattr table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xattr {
    /// Prefix of the name.
    pub prefix: XattrPrefix,
    /// Offset of the rest of the name in the image.
    pub name: u64,
    /// Length of the rest of the name in bytes.
    pub name_len: u8,
    /// Offset of the value in the image.
    pub value: u64,
    /// Length of the value in bytes, at most [`XATTR_VALUE_MAX`].
    pub value_len: u32,
}

/// An iterator over the extended attributes of an inode, in the order of (prefix, name).
pub struct Xattrs<'a, M> {
    memory: &'a M,
    /// Offset of the next entry.
    next: u64,
    /// End of the set.
    end: u64,
    /// Number of entries left.
    left: u32,
}

impl<'a, M: Memory> Image<'a, M> {
    /// Returns the set of extended attributes at offset `start`, the
    /// [`xattrs`](super::Inode::xattrs) of an inode; an empty one for 0.
    ///
    /// # Errors
    ///
    /// [`Problem::Xattr`] if the set exceeds the xattr table, or has more attributes than Linux can
    /// list; [`Problem::Unreadable`].
    pub fn xattr_set(&self, start: u64) -> Result<Xattrs<'a, M>> {
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
            let inside = start
                .checked_sub(table.offset)
                .is_some_and(|relative| table.holds(relative, length));
            if length < head || !inside {
                return Err(Error::new(Problem::Xattr, start, length));
            }
            let count = set.count.get();
            if count > XATTR_COUNT_MAX {
                let field = offset_of!(layout::XattrSet, count) as u64;
                return Err(Error::new(Problem::Xattr, start + field, count.into()));
            }
            xattrs.next = start + head;
            xattrs.end = start + length;
            xattrs.left = count;
        }
        Ok(xattrs)
    }

    /// Finds the attribute `name`, without its prefix, in the [set](Self::xattr_set) at offset
    /// `start`.
    ///
    /// # Errors
    ///
    /// The problem of an attribute that was loaded.
    pub fn xattr(&self, start: u64, prefix: XattrPrefix, name: &[u8]) -> Result<Option<Xattr>> {
        let mut buffer = [0; XATTR_NAME_MAX];
        for xattr in self.xattr_set(start)? {
            let xattr = xattr?;
            // The prefixes ascend.
            if xattr.prefix as u8 > prefix as u8 {
                break;
            }
            if xattr.prefix == prefix
                && usize::from(xattr.name_len) == name.len()
                && *self.xattr_name(&xattr, &mut buffer)? == *name
            {
                return Ok(Some(xattr));
            }
        }
        Ok(None)
    }

    /// Reads the name of `xattr` after its prefix.
    ///
    /// # Errors
    ///
    /// [`Problem::Xattr`] if the name is invalid: it contains a NUL, is empty, or follows a prefix
    /// that is a whole name; [`Problem::Unreadable`].
    pub fn xattr_name<'b>(
        &self,
        xattr: &Xattr,
        buffer: &'b mut [u8; XATTR_NAME_MAX],
    ) -> Result<&'b [u8]> {
        let name = &mut buffer[..usize::from(xattr.name_len)];
        self.memory.read(xattr.name, name)?;
        if name.is_empty() != xattr.prefix.is_whole() || name.contains(&0) {
            let length = xattr.name_len.into();
            return Err(Error::new(Problem::Xattr, xattr.name, length));
        }
        Ok(name)
    }

    /// Reads the value of `xattr` into `buffer`, which has its length.
    ///
    /// # Errors
    ///
    /// [`Problem::Unreadable`].
    pub fn xattr_value(&self, xattr: &Xattr, buffer: &mut [u8]) -> Result<()> {
        self.memory.read(xattr.value, buffer)
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
        let prefix = XattrPrefix::from_number(raw.prefix).ok_or(error(raw.prefix.into()))?;
        let name = self.next + head;
        let value = name + u64::from(raw.name_len);
        // The padding of the last entry may be after the set.
        let end = value + u64::from(raw.value_len.get());
        if end > self.end || raw.value_len.get() > XATTR_VALUE_MAX {
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
