// SPDX-License-Identifier: GPL-2.0-only

//! Members of archives, and their places in a tree.

use crate::input::budget::Budget;
use crate::writer::build::Builder;
use crate::writer::tree::{Attributes, Kind, Name, Node, NodeId, XattrSet, ROOT};
use daxfs_files::{shown, shown_path, Reason};
use daxfs_reader::layout::{NAME_MAX, SYMLINK_MAX};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Maximum number of symlinks in a path, as in Linux.
const LINKS: usize = 40;

/// Maximum number of nested directories; Linux accepts no deeper path. A few bytes of a compressed
/// archive could nest any number, and the work grows quadratically.
const DEPTH: usize = 4096;

/// A member of an archive.
#[derive(Debug)]
pub(super) struct Member {
    /// Path in the archive.
    pub path: Vec<u8>,
    pub permissions: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    pub xattrs: XattrSet,
    pub what: What,
    /// Offset in the archive.
    pub at: u64,
}

/// Type and content of a member.
#[derive(Debug)]
pub(super) enum What {
    /// A file; directories are empty.
    File(Kind),
    /// Another name for the member at this path, with the regular file's content unless empty.
    HardLink(Vec<u8>, Kind),
}

/// Returns the names in a path, without empty ones and dots.
///
/// Fails if no image can contain the path.
pub(super) fn components(path: &[u8]) -> Result<Vec<&[u8]>, Reason> {
    let mut names = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => (),
            b".." => {
                let why = "leads out of the tree; make the archive without '..'";
                return Err(format!("the name '{}' {why}", shown(path)).into());
            }
            name if name.len() > NAME_MAX => {
                let why = format!("has a name of more than {NAME_MAX} bytes");
                return Err(format!("'{}' {why}", shown(path)).into());
            }
            name if name.contains(&0) => {
                return Err(format!("'{}' contains NUL", shown(path)).into())
            }
            name => names.push(name),
        }
    }
    Ok(names)
}

/// A hard link that precedes its target. Until the target is found, its name belongs to a file,
/// with the content if the link has it.
struct Pending {
    target: Vec<u8>,
    /// Offset of the member in the archive.
    at: u64,
}

/// Adds members to a tree.
pub(super) struct Placer<'a> {
    builder: &'a mut Builder,
    /// Index of the members' origin.
    origin: u32,
    /// The artifact's first origin. Files of its other layers are not replaced.
    pub first: u32,
    /// The directory that must contain all members.
    pub within: &'a [&'a [u8]],
    budget: &'a Budget,
    /// Bytes of the tree's text already charged to the budget.
    paid: u64,
    /// The directory that stands for the archive's root.
    root: NodeId,
    pending: BTreeMap<NodeId, Pending>,
}

impl<'a> Placer<'a> {
    /// Creates a placer for members of the origin with this index, below the directory `root`.
    pub fn new(builder: &'a mut Builder, root: NodeId, origin: u32, budget: &'a Budget) -> Self {
        Placer {
            paid: builder.tree.text_bytes(),
            builder,
            origin,
            first: origin,
            within: &[],
            budget,
            root,
            pending: BTreeMap::new(),
        }
    }

    /// Counts a member, or a directory without a member, that needs `bytes` beyond the tree's text.
    pub fn count(&mut self, bytes: usize) -> Result<(), Reason> {
        let text = self.builder.tree.text_bytes();
        let grown = text - std::mem::replace(&mut self.paid, text);
        self.budget.take(1, grown + bytes as u64)
    }

    /// Adds a member at its path. Follows symlinks in the path, but never leaves the tree.
    pub fn put(&mut self, member: Member) -> Result<(), Reason> {
        let target = match &member.what {
            What::File(Kind::Symlink(target)) => target.len(),
            What::HardLink(target, _) => target.len(),
            _ => 0,
        };
        self.place(member)?;
        self.count(target)
    }

