// SPDX-License-Identifier: GPL-2.0-only

//! Changes to the attributes of a tree: owners, times, labels.

use crate::contexts::Contexts;
use crate::error::Result;
use crate::tree::{NodeId, Tree, Xattr};
use daxfs_reader::layout::XattrPrefix;
use std::collections::HashMap;

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
    /// SELinux labels by path.
    pub contexts: Option<Contexts>,
}

impl Adjust {
    /// Change `tree`.
    ///
    /// Return [`crate::Error::Refused`] when a label cannot be found.
    pub fn apply(&self, tree: &mut Tree) -> Result<()> {
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
        match &self.contexts {
            Some(contexts) => label(tree, contexts),
            None => Ok(()),
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
