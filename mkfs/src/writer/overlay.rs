// SPDX-License-Identifier: GPL-2.0-only

//! Extended attributes that overlayfs obeys and does not show.

use crate::writer::tree::XattrSet;
use daxfs_reader::layout::XattrPrefix;
use daxfs_reader::OwnedXattr;

/// Prefix of their names, after `trusted.`.
pub const OVERLAY: &[u8] = b"overlay.";

/// Returns the name of `xattr` after [`OVERLAY`], if overlayfs obeys the attribute.
pub fn own_name(xattr: &OwnedXattr) -> Option<&[u8]> {
    let own = xattr.prefix == XattrPrefix::Trusted;
    xattr.name.strip_prefix(OVERLAY).filter(|_| own)
}

/// Returns the value of overlayfs's attribute `name` in `set`.
pub fn value<'a>(set: &'a XattrSet, name: &str) -> Option<&'a [u8]> {
    let found = set
        .iter()
        .find(|xattr| own_name(xattr) == Some(name.as_bytes()));
    found.map(|xattr| &*xattr.value)
}

/// Returns the attributes in `set` that overlayfs shows: those of others, and escaped ones.
pub fn visible(set: &XattrSet) -> XattrSet {
    let shown = set.iter().filter_map(|xattr| match own_name(xattr) {
        None => Some(xattr.clone()),
        Some(name) => name.starts_with(OVERLAY).then(|| OwnedXattr {
            name: name.into(),
            ..xattr.clone()
        }),
    });
    shown.collect()
}
