// SPDX-License-Identifier: GPL-2.0-only

//! Escapes overlayfs's marks in trees that are an overlay's lower layer, as overlayfs itself does
//! (Documentation/filesystems/overlayfs.rst, "Nesting overlayfs mounts").

use daxfs_image::error::Result;
use daxfs_reader::layout::XattrPrefix;
use daxfs_reader::{OwnedXattr, XATTR_NAME_MAX};
use mkdaxfs::writer::overlay::{self, OVERLAY};
use mkdaxfs::writer::tree::{Kind, Location, Node, NodeId, Tree, XattrSet};
use std::collections::HashSet;

/// Returns the attribute `trusted.overlay.NAME`.
fn own(name: &str, value: &[u8]) -> OwnedXattr {
    OwnedXattr {
        prefix: XattrPrefix::Trusted,
        name: [OVERLAY, name.as_bytes()].concat().into(),
        value: value.into(),
    }
}

/// Fails if `tree` contains a mark of overlayfs that cannot be escaped.
pub fn refuse_marks(tree: &Tree) -> Result<()> {
    for (node, id) in tree.nodes.iter().zip(0..) {
        let refuse = |id, why: &str| Err(daxfs_files::Error::refused(&tree.path(id), why).into());
        let set = &tree.xattrs[node.attributes.xattrs as usize];
        let mut names = set.iter().filter_map(escaped);
        if names.any(|name| name.len() + 8 > XATTR_NAME_MAX) {
            return refuse(id, "has an extended attribute of overlayfs with a name that cannot be escaped for its length; remove it");
        }
        // The escaped attribute can have only one value.
        let opaque = own("opaque", b"x");
        let other = |xattr: &OwnedXattr| same_name(xattr, &opaque) && *xattr != opaque;
        if set.iter().any(other) {
            if let Some(whiteout) = whiteouts(tree, node).next() {
                return refuse(whiteout, "is a whiteout of overlayfs in a directory with trusted.overlay.opaque; leave it out with --exclude, if that is y");
            }
        }
    }
    Ok(())
}

/// Returns the whiteouts in the directory `node`, which may be any file.
fn whiteouts<'a>(tree: &'a Tree, node: &'a Node) -> impl Iterator<Item = NodeId> + 'a {
    let entries = match &node.kind {
        Kind::Directory(entries) => &entries[..],
        _ => &[],
    };
    let nodes = entries.iter().map(|entry| entry.node);
    nodes.filter(|&id| tree.nodes[id as usize].kind.is_whiteout())
}

/// Escapes the attributes and whiteouts that overlayfs would obey, so that an overlay on top of
/// `tree` shows them unchanged. Whiteouts become empty files with an attribute, and their
/// directories get one, too. [`refuse_marks`] refuses marks that cannot be escaped.
pub fn escape(tree: &mut Tree) {
    let escape = |set: &XattrSet| -> XattrSet {
        let escape = |xattr: &OwnedXattr| match escaped(xattr) {
            Some(name) => OwnedXattr {
                name,
                ..xattr.clone()
            },
            None => xattr.clone(),
        };
        set.iter().map(escape).collect()
    };
    let sets: Vec<XattrSet> = tree.xattrs.iter().map(escape).collect();
    let nodes = (0..).zip(&tree.nodes);
    let marked = nodes.filter(|(_, node)| whiteouts(tree, node).next().is_some());
    let marked: HashSet<usize> = marked.map(|(id, _)| id).collect();
    for id in 0..tree.nodes.len() {
        let mut set = sets[tree.nodes[id].attributes.xattrs as usize].clone();
        if marked.contains(&id) {
            put(&mut set, own("overlay.opaque", b"x"));
        }
        let kind = &mut tree.nodes[id].kind;
        if kind.is_whiteout() {
            put(&mut set, own("overlay.whiteout", b""));
            let (size, location) = (0, Location::Empty);
            *kind = Kind::Regular { size, location };
        }
        tree.nodes[id].attributes.xattrs = tree.keep_xattrs(set);
    }
}

/// Adds an attribute to `set`, unless `set` has it already.
fn put(set: &mut XattrSet, xattr: OwnedXattr) {
    if !set.iter().any(|other| same_name(other, &xattr)) {
        set.push(xattr);
    }
}

