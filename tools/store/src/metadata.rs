// SPDX-License-Identifier: GPL-2.0-only

//! Metadata images: trees of files without data.

use crate::pack::{whole_metadata, PackRef, Sum};
use daxfs_files::digest::{hex, parse_hex};
use daxfs_image::error::{Error, Result};
use daxfs_image::reader::Reader;
use daxfs_image::source::Opened;
use daxfs_reader::layout::XattrPrefix;
use daxfs_reader::{OwnedXattr, XATTR_NAME_MAX};
use mkdaxfs::writer::overlay::{self, OVERLAY};
use mkdaxfs::writer::tree::{Kind, Location, Node, NodeId, Tree, XattrSet, ROOT};
use std::collections::{HashMap, HashSet};

/// The attribute of the root directory with the packs that the image needs. Its name is one of
/// overlayfs's own, which are not visible in the overlay.
pub const PACKS: &str = "trusted.overlay.daxfs.packs";

/// Return the attribute `trusted.overlay.NAME`.
fn own(name: &str, value: Vec<u8>) -> OwnedXattr {
    OwnedXattr {
        prefix: XattrPrefix::Trusted,
        name: [OVERLAY, name.as_bytes()].concat().into(),
        value: value.into(),
    }
}

/// Return the path of an object in overlayfs's data layers.
fn redirect(id: &str, sum: &Sum) -> Vec<u8> {
    format!("/{id}/{}", hex(sum)).into_bytes()
}

/// Fail if `tree` has a mark of overlayfs that cannot be escaped.
pub fn refuse_marks(tree: &Tree) -> Result<()> {
    for (node, id) in tree.nodes.iter().zip(0..) {
        let refuse = |id, why: &str| Err(daxfs_files::Error::refused(&tree.path(id), why).into());
        let set = &tree.xattrs[node.attributes.xattrs as usize];
        let mut names = set.iter().filter_map(escaped);
        if names.any(|name| name.len() + 8 > XATTR_NAME_MAX) {
            return refuse(id, "has an extended attribute of overlayfs with a name that cannot be escaped for its length; remove it");
        }
        // It can have one value only.
        let opaque = own("opaque", b"x".to_vec());
        let other = |xattr: &OwnedXattr| same_name(xattr, &opaque) && *xattr != opaque;
        if set.iter().any(other) {
            if let Some(whiteout) = whiteouts(tree, node).next() {
                return refuse(whiteout, "is a whiteout of overlayfs in a directory with trusted.overlay.opaque; leave it out with --exclude, if that is y");
            }
        }
    }
    Ok(())
}

/// Return the whiteouts in the directory `node`, which may be any file.
fn whiteouts<'a>(tree: &'a Tree, node: &'a Node) -> impl Iterator<Item = NodeId> + 'a {
    let entries = match &node.kind {
        Kind::Directory(entries) => &entries[..],
        _ => &[],
    };
    let nodes = entries.iter().map(|entry| entry.node);
    nodes.filter(|&id| tree.nodes[id as usize].kind.is_whiteout())
}

/// Turn `tree` into the tree of a metadata image. `objects` has the object of each regular file
/// that is not empty, `ids` the pack of each object.
///
/// Attributes of the files that overlayfs would obey are escaped as overlayfs does, so they have no
/// effect, and the overlay shows them as they are in `tree`. An overlay on top of it obeys them. So are whiteouts: they
/// become empty files with an attribute, and so do their directories (Documentation/filesystems/overlayfs.rst,
/// "Nesting overlayfs mounts"). [`refuse_marks`] refuses what cannot be escaped.
pub fn strip(
    tree: &mut Tree,
    objects: &HashMap<NodeId, Sum>,
    ids: &HashMap<Sum, String>,
    packs: &[PackRef],
) {
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
        if id == ROOT as usize {
            set.push(own("daxfs.packs", PackRef::write(packs)));
        }
        if let Some(sum) = objects.get(&(id as NodeId)) {
            set.push(own("metacopy", Vec::new()));
            set.push(own("redirect", redirect(&ids[sum], sum)));
        }
        if marked.contains(&id) {
            put(&mut set, own("overlay.opaque", b"x".to_vec()));
        }
        let kind = &mut tree.nodes[id].kind;
        if kind.is_whiteout() {
            put(&mut set, own("overlay.whiteout", Vec::new()));
            let (size, location) = (0, Location::Nowhere);
            *kind = Kind::Regular { size, location };
        } else if let Kind::Regular { location, .. } = kind {
            *location = Location::Nowhere;
        }
        tree.nodes[id].attributes.xattrs = tree.keep_xattrs(set);
    }
}

/// Add an attribute to `set`, unless that has it.
fn put(set: &mut XattrSet, xattr: OwnedXattr) {
    if !set.iter().any(|other| same_name(other, &xattr)) {
        set.push(xattr);
    }
}

fn same_name(one: &OwnedXattr, other: &OwnedXattr) -> bool {
    (one.prefix, &one.name) == (other.prefix, &other.name)
}

/// Return the name under which the attribute is stored, if overlayfs would obey it otherwise.
fn escaped(xattr: &OwnedXattr) -> Option<Box<[u8]>> {
    overlay::own_name(xattr).map(|_| [OVERLAY, &xattr.name].concat().into())
}

/// Return the packs that the metadata image `opened` needs.
///
/// Fail if its metadata are damaged: packs that it does not name are removed.
pub fn packs(opened: &Opened) -> Result<Vec<PackRef>> {
    packs_of(opened)?.ok_or_else(|| not_ours(&opened.name))
}

/// Return what [`packs`] does, or none for an image that is not one of a store.
pub fn packs_of(opened: &Opened) -> Result<Option<Vec<PackRef>>> {
    let reader = opened.reader();
    whole_metadata(&reader, &opened.name)?;
    let attributes = reader.xattrs(&reader.root()?, b"/")?;
    let Some(packs) = overlay::value(&attributes, "daxfs.packs") else {
        return Ok(None);
    };
    let packs = PackRef::parse(packs);
    Ok(Some(packs.ok_or_else(|| not_ours(&opened.name))?))
}

/// Return the error for an image that is not one of a store.
pub fn not_ours(name: &str) -> Error {
    let why = "is not an image of a store: its root has no valid list of packs; add it with daxfs store add";
    Error::refused(name, why)
}

/// Returns the pack and the object of a file without data that has the attributes `set`.
pub fn object(set: &XattrSet) -> Option<(String, Sum)> {
    let redirect = std::str::from_utf8(overlay::value(set, "redirect")?).ok()?;
    let (id, sum) = redirect.strip_prefix('/')?.split_once('/')?;
    let metacopy = overlay::value(set, "metacopy") == Some(b"");
    metacopy.then_some((id.to_owned(), parse_hex(sum)?))
}

/// Return the pack and the object of the file `inode` without data.
///
/// Fail if it does not name one.
pub fn object_of<S: daxfs_files::memory::Storage>(
    reader: &Reader<'_, S>,
    path: &[u8],
    inode: &daxfs_reader::Inode,
) -> Result<(String, Sum)> {
    object(&reader.xattrs(inode, path)?).ok_or_else(|| {
        reader.refuse(
            path,
            "does not name an object; the image was not made by daxfs store add",
        )
    })
}
