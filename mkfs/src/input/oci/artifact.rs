// SPDX-License-Identifier: GPL-2.0-only

//! Layers of artifacts: files and archives of files.

use super::super::archive;
use super::super::member::{components, Member, Placer, What};
use super::super::stream::Stream;
use crate::input::blob::Blob;
use crate::input::budget::Budget;
use crate::input::options::Options;
use crate::writer::build::Builder;
use crate::writer::origin::Origin;
use crate::writer::tree::{Kind, Location, XattrSet, ROOT};
use daxfs_files::{shown, Error, Reason};
use prost_types::Timestamp;
use serde::Deserialize;

/// An artifact to add to a tree.
pub struct Artifact<'a> {
    pub builder: &'a mut Builder,
    pub budget: &'a Budget,
    /// The first origin of its layers.
    pub first: u32,
}

impl Artifact<'_> {
    /// Adds the members of an archive. Their names must begin with the directory `within`.
    pub fn archive(
        &mut self,
        blob: &Blob,
        within: &str,
        options: &Options<'_>,
    ) -> daxfs_files::Result<()> {
        options.progress.step("reading", blob.size());
        let stream = Stream::of_blob(blob, options)?;
        let within = names(within).map_err(|why| refused(blob, why))?;
        let rules = archive::Rules {
            named: true,
            budget: self.budget,
            first: Some(self.first),
            within: &within,
        };
        archive::read(self.builder, stream, &rules, options)
    }

    /// Adds a file. Its content stays in the blob.
    pub fn file(
        &mut self,
        blob: &Blob,
        path: String,
        metadata: Option<&str>,
    ) -> daxfs_files::Result<()> {
        let origin = self.builder.tree.origins.len() as u32;
        let container = blob.container()?;
        let origins = &mut self.builder.tree.origins;
        origins.push(Origin::file(&blob.path, container));
        let mut placer = Placer::new(self.builder, ROOT, origin, self.budget);
        placer.first = self.first;
        let member = member(blob, path, metadata);
        let put = member.and_then(|member| placer.put(member));
        put.map_err(|why| refused(blob, why))
    }
}

/// Returns the error for a layer: the tree's own error, or a refusal of the layer.
fn refused(blob: &Blob, why: Reason) -> Error {
    match why.downcast::<Error>() {
        Ok(error) => *error,
        Err(why) => Error::refused(&blob.path, why.to_string()),
    }
}

/// Returns the names in a layer's path.
fn names(path: &str) -> Result<Vec<&[u8]>, Reason> {
    if path.starts_with('/') {
        let why = "is absolute; make the artifact in the directory of its files";
        return Err(format!("the name '{}' {why}", shown(path.as_bytes())).into());
    }
    components(path.as_bytes())
}

/// Returns the file that a layer contains.
fn member(blob: &Blob, path: String, metadata: Option<&str>) -> Result<Member, Reason> {
    names(&path)?;
    let metadata = metadata.map(serde_json::from_str::<Metadata>).transpose();
    let why = |error| format!("the metadata of '{path}' is not understood: {error}");
    let metadata = metadata.map_err(why)?.unwrap_or_default();
    Ok(Member {
        permissions: match metadata.mode & 0o7777 {
            0 => 0o644,
            mode => mode as u16,
        },
        uid: metadata.uid,
        gid: metadata.gid,
        mtime: metadata.time()?,
        xattrs: XattrSet::new(),
        what: What::File(Kind::Regular {
            size: blob.size(),
            location: Location::Part(blob.start),
        }),
        path: path.into(),
        at: 0,
    })
}

/// ModelPack's metadata of a file. The defaults also apply without metadata.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: String,
}

impl Metadata {
    fn time(&self) -> Result<(i64, u32), Reason> {
        // Go writes its zero value for an unknown time.
        if self.mtime.is_empty() || self.mtime.starts_with("0001-01-01T00:00:00") {
            return Ok((0, 0));
        }
        time(&self.mtime).ok_or_else(|| format!("'{}' is not a time", self.mtime).into())
    }
}

/// Returns the seconds and nanoseconds of an RFC 3339 time: `2025-04-23T19:57:41.5+02:00`.
fn time(text: &str) -> Option<(i64, u32)> {
    // The parser treats a time without a zone as UTC, and accepts years with more than four digits.
    text.get(19..)?.find(['Z', '+', '-'])?;
    if text.as_bytes()[10] != b'T' || text.contains(' ') {
        return None;
    }
    let Timestamp { seconds, nanos } = text.parse().ok()?;
    Some((seconds, nanos as u32))
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", (0, 0)),
            ("1969-12-31T23:59:59.5Z", (-1, 500_000_000)),
            ("2000-02-29T12:00:00Z", (951_825_600, 0)),
            ("2100-03-01T00:00:00Z", (4_107_542_400, 0)),
            (
                "2025-04-23T19:57:41.123456789+02:30",
                (1_745_429_261, 123_456_789),
            ),
            ("2025-04-23T14:57:41-02:30", (1_745_429_261, 0)),
        ] {
            assert_eq!(time(text), Some(expected), "{text}");
        }
        let wrong = "|2025-04-23|2025-04-23T19:57Z|2025-04-23T19:57:41|2025-13-01T00:00:00Z|\
            99999-01-01T00:00:00Z|2025-04-23T19:57:41.Z|2025-04-23T19:57:41.5|\
            2025-04-23T19:57:415Z|2025-04-23T24:57:41Z|2025-02-29T19:57:41Z|\
            2025-4-23T19:57:41Z|2025-04-23T19:57:41+02:60|2025-04-23T19:57:4éZ|\
            2025-04-23 19:57:41Z|2025-04-23T19:57:41 Z|+99999999999-01-01T00:00:00Z";
        for wrong in wrong.split('|') {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }
}
