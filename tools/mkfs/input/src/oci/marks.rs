// SPDX-License-Identifier: GPL-2.0-only

//! Finds container images among inputs that are not said to be any.

use crate::member::{Member, What};
use daxfs_writer::tree::Kind;
use daxfs_writer::{Error, Result};
use std::path::Path;

/// The names of files that make an archive or a directory a container image.
const NAMES: [&str; 4] = ["oci-layout", "index.json", "manifest.json", "repositories"];

/// Which of these files there are.
#[derive(Default)]
pub struct Marks([bool; NAMES.len()]);

impl Marks {
    /// Look at a member.
    pub fn note(&mut self, member: &Member) {
        if matches!(member.what, What::File(Kind::Regular { .. })) {
            let path = member.path.strip_prefix(b"./").unwrap_or(&member.path);
            for (mark, name) in self.0.iter_mut().zip(NAMES) {
                *mark |= path == name.as_bytes();
            }
        }
    }

    /// Refuse the archive `path` if it is a container image.
    pub fn refuse(&self, path: &Path) -> Result<()> {
        refuse(path, self, "tar:")
    }
}

/// Refuse the directory `path` if it is a container image.
pub fn refuse_directory(path: &Path) -> Result<()> {
    refuse(
        path,
        &Marks(NAMES.map(|name| path.join(name).is_file())),
        "dir:",
    )
}

/// Refuse an image layout, and the archives that older programs save. With the prefix `plain` they are read as they are.
fn refuse(path: &Path, marks: &Marks, plain: &str) -> Result<()> {
    let (what, remedy) = match marks.0 {
        [true, true, ..] => ("an OCI image layout", "write oci: before the path"),
        [.., true, true] => (
            "a container image of docker save",
            "make a layout by skopeo copy docker-archive:FILE oci:DIRECTORY:NAME",
        ),
        _ => return Ok(()),
    };
    let why = format!(
        "is {what}; {remedy} to read the files of the container, \
         or write {plain} to read the parts of the image as files"
    );
    Err(Error::refused(path, why))
}
