// SPDX-License-Identifier: GPL-2.0-only

//! Finds container images among inputs that are not said to be any.

use super::store::DESCRIPTION;
use super::Saved;
use crate::member::{Member, What};
use daxfs_writer::tree::{Kind, Place};
use daxfs_writer::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The files of an archive that make it a container image.
#[derive(Default)]
pub struct Marks {
    layout: bool,
    index: bool,
    /// Offset and size of the list that `docker save` writes.
    saved: Option<(u64, u64)>,
}

impl Marks {
    /// Look at a member.
    pub fn note(&mut self, member: &Member) {
        let What::File(Kind::Regular { size, place }) = &member.what else {
            return;
        };
        match member.path.strip_prefix(b"./").unwrap_or(&member.path) {
            b"oci-layout" => self.layout = true,
            b"index.json" => self.index = true,
            b"manifest.json" => {
                if let Place::Part(offset) = place {
                    self.saved = Some((*offset, *size));
                }
            }
            _ => (),
        }
    }

    /// Refuse the archive `path` if it is a container image. `file` has the content of its members.
    pub fn refuse(&self, path: &Path, file: &File) -> Result<()> {
        let manifest = self.saved.and_then(|(offset, size)| {
            let mut bytes = vec![0; size.min(DESCRIPTION) as usize];
            let read = file.read_exact_at(&mut bytes, offset);
            read.ok().map(|()| bytes)
        });
        refuse(path, self.layout && self.index, manifest, "tar:")
    }
}

/// Refuse the directory `path` if it is a container image.
pub fn refuse_directory(path: &Path) -> Result<()> {
    let is_file = |name| path.join(name).is_file();
    // A file that cannot be read is an error later, and one that is cut short is not a list.
    let start = || {
        let mut bytes = Vec::new();
        let file = File::open(path.join("manifest.json")).ok()?;
        file.take(DESCRIPTION).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let manifest = is_file("manifest.json").then(start).flatten();
    let layout = is_file("oci-layout") && is_file("index.json");
    refuse(path, layout, manifest, "dir:")
}

/// Refuse an image layout, and what `docker save` writes, with the list `manifest`. With the prefix
/// `plain` it is read as it is.
fn refuse(path: &Path, layout: bool, manifest: Option<Vec<u8>>, plain: &str) -> Result<()> {
    let saved = |bytes: Vec<u8>| {
        let images = serde_json::from_slice::<Vec<Saved>>(&bytes);
        images.is_ok_and(|images| !images.is_empty())
    };
    let (what, prefix) = match layout {
        true => ("an OCI image layout", "oci:"),
        false if manifest.is_some_and(saved) => ("a container image of docker save", "docker:"),
        false => return Ok(()),
    };
    let why = format!(
        "is {what}; write {prefix} before the path to read the files of the container, \
         or {plain} to read the parts of the image as files"
    );
    Err(Error::refused(path, why))
}
