// SPDX-License-Identifier: GPL-2.0-only

//! Checks the sets of extended attributes.

use super::Checker;
use crate::acl::List;
use daxfs_files::memory::Storage;
use daxfs_reader::layout::{self, XattrPrefix, XATTR_ALIGN};
use daxfs_reader::memory::load;
use daxfs_reader::{FileType, Inode, Xattr, XATTR_NAME_MAX};
use std::mem::{offset_of, size_of};
use std::ops::ControlFlow;

/// The access control lists in a set.
#[derive(Default)]
struct Lists {
    /// The permission bits that the access list implies.
    access: Option<u16>,
    /// Whether there is a default list.
    default: bool,
}

impl<S: Storage> Checker<'_, '_, S> {
    /// Checks each set once, even if many inodes share it. Sets must not overlap.
    pub(super) fn check_xattrs(&mut self) -> ControlFlow<()> {
        let mut sets = std::mem::take(&mut self.xattrs);
        sets.sort_unstable();
        let table = self.image.superblock().xattrs;
        let mut end = table.offset;
        for group in sets.chunk_by(|a, b| a.0 == b.0) {
            let (offset, ino) = group[0];
            if offset < end {
                self.rule("sets of extended attributes overlap", offset, ino.into())?;
                continue;
            }
            self.zeros(end, offset)?;
            let Some(inode) = self.load_inode(ino)? else {
                continue;
            };
            let set = load::<_, layout::XattrSet>(self.image.memory(), offset);
            let Some(set) = self.ok(set)? else {
                continue;
            };
            // The reader refuses a set that extends beyond the table.
            let lists = self.set(&inode, offset, &set)?;
            self.lists(&lists, group)?;
            let length = u64::from(set.length.get());
            let padded = (offset + length).next_multiple_of(XATTR_ALIGN);
            let limit = padded.min(table.end());
            self.zeros(offset + length, limit)?;
            end = limit;
        }
        self.zeros(end, table.end())
    }

    /// Checks a set on its own. Returns its access control lists.
    fn set(
        &mut self,
        inode: &Inode,
        offset: u64,
        set: &layout::XattrSet,
    ) -> ControlFlow<(), Lists> {
        let mut lists = Lists::default();
        let xattrs = self.image.xattr_set(inode.xattrs);
        let Some(xattrs) = self.ok(xattrs)? else {
            return ControlFlow::Continue(lists);
        };
        let mut end = offset + size_of::<layout::XattrSet>() as u64;
        let mut last: Option<(XattrPrefix, Vec<u8>)> = None;
        for xattr in xattrs {
            let Some(xattr) = self.ok(xattr)? else {
                return ControlFlow::Continue(lists);
            };
            let head = xattr.name - size_of::<layout::XattrEntry>() as u64;
            self.zeros(end, head)?;
            end = xattr.value + u64::from(xattr.value_len);
            let mut name = vec![0; xattr.name_len.into()];
            let read = self.image.memory().read(xattr.name, &mut name);
            if self.ok(read)?.is_none() {
                return ControlFlow::Continue(lists);
            }
            self.entry(head, &xattr, &name)?;
            self.list(head, &xattr, &mut lists)?;
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
        ControlFlow::Continue(lists)
    }

    /// Checks an attribute if it is an access control list, and adds the list to `lists`.
    fn list(&mut self, offset: u64, xattr: &Xattr, lists: &mut Lists) -> ControlFlow<()> {
        let access = match xattr.prefix {
            XattrPrefix::AclAccess => true,
            XattrPrefix::AclDefault => false,
            _ => return ControlFlow::Continue(()),
        };
        let mut value = vec![0; xattr.value_len as usize];
        if let Err(error) = self.image.memory().read(xattr.value, &mut value) {
            return self.report(error);
        }
        match List::parse(&value) {
            Ok(list) if list.is_empty() => (),
            Ok(list) if access => lists.access = Some(list.permissions()),
            Ok(_) => lists.default = true,
            Err(_) => {
                let length = xattr.value_len.into();
                self.rule("invalid access control list", offset, length)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Checks that every inode of a group may have these lists and has the permission bits that the
    /// access list implies.
    fn lists(&mut self, lists: &Lists, group: &[(u64, u32)]) -> ControlFlow<()> {
        if lists.access.is_none() && !lists.default {
            return ControlFlow::Continue(());
        }
        for &(_, ino) in group {
            let Some(inode) = self.load_inode(ino)? else {
                continue;
            };
            let field = offset_of!(layout::Inode, mode) as u64;
            let offset = self.inode_offset(ino) + field;
            let mode = inode.permissions();
            if inode.file_type == FileType::Symlink {
                self.rule("symlink with an access control list", offset, mode.into())?;
            } else if lists.default && inode.file_type != FileType::Directory {
                let what = "default access control list of a file that is not a directory";
                self.rule(what, offset, mode.into())?;
            }
            if lists.access.is_some_and(|bits| bits != mode & 0o777) {
                let what = "permissions differ from the access control list";
                self.rule(what, offset, mode.into())?;
            }
        }
        ControlFlow::Continue(())
    }

    fn entry(&mut self, offset: u64, xattr: &Xattr, name: &[u8]) -> ControlFlow<()> {
        let prefix = xattr.prefix.text();
        let whole = !prefix.ends_with('.');
        // Linux's limit includes the prefix.
        let is_long = prefix.len() + name.len() > XATTR_NAME_MAX;
        if whole != name.is_empty() || name.contains(&0) || is_long {
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
