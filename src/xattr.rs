// SPDX-License-Identifier: GPL-2.0

//! Extended attributes and access control lists of a mounted image.

use crate::image::layout::XattrPrefix;
use crate::image::{Error as ImageError, Problem, XATTR_NAME_MAX};
use crate::super_block::{report, DaxFs};
use crate::vfs::{AclKind, Errno, INode, NameList, ValueBuffer};
use kernel::prelude::*;

/// See [`crate::vfs::FileSystem::xattr`].
pub(crate) fn get(
    inode: &INode<DaxFs>,
    prefix: XattrPrefix,
    name: &[u8],
    value: &mut ValueBuffer<'_>,
) -> Result<usize> {
    let set = inode.data().xattrs;
    if set == 0 {
        return Err(Errno::NoData.into());
    }
    let sb = inode.super_block();
    let refuse = |error| report(sb, inode.ino(), error);
    let access = sb.data().region().access()?;
    let image = sb.data().image(&access);
    let found = image.xattr(set, prefix, name).map_err(refuse)?;
    let xattr = found.ok_or(Error::from(Errno::NoData))?;
    let length = xattr.value_len as usize;
    if let Some(room) = value.room(length)? {
        image.xattr_value(&xattr, room).map_err(refuse)?;
    }
    Ok(length)
}

/// See [`crate::vfs::FileSystem::list_xattrs`].
pub(crate) fn list(inode: &INode<DaxFs>, list: &mut NameList<'_>) -> Result {
    let set = inode.data().xattrs;
    if set == 0 {
        return Ok(());
    }
    let sb = inode.super_block();
    let refuse = |error| report(sb, inode.ino(), error);
    let access = sb.data().region().access()?;
    let image = sb.data().image(&access);
    let mut buffer = [0; XATTR_NAME_MAX];
    for xattr in image.xattr_set(set).map_err(refuse)? {
        let xattr = xattr.map_err(refuse)?;
        if list.shows(xattr.prefix) {
            let name = image.xattr_name(&xattr, &mut buffer).map_err(refuse)?;
            list.add(xattr.prefix, name)?;
        }
    }
    Ok(())
}

/// See [`crate::vfs::FileSystem::acl`].
pub(crate) fn acl(
    inode: &INode<DaxFs>,
    kind: AclKind,
    take: impl FnOnce(&[u8]) -> Result,
) -> Result {
    let set = inode.data().xattrs;
    if set == 0 {
        return Ok(());
    }
    let sb = inode.super_block();
    let refuse = |error| report(sb, inode.ino(), error);
    let prefix = match kind {
        AclKind::Access => XattrPrefix::AclAccess,
        AclKind::Default => XattrPrefix::AclDefault,
    };
    let (xattr, value) = {
        let access = sb.data().region().access()?;
        let image = sb.data().image(&access);
        let Some(xattr) = image.xattr(set, prefix, b"").map_err(refuse)? else {
            return Ok(());
        };
        // 64 KiB at most.
        let mut value = KVVec::from_elem(0, xattr.value_len as usize, GFP_KERNEL)?;
        image.xattr_value(&xattr, &mut value).map_err(refuse)?;
        (xattr, value)
    };
    take(&value).map_err(|error| match error {
        ENOMEM => ENOMEM,
        // No list, or one that grants nobody knows what.
        _ => refuse(ImageError::new(
            Problem::Xattr,
            xattr.value,
            xattr.value_len.into(),
        )),
    })
}
