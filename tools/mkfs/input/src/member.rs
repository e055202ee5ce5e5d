// SPDX-License-Identifier: GPL-2.0-only

//! Members of archives, and their places in a tree.

use crate::budget::Budget;
use daxfs_reader::layout::{NAME_MAX, SYMLINK_MAX};
use daxfs_writer::build::Builder;
use daxfs_writer::tree::{Attributes, Kind, Name, Node, NodeId, XattrSet, ROOT};
use daxfs_writer::{shown, Reason};
use std::collections::{HashSet, VecDeque};

/// Limit of symlinks in the path of a file, as in Linux.
const LINKS: usize = 40;

/// Limit of nested directories. No path that Linux takes has more; a few bytes of a compressed
/// archive could make any number of them, and the work grows with its square.
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
    /// A file; a directory is empty.
    File(Kind),
    /// Another name of the member with this path.
    HardLink(Vec<u8>),
}

/// Return the names in a path, without empty ones and dots.
///
/// Fail if no image can have it.
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

/// Nodes that an archive added to a tree, and the directories above them.
#[derive(Default)]
pub(super) struct Touched {
    nodes: HashSet<NodeId>,
    /// Names of hard links, whose nodes may have been there before.
    links: HashSet<(NodeId, Vec<u8>)>,
}

impl Touched {
    /// Return true if it has `node`, or the hard link `name` in `parent`.
    pub fn has(&self, parent: NodeId, name: &[u8], node: NodeId) -> bool {
        self.nodes.contains(&node) || self.links.contains(&(parent, name.to_vec()))
    }
}

/// Adds members to a tree.
pub(super) struct Placer<'a> {
    builder: &'a mut Builder,
    /// Number of the members' origin.
    origin: u32,
    budget: &'a Budget,
    /// Bytes of the tree's text that the budget has paid for.
    paid: u64,
    /// Records added nodes, and the directories above them.
    pub touched: Option<Touched>,
}

impl<'a> Placer<'a> {
    /// Create a placer for members of the origin with that number.
    pub fn new(builder: &'a mut Builder, origin: u32, budget: &'a Budget) -> Self {
        Placer {
            paid: builder.tree.text_bytes(),
            builder,
            origin,
            budget,
            touched: None,
        }
    }

    /// Count a member, or a directory that is not a member. It has `bytes` that are not in the
    /// tree's text.
    pub fn count(&mut self, bytes: usize) -> Result<(), Reason> {
        let text = self.builder.tree.text_bytes();
        let grown = text - std::mem::replace(&mut self.paid, text);
        self.budget.take(1, grown + bytes as u64)
    }

    fn touch(&mut self, id: NodeId) {
        if let Some(touched) = &mut self.touched {
            touched.nodes.insert(id);
        }
    }

    /// Add a member at its path. Follow symlinks in the path, but never leave the tree.
    pub fn put(&mut self, member: Member) -> Result<(), Reason> {
        let target = match &member.what {
            What::File(Kind::Symlink(target)) => target.len(),
            _ => 0,
        };
        self.place(member)?;
        self.count(target)
    }