fn same_name(one: &OwnedXattr, other: &OwnedXattr) -> bool {
    (one.prefix, &one.name) == (other.prefix, &other.name)
}

/// Returns the name under which to store the attribute, if overlayfs would obey it otherwise.
fn escaped(xattr: &OwnedXattr) -> Option<Box<[u8]>> {
    overlay::own_name(xattr).map(|_| [OVERLAY, &xattr.name].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use daxfs_reader::FileType;
    use mkdaxfs::writer::build::{Builder, IMPLIED};
    use mkdaxfs::writer::origin::Origin;
    use mkdaxfs::writer::tree::ROOT;

    const WHITEOUT: Kind = Kind::Device {
        file_type: FileType::CharDevice,
        major: 0,
        minor: 0,
    };

    /// Returns the tree of a directory with these attributes, the whiteout `removed` and a FIFO.
    fn tree(marks: &[OwnedXattr]) -> Tree {
        let mut builder = Builder::new();
        builder.tree.origins.push(Origin::nothing("test".as_ref()));
        let mut add = |parent, name: &[u8], kind, marks: &[OwnedXattr]| {
            let name = builder.tree.keep_name(name);
            let mut attributes = IMPLIED;
            attributes.xattrs = builder.tree.keep_xattrs(marks.to_vec());
            let node = Node {
                attributes,
                parent,
                name,
                origin: 0,
                kind,
            };
            let id = builder.add(node).unwrap();
            builder.set(parent, name, id);
            id
        };
        let dir = add(ROOT, b"dir", Kind::Directory(Vec::new()), marks);
        add(dir, b"removed", WHITEOUT, &[]);
        add(dir, b"fifo", Kind::Fifo, &[own("metacopy", b"")]);
        builder.finish()
    }

    /// Returns the attributes of a file of `tree`: `NAME=VALUE` without overlayfs's prefix.
    fn marks(tree: &Tree, name: &[u8]) -> Vec<String> {
        let mut nodes = tree.nodes.iter();
        let node = nodes.find(|node| tree.name(&node.name) == name).unwrap();
        let set = &tree.xattrs[node.attributes.xattrs as usize];
        let text = |xattr: &OwnedXattr| {
            let (name, value) = (&xattr.name, &xattr.value);
            let text = [name, &b"="[..], value].concat();
            String::from_utf8(text).unwrap()
        };
        set.iter().map(text).collect()
    }

    #[test]
    fn attributes_and_whiteouts() {
        let other = OwnedXattr {
            name: b"overlays".as_slice().into(),
            ..own("", b"kept")
        };
        let user = OwnedXattr {
            prefix: XattrPrefix::User,
            ..own("opaque", b"y")
        };
        let nested = own("overlay.opaque", b"z");
        let mut tree = tree(&[own("redirect", b"/x"), nested, other, user]);
        refuse_marks(&tree).unwrap();
        escape(&mut tree);
        let expected = [
            "overlay.opaque=y",
            "overlay.overlay.opaque=x",
            "overlay.overlay.overlay.opaque=z",
            "overlay.overlay.redirect=/x",
            "overlays=kept",
        ];
        assert_eq!(marks(&tree, b"dir"), expected);
        assert_eq!(marks(&tree, b"removed"), ["overlay.overlay.whiteout="]);
        assert_eq!(marks(&tree, b"fifo"), ["overlay.overlay.metacopy="]);
        let empty = |node: &Node| matches!(node.kind, Kind::Regular { size: 0, .. });
        assert_eq!(tree.nodes.iter().filter(|node| empty(node)).count(), 1);
    }

    /// Existing marks are kept, and those that cannot be escaped are refused.
    #[test]
    fn present_marks() {
        let mut marked = tree(&[own("opaque", b"x")]);
        refuse_marks(&marked).unwrap();
        escape(&mut marked);
        assert_eq!(marks(&marked, b"dir"), ["overlay.overlay.opaque=x"]);
        let why =
            "dir/removed: is a whiteout of overlayfs in a directory with trusted.overlay.opaque";
        let error = refuse_marks(&tree(&[own("opaque", b"y")])).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        let long = own(&"n".repeat(XATTR_NAME_MAX - 8), b"");
        let error = refuse_marks(&tree(&[long])).unwrap_err();
        assert!(error.to_string().contains("for its length"), "{error}");
    }
}
