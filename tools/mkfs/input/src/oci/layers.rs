// SPDX-License-Identifier: GPL-2.0-only

//! Merges layers.

use super::super::member::{components, Placer, Touched};
use super::super::stream::Stream;
use super::super::tar::Reader;
use crate::blob::Blob;
use crate::budget::Budget;
use crate::options::Options;
use daxfs_check::Progress;
use daxfs_writer::build::Builder;
use daxfs_writer::origin::Origin;
use daxfs_writer::tree::{NodeId, ROOT};
use daxfs_writer::Result;

/// Prefix of whiteouts: marks of removed files.
const WHITEOUT: &[u8] = b".wh.";

/// Prefix of other marks.
const META: &[u8] = b".wh..wh.";

/// Mark of an opaque directory, which hides lower layers' files.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A mark in a layer.
enum Mark {
    /// The file of this name in a directory was removed.
    Whiteout(NodeId, Vec<u8>),
    /// The entries of a directory were removed.
    Opaque(NodeId),
}

/// Add `layers` to the tree, each on top of the previous ones.
pub(in super::super) fn flatten(
    builder: &mut Builder,
    layers: &[Blob],
    options: &Options<'_>,
    progress: &dyn Progress,
    warn: &mut dyn FnMut(String),
) -> Result<()> {
    let budget = Budget::default();
    for layer in layers {
        let (marks, touched) = read(builder, layer, &budget, options, progress, warn)?;
        // Marks apply to the lower layers, independent of their position in this one.
        for mark in marks {
            match mark {
                Mark::Opaque(directory) => hide(builder, directory, &touched),
                Mark::Whiteout(parent, name) => match builder.find(parent, &name) {
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

/// Add the files of a layer to the tree. Return its marks and the nodes that it touched.
fn read(
    builder: &mut Builder,
    layer: &Blob,
    budget: &Budget,
    options: &Options<'_>,
    progress: &dyn Progress,
    warn: &mut dyn FnMut(String),
) -> Result<(Vec<Mark>, Touched)> {
    progress.step("reading", layer.size());
    let path = layer.path.clone();
    let origin = builder.tree.origins.len() as u32;
    builder.tree.origins.push(Origin::nothing(&path));
    let mut reader = Reader::new(Stream::of_blob(layer, options.scratch, progress)?, budget);
    reader.ignore_zeros = options.ignore_zeros;
    let mut placer = Placer::new(builder, origin, budget);
    placer.touched = Some(Touched::default());
    let mut marks = Vec::new();
    while let Some(member) = reader.next()? {
        let at = member.at;
        let fail = |refusal| reader.refused(at, refusal);
        let names = components(&member.path).map_err(|why| reader.error(at, why))?;
        let (name, parents) = names
            .split_last()
            .map_or((&b""[..], &[][..]), |(n, p)| (*n, p));
        if name == OPAQUE {
            let directory = placer.walk(ROOT, parents, true).map_err(fail)?;
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
            marks.push(Mark::Whiteout(parent, removed.into()));
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
