// SPDX-License-Identifier: GPL-2.0-only

//! Builds a [`Tree`] from one or more inputs. Files of later inputs replace those of earlier ones.

use crate::writer::tree::{Attributes, Entry, Kind, Name, Node, NodeId, Tree, ROOT};
use daxfs_files::{shown_path, Error, Losses, Result};
use hashbrown::HashTable;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Attributes of a directory that no input describes; its time becomes that of its newest entry.
pub const IMPLIED: Attributes = Attributes {
    permissions: 0o755,
    uid: 0,
    gid: 0,
    mtime: (0, 0),
    xattrs: 0,
};

/// The loss when a directory replaces a symlink.
const LINK: &str = "replaced a symlink of an earlier input by a directory, as overlayfs does";

/// The loss when another file replaces a directory with files.
const FILES: &str = "replaced a directory, whose files are left out";

/// What a layer hides of the tree below.
#[derive(Default)]
pub struct Marks {
    /// Names that the layer removes, by directory of the layer.
    pub removed: HashMap<NodeId, Vec<Vec<u8>>>,
    /// Directories of the layer that hide everything below.
    pub opaque: HashSet<NodeId>,
}

/// A tree under construction.
pub struct Builder {
    /// The tree so far.
    pub tree: Tree,
    /// Finds entries by parent and name; built on first use.
    index: Option<HashTable<Slot>>,
    /// Directories that no input has described yet.
    implied: HashSet<NodeId>,
    /// What files of another type replaced.
    pub replaced: Losses,
    /// The first origin of the container image being merged.
    pub first: u32,
}

/// Position of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot {
    parent: NodeId,
    position: u32,
}

fn hash(parent: NodeId, name: &[u8]) -> u64 {
    xxh3_64_with_seed(name, parent.into())
}

fn hash_at(tree: &Tree, slot: Slot) -> u64 {
    match entries(tree, slot.parent).get(slot.position as usize) {
        Some(entry) => hash(slot.parent, tree.name(&entry.name)),
        None => 0,
    }
}

