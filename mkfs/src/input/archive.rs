// SPDX-License-Identifier: GPL-2.0-only

//! Adds the members of a tar archive to a tree.

use super::marks::Marks;
use super::member::Placer;
use super::stream::Stream;
use super::tar::TarReader;
use crate::input::budget::Budget;
use crate::input::options::Options;
use crate::writer::build::Builder;
use crate::writer::origin::{Container, Origin};
use crate::writer::tree::ROOT;
use daxfs_files::Result;

/// How to read an archive.
pub(super) struct Rules<'a> {
    /// Whether the user called it an archive. Otherwise an empty archive is refused, and a
    /// container image's too.
    pub named: bool,
    pub budget: &'a Budget,
    /// See [`Placer::first`]; `None` unless the archive is a layer of an artifact.
    pub first: Option<u32>,
    /// See [`Placer::within`].
    pub within: &'a [&'a [u8]],
}

/// Adds the members of the archive in `stream` to the tree.
pub(super) fn read(
    builder: &mut Builder,
    stream: Stream<'_>,
    rules: &Rules<'_>,
    options: &Options<'_>,
) -> Result<()> {
    let &Rules { named, budget, .. } = rules;
    let path = stream.path().to_path_buf();
    let origin = builder.tree.origins.len() as u32;
    // The container is known only at the end, but messages need the name earlier.
    builder.tree.origins.push(Origin::nothing(&path));
    let mut reader = TarReader::new(stream, budget);
    reader.ignore_zeros = options.ignore_zeros;
    let mut placer = Placer::new(builder, ROOT, origin, budget);
    placer.first = rules.first.unwrap_or(origin);
    placer.within = rules.within;
    let (mut empty, mut marks) = (true, Marks::default());
    while let Some(member) = reader.next()? {
        let at = member.at;
        empty = false;
        marks.note(&member);
        placer
            .put(member)
            .map_err(|refusal| reader.refused(at, refusal))?;
    }
    placer
        .finish()
        .map_err(|(at, why)| reader.refused(at, why))?;
    if empty {
        reader.check_empty(named)?;
    }
    let (container, warnings): (Container, Vec<String>) = reader.finish()?;
    warnings.into_iter().for_each(options.warn);
    if !named {
        marks.refuse(&path)?;
    }
    builder.tree.origins[origin as usize] = Origin::file(&path, container);
    Ok(())
}
