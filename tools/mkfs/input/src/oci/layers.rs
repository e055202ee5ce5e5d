// SPDX-License-Identifier: GPL-2.0-only

//! Merges layers, or keeps them apart.

use super::super::member::{components, Placer, Touched};
use super::super::stream::Stream;
use super::super::tar::Reader;
use super::Layer;
use crate::budget::Budget;
use crate::lower::{opaque, Lower};
use crate::malformed::Refusal;
use daxfs_check::Progress;
use daxfs_reader::FileType;
use daxfs_writer::build::Builder;
use daxfs_writer::origin::Origin;
use daxfs_writer::tree::{Attributes, Kind, Node, NodeId, Tree};
use daxfs_writer::Result;
use std::path::Path;

/// Prefix of whiteouts: marks of removed files.
const WHITEOUT: &[u8] = b".wh.";

/// Prefix of other marks.
const META: &[u8] = b".wh..wh.";

/// Mark of an opaque directory, which hides lower layers' files.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A mark in a layer.
enum Mark {
    /// A file was removed.
    Whiteout {
        parent: NodeId,
        name: Vec<u8>,
        attributes: Attributes,
    },
    /// The entries of a directory were removed.
    Opaque(NodeId),
}

/// Add `layers` to the tree, each on top of the previous ones.
pub(in super::super) fn flatten(
    builder: &mut Builder,
    layers: &[Layer],
    scratch: &Path,
    progress: &dyn Progress,
    warn: &mut dyn FnMut(String),
) -> Result<()> {
    let budget = Budget::default();
    for layer in layers {
        let (marks, touched) = read(builder, layer, &budget, None, scratch, progress, warn)?;
        // Marks apply to the lower layers, independent of their position in this one.
        for mark in marks {
            match mark {
                Mark::Opaque(directory) => hide(builder, directory, &touched),
                Mark::Whiteout { parent, name, .. } => match builder.find(parent, &name) {
                    Some(id) if touched.has(parent, &name, id) => hide(builder, id, &touched),
                    _ => builder.remove(parent, &name),
                },
            }
        }
    }
    Ok(())
}

/// Remove the entries of `directory` that were not `touched`.
fn hide(builder: &mut Builder, directory: NodeId, touched: &Touched) {
    let mut pending = vec![directory];
    while let Some(id) = pending.pop() {
        for (name, child) in builder.list(id) {
            if touched.has(id, &name, child) {
                pending.push(child);
            } else {
                builder.remove(id, &name);
            }
        }
    }
}

/// Return a tree for each of `layers`, the lowest first, with overlayfs's marks.
pub(in super::super) fn apart(
    layers: &[Layer],
    scratch: &Path,
    progress: &dyn Progress,
    warn: &mut dyn FnMut(String),
    mut finish: impl FnMut(Builder) -> Tree,
) -> Result<Vec<Tree>> {
    let mut trees: Vec<Tree> = Vec::new();
    let budget = Budget::default();
    for layer in layers {
        let mut builder = Builder::new();
        let mut lower = Lower::new(&trees);
        if let Some(root) = lower.find(&mut builder.tree, &[])? {
            builder.describe(daxfs_writer::tree::ROOT, root.attributes, root.origin);
        }
        let below = Some(&mut lower);
        let (marks, _) = read(&mut builder, layer, &budget, below, scratch, progress, warn)?;
        for mark in marks {
            match mark {
                Mark::Opaque(directory) => make_opaque(&mut builder, directory),
                Mark::Whiteout {
                    parent,
                    name,
                    attributes,
                } => match builder.find(parent, &name) {
                    Some(id) if builder.is_directory(id) => make_opaque(&mut builder, id),
                    Some(_) => (),
                    None => whiteout(&mut builder, parent, &name, attributes)?,
                },
            }
        }
        trees.push(finish(builder));
    }
    Ok(trees)
}

fn make_opaque(builder: &mut Builder, directory: NodeId) {
    let old = builder.tree.node(directory).attributes.xattrs;
    let mut set = builder.tree.xattrs[old as usize].clone();
    if !set.contains(&opaque()) {
        set.push(opaque());
    }
    let set = builder.tree.keep_xattrs(set);
    builder.tree.nodes[directory as usize].attributes.xattrs = set;
}

fn whiteout(
    builder: &mut Builder,
    parent: NodeId,
    name: &[u8],
    attributes: Attributes,
) -> Result<()> {
    let name = builder.tree.keep_name(name);
    let kind = Kind::Device {
        file_type: FileType::CharDevice,
        major: 0,
        minor: 0,
    };
    debug_assert!(kind.is_whiteout());
    let id = builder.add(Node {
        attributes,
        parent,
        name,
        origin: builder.tree.node(parent).origin,
        kind,
    })?;
    builder.set(parent, name, id);
    Ok(())
}

/// Add the files of a layer to the tree. Return its marks and the nodes that it touched.
fn read(
    builder: &mut Builder,
    layer: &Layer,
    budget: &Budget,
    below: Option<&mut Lower<'_>>,
    scratch: &Path,
    progress: &dyn Progress,
    warn: &mut dyn FnMut(String),
) -> Result<(Vec<Mark>, Touched)> {
    progress.step("reading", layer.blob.size());
    let path = layer.blob.path.clone();
    let origin = builder.tree.origins.len() as u32;
    builder.tree.origins.push(Origin::nothing(&path));
    let mut reader = Reader::new(Stream::of_blob(&layer.blob, scratch, progress)?, budget);
    let mut placer = Placer::new(builder, origin, budget);
    placer.below = below;
    placer.touched = Some(Touched::default());
    let mut marks = Vec::new();
    while let Some(member) = reader.next()? {
        let at = member.at;
        let fail = |refusal| match refusal {
            Refusal::Malformed(why) => reader.error(at, why),
            Refusal::Error(error) => error,
        };
        let names = components(&member.path).map_err(|why| reader.error(at, why))?;
        let (name, parents) = names
            .split_last()
            .map_or((&b""[..], &[][..]), |(n, p)| (*n, p));
        if name == OPAQUE {
            let directory = placer.walk(parents, true).map_err(fail)?;
            marks.push(Mark::Opaque(directory));
            placer.count(0).map_err(|why| reader.error(at, why))?;
        } else if names.iter().any(|name| name.starts_with(META)) {
            // Internal files of older tools.
        } else if let Some(removed) = name.strip_prefix(WHITEOUT) {
            if matches!(removed, b"" | b"." | b"..") {
                return Err(reader.error(at, "a mark of a removed file names none"));
            }
            let Some(parent) = placer.walk_to_mark(parents).map_err(fail)? else {
                continue;
            };
            placer
                .count(removed.len())
                .map_err(|why| reader.error(at, why))?;
            marks.push(Mark::Whiteout {
                parent,
                name: removed.into(),
                attributes: Attributes {
                    permissions: 0,
                    uid: member.uid,
                    gid: member.gid,
                    mtime: member.mtime,
                    xattrs: 0,
                },
            });
        } else {
            placer.put(member).map_err(fail)?;
        }
    }
    let touched = placer.touched.take().unwrap_or_default();
    let (container, warnings) = reader.finish()?;
    warnings.into_iter().for_each(warn);
    builder.tree.origins[origin as usize] = Origin::file(&path, container);
    Ok((marks, touched))
}
