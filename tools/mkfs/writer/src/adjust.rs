// SPDX-License-Identifier: GPL-2.0-only

//! Changes to the attributes of a tree: owners, permissions, times, labels.

use crate::contexts::Contexts;
use crate::error::Result;
use crate::mode::ModeChange;
use crate::tree::{Kind, NodeId, Tree, Xattr};
use daxfs_check::acl::List;
use daxfs_reader::layout::XattrPrefix;
use std::collections::HashMap;

/// A mapping of a range of user or group ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first id.
    pub from: u32,
    /// The id that replaces it.
    pub to: u32,
    /// Number of ids.
    pub count: u32,
}

/// Changes to the attributes of a whole tree.
#[derive(Default)]
pub struct Adjust {
    /// Owner of all files.
    pub uid: Option<u32>,
    /// Group of all files.
    pub gid: Option<u32>,
    /// Mappings of owners. Other ids are unchanged.
    pub uid_ranges: Vec<IdRange>,
    /// Mappings of groups.
    pub gid_ranges: Vec<IdRange>,
    /// Changes of permissions of all files except symlinks.
    pub mode: Option<ModeChange>,
    /// Modification time of all files.
    pub mtime: Option<(i64, u32)>,
    /// Set it only for newer files.
    pub clamp: bool,
    /// SELinux labels by path.
    pub contexts: Option<Contexts>,
}

impl IdRange {
    fn map(ranges: &[IdRange], id: u32) -> u32 {
        let range = ranges
            .iter()
            .find(|range| id >= range.from && id - range.from < range.count);
        range.map_or(id, |range| range.to + (id - range.from))
    }
}

/// Why a text is not an [`IdRange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdRangeError {
    /// It is not made of two or three numbers.
    #[error("use FROM:TO or FROM:TO:COUNT")]
    Form,
    /// It has no ids, or ids above the largest.
    #[error("the range is empty or goes beyond the largest id")]
    Bounds,
}

impl std::str::FromStr for IdRange {
    type Err = IdRangeError;

    fn from_str(text: &str) -> std::result::Result<Self, IdRangeError> {
        let numbers: Option<Vec<u32>> = text.split(':').map(|n| n.parse().ok()).collect();
        let (from, to, count) = match numbers.as_deref() {
            Some(&[from, to]) => (from, to, 1),
            Some(&[from, to, count]) => (from, to, count),
            _ => return Err(IdRangeError::Form),
        };
        if count == 0
            || from.checked_add(count - 1).is_none()
            || to.checked_add(count - 1).is_none()
        {
            return Err(IdRangeError::Bounds);
        }
        Ok(IdRange { from, to, count })
    }
}

impl Adjust {
    /// Change `tree`.
    ///
    /// Return [`crate::Error::Refused`] when a label cannot be found.
    pub fn apply(&self, tree: &mut Tree) -> Result<()> {
        if self.mode.is_some() {
            self.change_modes(tree);
        }
        for node in &mut tree.nodes {
            let attributes = &mut node.attributes;
            attributes.uid = self
                .uid
                .unwrap_or_else(|| IdRange::map(&self.uid_ranges, attributes.uid));
            attributes.gid = self
                .gid
                .unwrap_or_else(|| IdRange::map(&self.gid_ranges, attributes.gid));
            if let Some(mtime) = self.mtime {
                if !self.clamp || attributes.mtime > mtime {
                    attributes.mtime = mtime;
                }
            }
        }
        match &self.contexts {
            Some(contexts) => label(tree, contexts),
            None => Ok(()),
        }
    }
}

impl Adjust {
    /// Change permission bits, and access control lists with them, as chmod(2) does.
    fn change_modes(&self, tree: &mut Tree) {
        let Some(mode) = &self.mode else {
            return;
        };
        for id in 0..tree.nodes.len() {
            let node = &mut tree.nodes[id];
            if matches!(node.kind, Kind::Symlink(_)) {
                continue;
            }
            let directory = matches!(node.kind, Kind::Directory(_));
            let permissions = mode.apply(node.attributes.permissions, directory);
            node.attributes.permissions = permissions;
            let mut set = tree.xattrs[node.attributes.xattrs as usize].clone();
            let access = |xattr: &&mut Xattr| xattr.prefix == XattrPrefix::AclAccess;
            let Some(xattr) = set.iter_mut().find(access) else {
                continue;
            };
            if let Ok(mut list) = List::parse(&xattr.value) {
                list.chmod(permissions);
                xattr.value = list.to_bytes().into();
                tree.nodes[id].attributes.xattrs = tree.keep_xattrs(set);
            }
        }
    }
}

/// Set the label of each file by its path.
fn label(tree: &mut Tree, contexts: &Contexts) -> Result<()> {
    // New sets, by the set without the label and the label.
    let mut made: HashMap<(u32, Option<&str>), u32> = HashMap::new();
    for id in 0..tree.nodes.len() as NodeId {
        let path = tree.relative_path(id);
        let node = tree.node(id);
        let label = contexts.find(&path, node.kind.file_type())?;
        let old = node.attributes.xattrs;
        let set = match made.get(&(old, label)) {
            Some(&set) => set,
            None => {
                let mut set = tree.xattrs[old as usize].clone();
                set.retain(|xattr| {
                    !(xattr.prefix == XattrPrefix::Security && *xattr.name == *b"selinux")
                });
                if let Some(label) = label {
                    // The kernel's own labels end with NUL.
                    let mut value = label.as_bytes().to_vec();
                    value.push(0);
                    set.push(Xattr {
                        prefix: XattrPrefix::Security,
                        name: (*b"selinux").into(),
                        value: value.into(),
                    });
                }
                let set = tree.keep_xattrs(set);
                made.insert((old, label), set);
                set
            }
        };
        tree.nodes[id as usize].attributes.xattrs = set;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::IdRange;

    #[test]
    fn ranges() {
        let ranges: Vec<IdRange> = ["100000:0:65536", "5:6"]
            .map(|text| text.parse().unwrap())
            .into();
        let map = |id| IdRange::map(&ranges, id);
        assert_eq!(
            [map(0), map(5), map(100_000), map(165_535), map(165_536)],
            [0, 6, 0, 65_535, 165_536]
        );
        for wrong in ["", "1", "1:2:0", "1:2:3:4", "a:b", "4294967295:0:2", "-1:0"] {
            assert!(wrong.parse::<IdRange>().is_err(), "{wrong}");
        }
    }
}
