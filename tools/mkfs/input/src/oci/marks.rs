// SPDX-License-Identifier: GPL-2.0-only

//! Finds container images among inputs that are not said to be any.

use crate::member::{Member, What};
use daxfs_writer::tree::Kind;
use daxfs_writer::{Error, Result};
use std::path::Path;

/// The files of an archive that make it a container image.
#[derive(Default)]
pub struct Marks {
    layout: bool,
    index: bool,
}

impl Marks {
    /// Look at a member.
    pub fn note(&mut self, member: &Member) {
        if matches!(member.what, What::File(Kind::Regular { .. })) {
            match member.path.strip_prefix(b"./").unwrap_or(&member.path) {
                b"oci-layout" => self.layout = true,
                b"index.json" => self.index = true,
                _ => (),
            }
        }
    }

    /// Refuse the archive `path` if it is a container image.
    pub fn refuse(&self, path: &Path) -> Result<()> {
        refuse(path, self.layout && self.index, "tar:")
    }
}

/// Refuse the directory `path` if it is a container image.
pub fn refuse_directory(path: &Path) -> Result<()> {
    let is_file = |name| path.join(name).is_file();
    refuse(path, is_file("oci-layout") && is_file("index.json"), "dir:")
}

/// Refuse an image layout. With the prefix `plain` it is read as it is.
fn refuse(path: &Path, layout: bool, plain: &str) -> Result<()> {
    if !layout {
        return Ok(());
    }
    let why = format!(
        "is an OCI image layout; write oci: before the path to read the files of the container, \
         or {plain} to read the parts of the image as files"
    );
    Err(Error::refused(path, why))
}