fn entries(tree: &Tree, directory: NodeId) -> &[Entry] {
    match &tree.node(directory).kind {
        Kind::Directory(entries) => entries,
        _ => &[],
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// Creates a tree with only a root directory.
    pub fn new() -> Self {
        let mut tree = Tree::new();
        let name = tree.keep_name(b"");
        tree.nodes.push(Node {
            attributes: IMPLIED,
            parent: ROOT,
            name,
            origin: 0,
            kind: Kind::Directory(Vec::new()),
        });
        Builder {
            implied: HashSet::from([ROOT]),
            ..Builder::on(tree)
        }
    }

    /// Continues with a finished tree.
    pub fn on(tree: Tree) -> Self {
        Builder {
            tree,
            index: None,
            implied: HashSet::new(),
            replaced: Losses::default(),
            first: 0,
        }
    }

    /// Returns true if the tree has only a root.
    pub fn is_empty(&self) -> bool {
        self.tree.nodes.len() == 1
    }

    /// Adds a node without an entry.
    pub fn add(&mut self, node: Node) -> Result<NodeId> {
        let id = self.tree.nodes.len() as NodeId;
        if id == NodeId::MAX {
            let why = "has more files than an image can hold (4294967294)";
            return Err(Error::refused(&self.tree.title(), why));
        }
        self.tree.nodes.push(node);
        Ok(id)
    }

    /// Adds a directory that no input has described yet.
    pub fn imply(&mut self, parent: NodeId, name: Name, origin: u32) -> Result<NodeId> {
        let id = self.add(Node {
            attributes: IMPLIED,
            parent,
            name,
            origin,
            kind: Kind::Directory(Vec::new()),
        })?;
        self.implied.insert(id);
        self.set(parent, name, id);
        Ok(id)
    }

    /// Adds a layer's root, a directory without an entry.
    pub fn root(&mut self, origin: u32) -> Result<NodeId> {
        let id = self.add(Node {
            attributes: IMPLIED,
            parent: self.tree.nodes.len() as NodeId,
            name: self.tree.node(ROOT).name,
            origin,
            kind: Kind::Directory(Vec::new()),
        })?;
        self.implied.insert(id);
        Ok(id)
    }

    /// Merges the layer below `root`, which has no whiteouts, into the tree as overlayfs does:
    /// without following symlinks of the tree below. Unlike in overlayfs, `root` may be opaque.
    pub fn merge(&mut self, root: NodeId, marks: &Marks) {
        let mut pairs = vec![(root, ROOT)];
        while let Some((upper, lower)) = pairs.pop() {
            if !self.implied.contains(&upper) {
                let Node {
                    attributes, origin, ..
                } = *self.tree.node(upper);
                self.describe(lower, attributes, origin);
            }
            if marks.opaque.contains(&upper) {
                for (name, _) in self.list(lower) {
                    self.remove(lower, &name);
                }
            }
            for name in marks.removed.get(&upper).into_iter().flatten() {
                self.remove(lower, name);
            }
            let all = entries(&self.tree, upper).to_vec();
            for Entry { name, node, .. } in all {
                let bytes = self.tree.name(&name).to_vec();
                let below = self.find(lower, &bytes);
                if let Some(below) = below.filter(|&below| self.is_directory(below)) {
                    if self.is_directory(node) {
                        pairs.push((node, below));
                        continue;
                    }
                }
                let below = self.put(lower, name, node);
                // Warn only about a merely implied directory, or the loss of another input's file.
                let is_other = |below: NodeId| self.tree.node(below).origin < self.first;
                if self.implied.contains(&node) || below.is_some_and(is_other) {
                    self.note(below, lower, node);
                }
                let moved = &mut self.tree.nodes[node as usize];
                if moved.parent == upper {
                    (moved.parent, moved.name) = (lower, name);
                }
            }
        }
    }

    /// Sets the attributes of the directory `id`.
    pub fn describe(&mut self, id: NodeId, attributes: Attributes, origin: u32) {
        let node = &mut self.tree.nodes[id as usize];
        node.attributes = attributes;
        node.origin = origin;
        self.implied.remove(&id);
    }

    /// Returns true if `id` is a directory.
    pub fn is_directory(&self, id: NodeId) -> bool {
        matches!(self.tree.node(id).kind, Kind::Directory(_))
    }

    /// Sets all entries of an empty directory. Names must be unique.
    pub fn fill(&mut self, directory: NodeId, all: Vec<Entry>) {
        self.index = None;
        self.tree.nodes[directory as usize].kind = Kind::Directory(all);
    }

    /// Returns the node of the entry `name` in `parent`.
    pub fn find(&mut self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        self.prepare();
        let slot = self.slot(parent, name)?;
        Some(entries(&self.tree, parent)[slot.position as usize].node)
    }

    /// Adds or replaces the entry `name` for `node` in `parent`. Records the losses.
    pub fn set(&mut self, parent: NodeId, name: Name, node: NodeId) {
        let old = self.put(parent, name, node);
        self.note(old, parent, node);
    }

    /// Records the loss when `node` replaces `old` in `parent`.
    fn note(&mut self, old: Option<NodeId>, parent: NodeId, node: NodeId) {
        let Some(old) = old.filter(|&old| old != node) else {
            return;
        };
        let (was, is) = (self.tree.node(old), self.tree.node(node));
        let (what, directory) = match (&was.kind, &is.kind) {
            (Kind::Symlink(_), Kind::Directory(_)) if was.origin != is.origin => (LINK, is),
            (_, Kind::Directory(_)) => return,
            (Kind::Directory(files), _) if !files.is_empty() => (FILES, was),
            _ => return,
        };
        let path = || {
            let name = OsStr::from_bytes(self.tree.name(&directory.name));
            let path = self.tree.relative_path(parent).join(name);
            shown_path(&self.tree.origins[is.origin as usize].show(&path))
        };
        self.replaced.add(what.into(), path);
    }

    /// Adds the entry `name` for `node` to `parent`. Returns the node that it replaces.
    fn put(&mut self, parent: NodeId, name: Name, node: NodeId) -> Option<NodeId> {
        let entry = self.tree.entry(name, node);
        self.prepare();
        match self.slot(parent, self.tree.name(&name)) {
            Some(slot) => {
                let entry = &mut self.entries(parent)[slot.position as usize];
                Some(std::mem::replace(&mut entry.node, node))
            }
            None => {
                let position = entries(&self.tree, parent).len() as u32;
                self.entries(parent).push(entry);
                let tree = &self.tree;
                if let Some(index) = &mut self.index {
                    let hash = hash(parent, tree.name(&name));
                    let slot = Slot { parent, position };
                    index.insert_unique(hash, slot, |&slot| hash_at(tree, slot));
                }
                None
            }
        }
    }

    /// Removes the entry `name` of `parent`, with everything below it.
    pub fn remove(&mut self, parent: NodeId, name: &[u8]) {
        self.prepare();
        let Some(slot) = self.slot(parent, name) else {
            return;
        };
        let last = Slot {
            parent,
            position: entries(&self.tree, parent).len() as u32 - 1,
        };
        let moved = hash_at(&self.tree, last);
        if let Some(index) = &mut self.index {
            if let Ok(found) = index.find_entry(hash(parent, name), |&other| other == slot) {
                found.remove();
            }
            // The last entry moves to the place of the removed one.
            if let Some(found) = index.find_mut(moved, |&other| other == last) {
                *found = slot;
            }
        }
        self.entries(parent).swap_remove(slot.position as usize);
    }

    /// Returns the entries of a directory: names and nodes.
    pub fn list(&self, directory: NodeId) -> Vec<(Vec<u8>, NodeId)> {
        let entries = entries(&self.tree, directory).iter();
        entries
            .map(|entry| (self.tree.name(&entry.name).to_vec(), entry.node))
            .collect()
    }

    /// Removes each file and directory for which `matches` returns true, given its path relative to
    /// the root and whether it is a directory.
    pub fn prune(&mut self, matches: impl Fn(&Path, bool) -> bool) {
        let mut pending = vec![(ROOT, PathBuf::new())];
        while let Some((id, path)) = pending.pop() {
            for (name, child) in self.list(id) {
                let path = path.join(OsStr::from_bytes(&name));
                let directory = self.is_directory(child);
                if matches(&path, directory) {
                    self.remove(id, &name);
                } else if directory {
                    pending.push((child, path));
                }
            }
        }
    }

    fn entries(&mut self, directory: NodeId) -> &mut Vec<Entry> {
        let kind = &mut self.tree.nodes[directory as usize].kind;
        if !matches!(kind, Kind::Directory(_)) {
            *kind = Kind::Directory(Vec::new());
        }
        match kind {
            Kind::Directory(entries) => entries,
            _ => unreachable!("made one just now"),
        }
    }

    /// Builds the index unless it exists.
    fn prepare(&mut self) {
        let tree = &self.tree;
        self.index.get_or_insert_with(|| index(tree));
    }

    fn slot(&self, parent: NodeId, name: &[u8]) -> Option<Slot> {
        let tree = &self.tree;
        let same = |slot: &Slot| {
            slot.parent == parent
                && entries(tree, parent)
                    .get(slot.position as usize)
                    .is_some_and(|entry| tree.name(&entry.name) == name)
        };
        self.index.as_ref()?.find(hash(parent, name), same).copied()
    }

    /// Finishes the tree: drops all nodes that are unreachable from the root.
    pub fn finish(mut self) -> Tree {
        let order = self.tree.order();
        self.date(&order);
        if order.len() < self.tree.nodes.len() {
            self.compact(&order);
        }
        self.tree.sort();
        self.tree
    }

    /// Sets the times of directories that no input describes to those of their newest entries.
    fn date(&mut self, order: &[NodeId]) {
        if self.implied.is_empty() {
            return;
        }
        for &id in order.iter().rev() {
            if self.implied.contains(&id) {
                let times = entries(&self.tree, id)
                    .iter()
                    .map(|entry| self.tree.node(entry.node).attributes.mtime);
                let newest = times.max().unwrap_or_default();
                self.tree.nodes[id as usize].attributes.mtime = newest;
            }
        }
    }

    /// Drops the nodes that are not in `order`.
    fn compact(&mut self, order: &[NodeId]) {
        let tree = &mut self.tree;
        let mut numbers = vec![NodeId::MAX; tree.nodes.len()];
        for (&id, number) in order.iter().zip(0..) {
            numbers[id as usize] = number;
        }
        // A file may have lost its first name but not another.
        let mut named = vec![false; tree.nodes.len()];
        named[ROOT as usize] = true;
        for &directory in order {
            for entry in entries(tree, directory) {
                let node = tree.node(entry.node);
                let same = || tree.name(&node.name) == tree.name(&entry.name);
                named[entry.node as usize] |= node.parent == directory && same();
            }
        }
        let mut renamed = Vec::new();
        for &directory in order {
            for entry in entries(tree, directory) {
                if !std::mem::replace(&mut named[entry.node as usize], true) {
                    let path = tree.relative_path(entry.node);
                    renamed.push((*entry, directory, path));
                }
            }
        }
        for (entry, directory, path) in renamed {
            let node = &mut tree.nodes[entry.node as usize];
            (node.parent, node.name) = (directory, entry.name);
            tree.origins[node.origin as usize].moved(numbers[entry.node as usize], path);
        }
        let mut nodes: Vec<Option<Node>> = tree.nodes.drain(..).map(Some).collect();
        for &id in order {
            let Some(mut node) = nodes[id as usize].take() else {
                continue;
            };
            node.parent = numbers[node.parent as usize];
            if let Kind::Directory(entries) = &mut node.kind {
                for entry in entries {
                    entry.node = numbers[entry.node as usize];
                }
            }
            tree.nodes.push(node);
        }
    }
}

fn index(tree: &Tree) -> HashTable<Slot> {
    let count = tree.nodes.len();
    let mut index = HashTable::with_capacity(count);
    for (node, parent) in tree.nodes.iter().zip(0..) {
        let Kind::Directory(entries) = &node.kind else {
            continue;
        };
        for position in 0..entries.len() as u32 {
            let slot = Slot { parent, position };
            let hash = hash_at(tree, slot);
            index.insert_unique(hash, slot, |&slot| hash_at(tree, slot));
        }
    }
    index
}
