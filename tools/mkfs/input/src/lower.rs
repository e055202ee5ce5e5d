// SPDX-License-Identifier: GPL-2.0-only

//! The merged view of lower layers, for layers that are kept apart.

use daxfs_reader::hash::name_hash;
use daxfs_reader::layout::XattrPrefix;
use daxfs_writer::tree::{Attributes, Kind, NodeId, Tree, Xattr, XattrSet, ROOT};
use daxfs_writer::{Error, Result};
use std::collections::HashMap;

/// Finished layers, the lowest first.
pub struct Lower<'a> {
    layers: &'a [Tree],
    /// Origins of layers that the upper tree has, too, by layer and number.
    origins: HashMap<(usize, u32), u32>,
}

/// A file of a lower layer, for the upper tree.
pub struct Found {
    pub attributes: Attributes,
    pub origin: u32,
    /// A directory is empty.
    pub kind: Kind,
}

/// Result of looking up a path in one layer.
enum Answer {
    Is(NodeId),
    /// It hides lower layers.
    No,
    Nothing,
}

impl<'a> Lower<'a> {
    pub fn new(layers: &'a [Tree]) -> Self {
        Lower {
            layers,
            origins: HashMap::new(),
        }
    }

    /// Find the file at `path`, for use in `tree`.
    pub fn find(&mut self, tree: &mut Tree, path: &[Vec<u8>]) -> Result<Option<Found>> {
        let layers = self.layers;
        for (number, layer) in layers.iter().enumerate().rev() {
            match ask(layer, path) {
                Answer::Is(id) => return self.found(tree, number, id).map(Some),
                Answer::No => return Ok(None),
                Answer::Nothing => (),
            }
        }
        Ok(None)
    }

    fn found(&mut self, tree: &mut Tree, number: usize, id: NodeId) -> Result<Found> {
        let layer = &self.layers[number];
        let node = layer.node(id);
        let mut set = layer.xattrs[node.attributes.xattrs as usize].clone();
        set.retain(|xattr| !is_opaque(xattr));
        let attributes = Attributes {
            xattrs: tree.keep_xattrs(set),
            ..node.attributes
        };
        let origin = match self.origins.get(&(number, node.origin)) {
            Some(&origin) => origin,
            None => {
                let theirs = &layer.origins[node.origin as usize];
                let clone = theirs.try_clone();
                let clone =
                    clone.map_err(|error| Error::io(theirs.path(), "open the file", error))?;
                let origin = tree.origins.len() as u32;
                tree.origins.push(clone);
                self.origins.insert((number, node.origin), origin);
                origin
            }
        };
        let kind = match &node.kind {
            Kind::Regular { size, place } => Kind::Regular {
                size: *size,
                place: *place,
            },
            Kind::Directory(_) => Kind::Directory(Vec::new()),
            Kind::Symlink(target) => Kind::Symlink(target.clone()),
            Kind::Device {
                file_type,
                major,
                minor,
            } => Kind::Device {
                file_type: *file_type,
                major: *major,
                minor: *minor,
            },
            Kind::Fifo => Kind::Fifo,
            Kind::Socket => Kind::Socket,
        };
        Ok(Found {
            attributes,
            origin,
            kind,
        })
    }
}

fn ask(layer: &Tree, path: &[Vec<u8>]) -> Answer {
    let mut at = ROOT;
    for name in path {
        let node = layer.node(at);
        let Kind::Directory(entries) = &node.kind else {
            return Answer::No;
        };
        let wanted = (name_hash(name), &name[..]);
        let found =
            entries.binary_search_by(|entry| (entry.hash, layer.name(&entry.name)).cmp(&wanted));
        match found {
            Ok(position) => at = entries[position].node,
            Err(_) => {
                let set: &XattrSet = &layer.xattrs[node.attributes.xattrs as usize];
                return if set.iter().any(is_opaque) {
                    Answer::No
                } else {
                    Answer::Nothing
                };
            }
        }
        if layer.node(at).kind.is_whiteout() {
            return Answer::No;
        }
    }
    Answer::Is(at)
}

/// Return the extended attribute of opaque directories.
pub fn opaque() -> Xattr {
    Xattr {
        prefix: XattrPrefix::Trusted,
        name: (*b"overlay.opaque").into(),
        value: (*b"y").into(),
    }
}

fn is_opaque(xattr: &Xattr) -> bool {
    *xattr == opaque()
}
