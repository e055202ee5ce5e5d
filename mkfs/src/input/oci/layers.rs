// SPDX-License-Identifier: GPL-2.0-only

//! Merges layers of container images, and adds layers of artifacts.

use super::super::member::{components, Placer, What};
use super::super::stream::Stream;
use super::super::tar::TarReader;
use super::artifact::Artifact;
use super::types::Form;
use crate::input::blob::{Blob, BlobReader};
use crate::input::budget::Budget;
use crate::input::decoder::Uncompressed;
use crate::input::options::Options;
use crate::writer::build::{Builder, Marks};
use crate::writer::origin::Origin;
use crate::writer::overlay;
use crate::writer::tree::NodeId;
use daxfs_files::{Error, Result};
use sha2::Digest;
use std::cell::RefCell;
use std::io;
use std::path::Path;

/// Prefix of whiteouts, which mark removed files.
const WHITEOUT: &[u8] = b".wh.";

/// Prefix of other marks.
const META: &[u8] = b".wh..wh.";

/// AUFS's directory of files that are hard-linked under other names.
const LINKS: &[u8] = b".wh..wh.plnk";

/// A verified layer.
pub(in super::super) struct Layer {
    pub blob: Blob,
    pub form: Form,
}

/// Adds `layers` to the tree, each on top of the previous ones.
pub(in super::super) fn flatten(
    builder: &mut Builder,
    layers: Vec<Layer>,
    options: &Options<'_>,
) -> Result<()> {
    let budget = Budget::default();
    builder.first = builder.tree.origins.len() as u32;
    let mut artifact = Artifact {
        first: builder.first,
        builder,
        budget: &budget,
    };
    for Layer { blob, form } in layers {
        match form {
            Form::Changes => {
                let builder = &mut *artifact.builder;
                add(builder, &blob, options, &budget, None)?;
            }
            Form::Archive(within) => {
                artifact.archive(&blob, &within, options)?;
            }
            Form::File { path, metadata } => {
                artifact.file(&blob, path, metadata.as_deref())?;
            }
        }
    }
    Ok(())
}

/// Merges the layer in the file `path` into the tree of `builder`, as overlayfs shows it.
///
/// Returns SHA-256 and size of the uncompressed layer; the image's configuration has the SHA-256.
///
/// # Errors
///
/// Those of [`read`](crate::input::read) for the archive.
pub fn layer(builder: &mut Builder, path: &Path, options: &Options<'_>) -> Result<([u8; 32], u64)> {
    let blob = Blob::open(path)?;
    let told = RefCell::default();
    let budget = Budget::default();
    if !add(builder, &blob, options, &budget, Some(&told))? {
        let mut reader = BlobReader::new(&blob, options.progress);
        let read = io::copy(&mut reader, &mut *told.borrow_mut());
        read.map_err(|error| Error::io(path, "read the file", error))?;
    }
    let Uncompressed { sha256, size } = told.into_inner();
    Ok((sha256.finalize().into(), size))
}

/// Adds `layer` to the tree. Passes its decompressed bytes to `told`; false if it is not
/// compressed.
fn add(
    builder: &mut Builder,
    layer: &Blob,
    options: &Options<'_>,
    budget: &Budget,
    told: Option<&RefCell<Uncompressed>>,
) -> Result<bool> {
    let origin = builder.tree.origins.len() as u32;
    builder.tree.origins.push(Origin::nothing(&layer.path));
    let root = builder.root(origin)?;
    options.progress.step("reading", layer.size());
    let mut stream = Stream::of_blob(layer, options)?;
    let is_told = stream.tell(told);
    let mut reader = TarReader::new(stream, budget);
    reader.ignore_zeros = options.ignore_zeros;
    let marks = read(builder, root, origin, &mut reader, budget)?;
    let (container, warnings) = reader.finish()?;
    warnings.into_iter().for_each(options.warn);
    builder.tree.origins[origin as usize] = Origin::file(&layer.path, container);
    builder.merge(root, &marks);
    let replaced = std::mem::take(&mut builder.replaced);
    replaced.lines().for_each(options.warn);
    Ok(is_told)
}

/// Adds a layer's files to the tree below `root`. Returns the layer's marks.
fn read(
    builder: &mut Builder,
    root: NodeId,
    origin: u32,
    reader: &mut TarReader<'_>,
    budget: &Budget,
) -> Result<Marks> {
    let mut placer = Placer::new(builder, root, origin, budget);
    let mut marks = Marks::default();
    while let Some(mut member) = reader.next()? {
        let at = member.at;
        let fail = |refusal| reader.refused(at, refusal);
        let names = components(&member.path).map_err(fail)?;
        let (name, parents) = names
            .split_last()
            .map_or((&b""[..], &[][..]), |(n, p)| (*n, p));
        let hidden = match name.strip_prefix(WHITEOUT) {
            _ if names.first() == Some(&LINKS) => None,
            Some(b".wh..opq") => Some(None),
            // Internal files of older tools.
            _ if names.iter().any(|name| name.starts_with(META)) => continue,
            Some(b"" | b"." | b"..") => {
                return Err(reader.error(at, "a mark of a removed file names none"));
            }
            Some(name) => Some(Some(name)),
            // Overlayfs's own whiteout.
            None => match &member.what {
                What::File(kind) if kind.is_whiteout() => Some(Some(name)),
                _ => None,
            },
        };
        let Some(hidden) = hidden else {
            let opaque = overlay::value(&member.xattrs, "opaque") == Some(b"y");
            let opaque = opaque.then(|| member.path.clone());
            member.xattrs = overlay::visible(&member.xattrs);
            placer.put(member).map_err(fail)?;
            if let Some(path) = opaque {
                let names = components(&path).map_err(fail)?;
                marks
                    .opaque
                    .extend(placer.walk_to_mark(&names).map_err(fail)?);
            }
            continue;
        };
        if let Some(directory) = placer.walk_to_mark(parents).map_err(fail)? {
            placer.count(hidden.map_or(0, <[u8]>::len)).map_err(fail)?;
            match hidden {
                Some(name) => {
                    let removed = marks.removed.entry(directory).or_default();
                    removed.push(name.to_vec());
                }
                None => _ = marks.opaque.insert(directory),
            }
        }
    }
    let finished = placer.finish();
    finished.map_err(|(at, why)| reader.refused(at, why))?;
    builder.remove(root, LINKS);
    Ok(marks)
}
