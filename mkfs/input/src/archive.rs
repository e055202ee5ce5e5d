// SPDX-License-Identifier: GPL-2.0

//! Puts the members of a tar archive into a tree.

use super::member::Placer;
use super::stream::Stream;
use super::tar::Reader;
use crate::malformed::Refusal;
use daxfs_writer::build::Builder;
use daxfs_writer::origin::{Container, Origin};
use daxfs_writer::Result;

/// Puts the members of the archive in `stream` into the tree.
pub(super) fn read(
    builder: &mut Builder,
    stream: Stream<'_>,
    warn: &mut dyn FnMut(String),
) -> Result<()> {
    let path = stream.path().to_path_buf();
    let origin = builder.tree.origins.len() as u32;
    // Where the content is turns out at the end; messages have the name from the beginning.
    builder.tree.origins.push(Origin::nothing(&path));
    let mut reader = Reader::new(stream);
    let mut placer = Placer::new(builder, origin);
    while let Some(member) = reader.next()? {
        let at = member.at;
        placer.put(member).map_err(|refusal| match refusal {
            Refusal::Malformed(why) => reader.error(at, why),
            Refusal::Error(error) => error,
        })?;
    }
    let (container, warnings): (Container, Vec<String>) = reader.finish()?;
    warnings.into_iter().for_each(warn);
    builder.tree.origins[origin as usize] = Origin::file(&path, container);
    Ok(())
}
