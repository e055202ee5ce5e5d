// SPDX-License-Identifier: GPL-2.0-only

//! Changes to the attributes of a tree: owners and times.

use crate::tree::Tree;

/// Changes to the attributes of a whole tree.
#[derive(Default)]
pub struct Adjust {
    /// Owner of all files.
    pub uid: Option<u32>,
    /// Group of all files.
    pub gid: Option<u32>,
    /// Modification time of all files.
    pub mtime: Option<(i64, u32)>,
    /// Set it only for newer files.
    pub clamp: bool,
}

impl Adjust {
    /// Change `tree`.
    pub fn apply(&self, tree: &mut Tree) {
        for node in &mut tree.nodes {
            let attributes = &mut node.attributes;
            attributes.uid = self.uid.unwrap_or(attributes.uid);
            attributes.gid = self.gid.unwrap_or(attributes.gid);
            if let Some(mtime) = self.mtime {
                if !self.clamp || attributes.mtime > mtime {
                    attributes.mtime = mtime;
                }
            }
        }
    }
}
