// SPDX-License-Identifier: GPL-2.0

//! Checks the sets of extended attributes.

use super::Checker;
use crate::image::layout::{self, XattrPrefix, XATTR_ALIGN};
use crate::image::memory::load;
use crate::image::{Inode, Xattr};
use crate::memory::Storage;
use std::mem::size_of;
use std::ops::ControlFlow;

impl<S: Storage> Checker<'_, '_, S> {
    /// Each set once, however many inodes share it. Sets must not overlap.
    pub(super) fn check_xattrs(&mut self) -> ControlFlow<()> {
        let mut sets = std::mem::take(&mut self.xattrs);
        sets.sort_unstable();
        sets.dedup_by_key(|set| set.0);
        let table = self.image.superblock().xattrs;
        let mut end = table.offset;
        for (offset, ino) in sets {
            if offset < end {
                self.rule("sets of extended attributes overlap", offset, ino.into())?;
                continue;
            }
            self.zeros(end, offset)?;
            let Some(inode) = self.load_again(ino)? else {
                continue;
            };
            match load::<_, layout::XattrSet>(self.image.memory(), offset) {
                Ok(set) => {
                    // The reader refuses a set that reaches beyond the table.
                    self.set(&inode, offset, &set)?;
                    let length = u64::from(set.length.get());
                    let padded = (offset + length).next_multiple_of(XATTR_ALIGN);
                    let limit = padded.min(table.end());
                    self.zeros(offset + length, limit)?;
                    end = limit;
                }
                Err(error) => self.report(error)?,
            }
        }
        self.zeros(end, table.end())
    }

    fn set(&mut self, inode: &Inode, offset: u64, set: &layout::XattrSet) -> ControlFlow<()> {
        let xattrs = match self.image.xattrs(inode) {
            Ok(xattrs) => xattrs,
            Err(error) => return self.report(error),
        };
        let mut end = offset + size_of::<layout::XattrSet>() as u64;
        let mut last: Option<(XattrPrefix, Vec<u8>)> = None;
        for xattr in xattrs {
            let xattr = match xattr {
                Ok(xattr) => xattr,
                Err(error) => return self.report(error),
            };
            let head = xattr.name - size_of::<layout::XattrEntry>() as u64;
            self.zeros(end, head)?;
            end = xattr.value + u64::from(xattr.value_len);
            let mut name = vec![0; xattr.name_len.into()];
            if let Err(error) = self.image.memory().read(xattr.name, &mut name) {
                return self.report(error);
            }
            self.entry(head, &xattr, &name)?;
            let before = last
                .as_ref()
                .is_none_or(|last| (last.0, last.1.as_slice()) < (xattr.prefix, name.as_slice()));
            if !before {
                let prefix = xattr.prefix as u64;
                self.rule("extended attributes out of order", head, prefix)?;
            }
            last = Some((xattr.prefix, name));
        }
        if end - offset != u64::from(set.length.get()) {
            let length = set.length.get().into();
            self.rule(
                "set of extended attributes of another length",
                offset,
                length,
            )?;
        }
        if set.count.get() == 0 {
            self.rule("empty set of extended attributes", offset, 0)?;
        }
        ControlFlow::Continue(())
    }

    fn entry(&mut self, offset: u64, xattr: &Xattr, name: &[u8]) -> ControlFlow<()> {
        let whole = !xattr.prefix.text().ends_with('.');
        if whole != name.is_empty() || name.contains(&0) {
            let length = xattr.name_len.into();
            self.rule("invalid name of an extended attribute", offset, length)?;
        }
        match load::<_, layout::XattrEntry>(self.image.memory(), offset) {
            Ok(raw) if raw.reserved.get() == 0 => ControlFlow::Continue(()),
            Ok(raw) => {
                let value = raw.reserved.get().into();
                self.rule(
                    "unused field of an extended attribute is not zero",
                    offset,
                    value,
                )
            }
            Err(error) => self.report(error),
        }
    }
}
