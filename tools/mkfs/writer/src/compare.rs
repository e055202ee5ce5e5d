// SPDX-License-Identifier: GPL-2.0-only

//! Compares an image with its tree, through the kernel's reader.

use crate::duplicates::Duplicates;
use crate::plan::Plan;
use crate::tree::{read_xattrs, Kind, Node, NodeId, Place, Tree, ROOT};
use daxfs_check::memory::Storage;
use daxfs_reader::{self as image, Content, FileType, Image, Inode};
use std::collections::VecDeque;

/// How an image differs from its tree, for people.
type Mismatch = String;

/// Compare all names, inodes and attributes of an image with its `tree`, and the offsets of data
/// with the `plan`, in which `duplicates` share data.
///
/// Links between names and order within directories are what [`check`](daxfs_check::check) looks
/// at, the data themselves [`make`](fn@crate::make).
pub fn compare<S: Storage>(
    image: &Image<'_, S>,
    tree: &Tree,
    plan: &Plan,
    duplicates: &Duplicates,
) -> Result<(), Mismatch> {
    let mut comparison = Comparison {
        image,
        tree,
        plan,
        duplicates,
        inodes: vec![0; tree.nodes.len()],
        nodes: vec![None; image.superblock().inode_count() as usize],
        pending: VecDeque::new(),
    };
    if comparison.nodes.len() != tree.nodes.len() {
        let (image, tree) = (comparison.nodes.len(), tree.nodes.len());
        return Err(format!("{image} inodes instead of {tree}"));
    }
    let root = image.root().map_err(|error| error.to_string())?;
    comparison.pair(ROOT, &root)?;
    while let Some((node, inode)) = comparison.pending.pop_front() {
        comparison.entries(node, &inode)?;
    }
    Ok(())
}

struct Comparison<'a, S> {
    image: &'a Image<'a, S>,
    tree: &'a Tree,
    plan: &'a Plan,
    duplicates: &'a Duplicates,
    /// The inode number of each node, or 0 before the node is visited.
    inodes: Vec<u32>,
    /// The node of each inode.
    nodes: Vec<Option<NodeId>>,
    /// Directories that have not been entered.
    pending: VecDeque<(NodeId, Inode)>,
}

impl<S: Storage> Comparison<'_, S> {
    fn differs(&self, node: NodeId, what: &'static str) -> Mismatch {
        let path = crate::error::shown(&self.tree.path(node));
        format!("{path} reads back with another {what}; the disk or the memory may be faulty")
    }

    fn unreadable(&self, node: NodeId, error: image::Error) -> Mismatch {
        let path = crate::error::shown(&self.tree.path(node));
        format!("{path} does not read back: {error}")
    }

    /// Compare a directory's entries.
    fn entries(&mut self, node: NodeId, inode: &Inode) -> Result<(), Mismatch> {
        let (Kind::Directory(entries), Content::Directory(directory)) =
            (&self.tree.node(node).kind, inode.content)
        else {
            return Err(self.differs(node, "type"));
        };
        if entries.len() as u64 != u64::from(directory.entries) {
            return Err(self.differs(node, "number of entries"));
        }
        for entry in entries {
            let found = self.image.lookup(&directory, self.tree.name(&entry.name));
            let found = found.map_err(|error| self.unreadable(entry.node, error))?;
            let Some(found) = found else {
                return Err(self.differs(entry.node, "name"));
            };
            let child = self.image.inode(found.ino);
            let child = child.map_err(|error| self.unreadable(entry.node, error))?;
            self.pair(entry.node, &child)?;
        }
        Ok(())
    }

    /// Check that `node` and `inode`, which have the same name, belong together under all names.
    fn pair(&mut self, node: NodeId, inode: &Inode) -> Result<(), Mismatch> {
        let known = self.inodes[node as usize];
        let owner = &mut self.nodes[inode.ino as usize - 1];
        match *owner {
            None if known == 0 => {
                *owner = Some(node);
                self.inodes[node as usize] = inode.ino;
                self.inode(node, inode)
            }
            Some(owner) if owner == node && known == inode.ino => Ok(()),
            _ => Err(self.differs(node, "inode")),
        }
    }

    fn inode(&mut self, id: NodeId, inode: &Inode) -> Result<(), Mismatch> {
        let node = self.tree.node(id);
        let attributes = &node.attributes;
        let same = [
            ("mode", inode.permissions() == attributes.permissions),
            (
                "owner",
                inode.uid == attributes.uid && inode.gid == attributes.gid,
            ),
            (
                "time",
                (inode.mtime_sec, inode.mtime_nsec) == attributes.mtime,
            ),
            ("type", inode.file_type == node.kind.file_type()),
        ];
        if let Some((what, _)) = same.iter().find(|(_, same)| !same) {
            return Err(self.differs(id, what));
        }
        let found = read_xattrs(self.image, inode).map_err(|error| self.unreadable(id, error))?;
        if found != self.tree.xattrs[attributes.xattrs as usize] {
            return Err(self.differs(id, "set of extended attributes"));
        }
        match self.content(id, node, inode) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.differs(id, "content")),
            Err(error) => Err(self.unreadable(id, error)),
        }
    }

    /// Return true if the content is the same; of a regular file, whether it is where the plan has
    /// it.
    fn content(&mut self, id: NodeId, node: &Node, inode: &Inode) -> image::Result<bool> {
        Ok(match (&node.kind, inode.content) {
            (Kind::Directory(_), Content::Directory(_)) => {
                self.pending.push_back((id, *inode));
                true
            }
            (Kind::Regular { size, .. }, Content::Regular { data }) => {
                *size == inode.size && (*size == 0 || self.is_at(id, data))
            }
            (Kind::Regular { size, place }, Content::MetadataOnly) => {
                *place == Place::Nowhere && *size == inode.size
            }
            (Kind::Symlink(expected), Content::Symlink { target, length }) => {
                let mut found = vec![0; length.into()];
                self.image.symlink(target, &mut found)?;
                **expected == *found
            }
            (Kind::Device { major, minor, .. }, Content::Device { major: a, minor: b }) => {
                (*major, *minor) == (a, b)
            }
            (Kind::Fifo, Content::Special) => inode.file_type == FileType::Fifo,
            (Kind::Socket, Content::Special) => inode.file_type == FileType::Socket,
            _ => false,
        })
    }

    /// Return true if the plan has the data of file `id` at `offset`.
    fn is_at(&self, id: NodeId, offset: u64) -> bool {
        let extents = &self.plan.extents;
        let index = extents.binary_search_by_key(&offset, |extent| extent.offset);
        let of = |node| self.duplicates.representative(node);
        index.is_ok_and(|index| of(extents[index].node) == of(id))
    }
}