    fn place(&mut self, member: Member) -> Result<(), Reason> {
        let names = components(&member.path)?;
        if !names.starts_with(self.within) {
            let (path, within) = (shown(&member.path), shown(&self.within.join(&b'/')));
            return Err(
                format!("'{path}' is not below '{within}', where the layer belongs").into(),
            );
        }
        let attributes = Attributes {
            permissions: member.permissions,
            uid: member.uid,
            gid: member.gid,
            mtime: member.mtime,
            xattrs: self.builder.tree.keep_xattrs(member.xattrs),
        };
        let Some((name, parents)) = names.split_last() else {
            return match member.what {
                What::File(Kind::Directory(_)) => {
                    self.builder.describe(self.root, attributes, self.origin);
                    Ok(())
                }
                _ => Err("the root of the tree is not a directory".into()),
            };
        };
        let parent = self.walk(self.root, parents, true)?;
        let directory = matches!(&member.what, What::File(Kind::Directory(_)));
        self.check_layers(parent, name, directory)?;
        let kind = match member.what {
            What::HardLink(target, content) => {
                return self.link(parent, name, (target, content), attributes, member.at)
            }
            What::File(kind) => kind,
        };
        match &kind {
            Kind::Directory(_) => {
                self.check_depth(parent)?;
                let present = self.builder.find(parent, name);
                if let Some(present) = present.filter(|&id| self.builder.is_directory(id)) {
                    self.builder.describe(present, attributes, self.origin);
                    return Ok(());
                }
            }
            Kind::Symlink(target) => {
                if target.is_empty() || target.len() as u64 > SYMLINK_MAX {
                    return Err(format!("a symlink's target has {} bytes", target.len()).into());
                }
                if target.contains(&0) {
                    return Err("a symlink's target contains NUL".into());
                }
            }
            _ => (),
        }
        let name = self.builder.tree.keep_name(name);
        self.add(parent, name, attributes, kind)?;
        Ok(())
    }

    fn add(
        &mut self,
        parent: NodeId,
        name: Name,
        attributes: Attributes,
        kind: Kind,
    ) -> daxfs_files::Result<NodeId> {
        let id = self.builder.add(Node {
            attributes,
            parent,
            name,
            origin: self.origin,
            kind,
        })?;
        self.builder.set(parent, name, id);
        Ok(id)
    }

    /// Fails if another layer has a file `name` in `parent`, unless both are directories.
    fn check_layers(&mut self, parent: NodeId, name: &[u8], directory: bool) -> Result<(), Reason> {
        if self.first == self.origin {
            return Ok(());
        }
        let found = self.builder.find(parent, name);
        let found = found.filter(|&id| !(directory && self.builder.is_directory(id)));
        match found.map(|id| self.builder.tree.node(id).origin) {
            Some(other) if (self.first..self.origin).contains(&other) => {
                let (name, other) = (shown(name), self.other(other));
                let why = "another layer of the artifact; make it without one of them";
                Err(format!("'{name}' is also in {other}, {why}").into())
            }
            _ => Ok(()),
        }
    }

    /// Returns the name of the origin with this index for messages.
    fn other(&self, origin: u32) -> String {
        shown_path(self.builder.tree.origins[origin as usize].path())
    }

    /// Fails if another directory in `parent` would be nested too deeply.
    fn check_depth(&self, parent: NodeId) -> Result<(), Reason> {
        let (mut at, mut depth) = (parent, 1);
        while at != self.root {
            at = self.builder.tree.node(at).parent;
            depth += 1;
            if depth > DEPTH {
                let why = "directories are nested; leave the innermost out";
                return Err(format!("more than {DEPTH} {why}").into());
            }
        }
        Ok(())
    }

    fn link(
        &mut self,
        parent: NodeId,
        name: &[u8],
        (target, content): (Vec<u8>, Kind),
        attributes: Attributes,
        at: u64,
    ) -> Result<(), Reason> {
        components(&target)?;
        let name = self.builder.tree.keep_name(name);
        match self.find(self.root, &target)? {
            Some(id) if !self.pending.contains_key(&id) => {
                let node = &mut self.builder.tree.nodes[id as usize];
                // The last content wins, as for tools that write it to the file.
                if !is_empty(&content) && matches!(node.kind, Kind::Regular { .. }) {
                    (node.kind, node.origin) = (content, self.origin);
                }
                self.builder.set(parent, name, id);
            }
            _ => {
                let node = self.add(parent, name, attributes, content)?;
                self.pending.insert(node, Pending { target, at });
            }
        }
        Ok(())
    }

    /// Returns the file at the path `target` of a hard link in the tree below `root`, if any.
    fn find(&mut self, root: NodeId, target: &[u8]) -> Result<Option<NodeId>, Reason> {
        let names = components(target)?;
        let own = std::mem::replace(&mut self.root, root);
        let found = match names.split_last() {
            Some((last, parents)) => match self.walk(root, parents, false) {
                Ok(directory) => self.builder.find(directory, last),
                Err(_) => None,
            },
            None => Some(root),
        };
        self.root = own;
        match found {
            Some(node) if self.builder.is_directory(node) => {
                Err(format!("a hard link to the directory '{}'", shown(target)).into())
            }
            found => Ok(found),
        }
    }