    fn place(&mut self, member: Member) -> Result<(), Reason> {
        let names = components(&member.path)?;
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
                    self.builder.describe(ROOT, attributes, self.origin);
                    self.touch(ROOT);
                    Ok(())
                }
                _ => Err("the root of the tree is not a directory".into()),
            };
        };
        let parent = self.walk(ROOT, parents, true)?;
        let kind = match member.what {
            What::HardLink(target) => return self.link(parent, name, &target),
            What::File(kind) => kind,
        };
        match &kind {
            Kind::Directory(_) => {
                self.check_depth(parent)?;
                let present = self.builder.find(parent, name);
                if let Some(present) = present.filter(|&id| self.builder.is_directory(id)) {
                    self.builder.describe(present, attributes, self.origin);
                    self.touch(present);
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
    ) -> daxfs_writer::Result<NodeId> {
        let id = self.builder.add(Node {
            attributes,
            parent,
            name,
            origin: self.origin,
            kind,
        })?;
        self.builder.set(parent, name, id);
        self.touch(id);
        Ok(id)
    }

    /// Refuse another directory in `parent` if it would be nested too deeply.
    fn check_depth(&self, parent: NodeId) -> Result<(), Reason> {
        let (mut at, mut depth) = (parent, 1);
        while at != ROOT {
            at = self.builder.tree.node(at).parent;
            depth += 1;
            if depth > DEPTH {
                let why = "directories are nested; leave the innermost out";
                return Err(format!("more than {DEPTH} {why}").into());
            }
        }
        Ok(())
    }

    fn link(&mut self, parent: NodeId, name: &[u8], target: &[u8]) -> Result<(), Reason> {
        let names = components(target)?;
        let found = match names.split_last() {
            Some((last, parents)) => {
                let directory = self.walk(ROOT, parents, false)?;
                self.builder.find(directory, last)
            }
            None => Some(ROOT),
        };
        match found {
            None => Err(format!("a hard link to '{}', which is not there", shown(target)).into()),
            Some(node) if self.builder.is_directory(node) => {
                Err(format!("a hard link to the directory '{}'", shown(target)).into())
            }
            Some(node) => {
                if let Some(touched) = &mut self.touched {
                    touched.links.insert((parent, name.to_vec()));
                }
                let name = self.builder.tree.keep_name(name);
                self.builder.set(parent, name, node);
                Ok(())
            }
        }
    }

    /// Return the directory in which a mark of a removed file hides something, as [`Placer::walk`]
    /// does.
    ///
    /// Return `None` if a file is in the way, or a symlink that these members brought: it has
    /// replaced the directory of the layers below, with all that was in it. Some tools nevertheless
    /// mark each file of such a directory.
    pub fn walk_to_mark(&mut self, names: &[&[u8]]) -> Result<Option<NodeId>, Reason> {
        let mut at = ROOT;
        for (done, name) in names.iter().enumerate() {
            let found = self.builder.find(at, name);
            match found.map(|id| (id, &self.builder.tree.node(id).kind)) {
                Some((id, Kind::Directory(_))) => {
                    at = id;
                    self.touch(at);
                }
                Some((id, Kind::Symlink(_))) => {
                    let touched = self.touched.as_ref();
                    if touched.is_some_and(|touched| touched.has(at, name, id)) {
                        return Ok(None);
                    }
                    return self.walk(at, &names[done..], true).map(Some);
                }
                Some(_) => return Ok(None),
                None => return self.walk(at, &names[done..], true).map(Some),
            }
        }
        Ok(Some(at))
    }

    /// Return the directory that `names` lead to from the directory `at`. Missing directories are
    /// added if `make`; symlinks are followed within the tree.
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
            let Some(next) = self.builder.find(at, &name) else {
                if !make || name.len() > NAME_MAX {
                    return Err(format!("no directory '{}'", shown(&name)).into());
                }
                self.check_depth(at)?;
                self.count(0)?;
                let kept = self.builder.tree.keep_name(&name);
                at = self.builder.imply(at, kept, self.origin)?;
                self.touch(at);
                continue;
            };
            match &self.builder.tree.node(next).kind {
                Kind::Directory(_) => {
                    at = next;
                    if make {
                        self.touch(at);
                    }
                }
                Kind::Symlink(target) => {
                    links += 1;
                    if links > LINKS {
                        return Err(format!("the symlink '{}' leads nowhere", shown(&name)).into());
                    }
                    if target.starts_with(b"/") {
                        at = ROOT;
                    }
                    for name in target.rsplit(|&byte| byte == b'/') {
                        pending.push_front(name.to_vec());
                    }
                }
                _ => return Err(format!("'{}' is not a directory", shown(&name)).into()),
            }
        }
        Ok(at)
    }
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
