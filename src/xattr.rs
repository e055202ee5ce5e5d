// SPDX-License-Identifier: GPL-2.0-only

//! Reads extended attributes and access control lists.

use crate::image::layout::XattrPrefix;
use crate::image::XATTR_NAME_MAX;
use crate::inode::Object;
use crate::mount::{
    report,
    DaxFs, //
};
use crate::prelude::*;

impl XattrOperations for DaxFs {
    const XATTR_PREFIXES: [(&'static CStr, u8); 3] = [
        (c"user.", XattrPrefix::User as u8),
        (c"trusted.", XattrPrefix::Trusted as u8),
        (c"security.", XattrPrefix::Security as u8),
    ];

    fn get_xattr(
        inode: &INode<Self>,
        prefix: u8,
        name: &[u8],
        value: &mut XattrBuffer<'_>,
    ) -> Result {
        let set = inode.data().xattrs;
        if set == 0 {
            return Err(Errno::NoData.into());
        }
        let sb = inode.super_block();
        let refuse = |error| report(sb, inode.ino(), error);
        let access = sb.data().backing.region.access()?;
        let image = sb.data().backing.image(&access);
        let prefix = XattrPrefix::from_number(prefix).ok_or(EINVAL)?;
        let found = image.xattr(set, prefix, name).map_err(refuse)?;
        let xattr = found.ok_or(Error::from(Errno::NoData))?;
        if let Some(room) = value.reserve(xattr.value_len as usize)? {
            image.xattr_value(&xattr, room).map_err(refuse)?;
        }
        Ok(())
    }

    fn list_xattrs(inode: &INode<Self>, list: &mut XattrBuffer<'_>) -> Result {
        let set = inode.data().xattrs;
        if set == 0 {
            return Ok(());
        }
        let sb = inode.super_block();
        let refuse = |error| report(sb, inode.ino(), error);
        let access = sb.data().backing.region.access()?;
        let image = sb.data().backing.image(&access);
        let mut buffer = [0; XATTR_NAME_MAX];
        for xattr in image.xattr_set(set).map_err(refuse)? {
            let xattr = xattr.map_err(refuse)?;
            let prefix = xattr.prefix.text();
            if list.shows(prefix) {
                let name = image.xattr_name(&xattr, &mut buffer).map_err(refuse)?;
                list.add(prefix, name)?;
            }
        }
        Ok(())
    }

    fn get_acl(inode: &INode<Self>, is_default: bool) -> Result<Option<PosixAcl>> {
        let set = inode.data().xattrs;
        if set == 0 {
            return Ok(None);
        }
        let sb = inode.super_block();
        let refuse = |error| report(sb, inode.ino(), error);
        let invalid = |xattr: &image::Xattr| {
            image::Error::new(Problem::Xattr, xattr.value, xattr.value_len.into())
        };
        let prefix = if is_default {
            XattrPrefix::AclDefault
        } else {
            XattrPrefix::AclAccess
        };
        let (xattr, value) = {
            let access = sb.data().backing.region.access()?;
            let image = sb.data().backing.image(&access);
            let Some(xattr) = image.xattr(set, prefix, b"").map_err(refuse)? else {
                return Ok(None);
            };
            // setxattr(2) accepts default lists for directories only.
            let directory = matches!(inode.data().object, Object::Directory(_));
            if is_default && !directory {
                return Err(refuse(invalid(&xattr)));
            }
            // A value has at most 64 KiB.
            let mut value = KVVec::from_elem(0, xattr.value_len as usize, GFP_KERNEL)?;
            image.xattr_value(&xattr, &mut value).map_err(refuse)?;
            (xattr, value)
        };
        match PosixAcl::from_xattr(sb, &value) {
            Ok(acl) => Ok(acl),
            Err(error @ (ENOMEM | EACCES)) => Err(error),
            Err(_) => Err(refuse(invalid(&xattr))),
        }
    }
}