    /// Resolves the hard links that precede their targets and, in a layer, those to files of lower
    /// layers. Returns the offset of a link without a target, and the reason.
    pub fn finish(mut self) -> Result<(), (u64, Reason)> {
        let pending = std::mem::take(&mut self.pending);
        let mut targets = HashMap::new();
        for (&node, Pending { target, at }) in &pending {
            let mut found = self.find(self.root, target).map_err(|why| (*at, why))?;
            if found.is_none() && self.root != ROOT {
                found = self.find(ROOT, target).map_err(|why| (*at, why))?;
            }
            targets.extend(found.map(|found| (node, found)));
        }
        for (&node, Pending { target, at }) in &pending {
            let Node { parent, name, .. } = *self.builder.tree.node(node);
            let bytes = self.builder.tree.name(&name).to_vec();
            if self.builder.find(parent, &bytes) != Some(node) {
                // A later member has replaced the link.
                continue;
            }
            // The target may itself be such a link.
            let next = |node: &NodeId| targets.get(node).copied();
            let chain = || std::iter::successors(Some(node), next).take(pending.len() + 1);
            let has_content = |node: &NodeId| !is_empty(&self.builder.tree.node(*node).kind);
            let found = chain().find(|node| !pending.contains_key(node));
            let Some(found) = found.or_else(|| chain().find(has_content)) else {
                let why = format!("a hard link to '{}', which is not there", shown(target));
                return Err((*at, why.into()));
            };
            self.builder.set(parent, name, found);
        }
        Ok(())
    }

    /// Returns the directory in which a mark hides something. Creates missing directories.
    ///
    /// Returns `None` if the layer has a file or a symlink in its place: that already replaces the
    /// whole directory of the lower layers, although some tools still mark each file in it.
    pub fn walk_to_mark(&mut self, names: &[&[u8]]) -> Result<Option<NodeId>, Reason> {
        let mut at = self.root;
        for (done, name) in names.iter().enumerate() {
            match self.builder.find(at, name) {
                Some(id) if self.builder.is_directory(id) => at = id,
                Some(_) => return Ok(None),
                None => return self.walk(at, &names[done..], true).map(Some),
            }
        }
        Ok(Some(at))
    }

    /// Returns the directory at the path `names` from the directory `at`. Creates missing
    /// directories if `make`. Follows symlinks within the tree.
    pub fn walk(&mut self, mut at: NodeId, names: &[&[u8]], make: bool) -> Result<NodeId, Reason> {
        let mut pending: VecDeque<Vec<u8>> = names.iter().map(|name| name.to_vec()).collect();
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            match &name[..] {
                b"" | b"." => continue,
                b".." => {
                    at = self.builder.tree.node(at).parent;
                    continue;
                }
                _ => (),
            }
            let found = self.builder.find(at, &name);
            // A directory replaces a file of an earlier input.
            let stays = |&id: &NodeId| {
                let node = self.builder.tree.node(id);
                let leads = matches!(node.kind, Kind::Directory(_) | Kind::Symlink(_));
                leads || !make || node.origin >= self.first
            };
            let Some(next) = found.filter(stays) else {
                if !make || name.len() > NAME_MAX {
                    return Err(format!("no directory '{}'", shown(&name)).into());
                }
                self.check_depth(at)?;
                self.count(0)?;
                let kept = self.builder.tree.keep_name(&name);
                at = self.builder.imply(at, kept, self.origin)?;
                continue;
            };
            let node = self.builder.tree.node(next);
            match &node.kind {
                Kind::Directory(_) => {
                    at = next;
                }
                Kind::Symlink(target) => {
                    links += 1;
                    if links > LINKS {
                        return Err(format!("the symlink '{}' leads nowhere", shown(&name)).into());
                    }
                    if target.starts_with(b"/") {
                        at = self.root;
                    }
                    for name in target.rsplit(|&byte| byte == b'/') {
                        pending.push_front(name.to_vec());
                    }
                }
                _ => {
                    let mut why = format!("'{}' is not a directory", shown(&name));
                    if node.origin != self.origin {
                        why += &format!(", but a file in {}", self.other(node.origin));
                    }
                    return Err(why.into());
                }
            }
        }
        Ok(at)
    }
}

/// Returns true for a regular file without content.
fn is_empty(kind: &Kind) -> bool {
    matches!(kind, Kind::Regular { size: 0, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let names = |path: &'static str| components(path.as_bytes());
        assert_eq!(names("/a//b/./c/").unwrap(), [b"a", b"b", b"c"]);
        assert!(names("./").unwrap().is_empty());
        for wrong in ["..", "a/../b", "/..", "a\0b"] {
            assert!(names(wrong).is_err(), "{wrong}");
        }
        assert!(components(&[b'x'; 256]).is_err());
    }
}
