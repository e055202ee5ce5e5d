// SPDX-License-Identifier: GPL-2.0-only

//! Recognizes container images among inputs that the user did not declare as such.

use crate::input::member::{Member, What};
use crate::writer::tree::Kind;
use daxfs_files::{Error, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The files that make an archive or a directory a container image.
const NAMES: [&str; 3] = ["oci-layout", "index.json", "manifest.json"];

/// Which of these files exist, and whether a part exists that is named as by docker or skopeo.
#[derive(Clone, Default, PartialEq)]
pub struct Marks([bool; NAMES.len()], bool);

impl Marks {
    /// Records a member.
    pub fn note(&mut self, member: &Member) {
        if matches!(member.what, What::File(Kind::Regular { .. })) {
            self.file(member.path.strip_prefix(b"./").unwrap_or(&member.path));
        }
    }

    /// Records the name of a regular file.
    fn file(&mut self, path: &[u8]) {
        for (mark, name) in self.0.iter_mut().zip(NAMES) {
            *mark |= path == name.as_bytes();
        }
        let name = path.strip_prefix(b"sha256:").unwrap_or(path);
        let digits = name.split(|&byte| byte == b'.').next().unwrap_or_default();
        self.1 |= path == b"repositories"
            || digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit);
    }

    /// Fails if the archive `path` is a container image.
    pub fn refuse(&self, path: &Path) -> Result<()> {
        refuse(path, self, "tar:")
    }
}

/// Fails if the directory `path` is a container image.
pub fn refuse_directory(path: &Path) -> Result<()> {
    let mut marks = Marks::default();
    // If this fails, reading it later fails with a better message.
    for entry in path.read_dir().into_iter().flatten().flatten() {
        let mut found = marks.clone();
        found.file(entry.file_name().as_bytes());
        if found != marks && entry.path().is_file() {
            marks = found;
        }
    }
    refuse(path, &marks, "dir:")
}

/// Refuses an image layout or an older program's archive. The prefix `plain` reads its plain files.
fn refuse(path: &Path, marks: &Marks, plain: &str) -> Result<()> {
    let (what, remedy) = match (marks.0, marks.1) {
        ([true, true, _], _) => ("an OCI image layout", "write oci: before the path"),
        ([.., true], true) => (
            "a container image of docker save or skopeo",
            "make a layout by skopeo copy, of docker-archive:FILE or dir:DIRECTORY, to oci:DIRECTORY:NAME",
        ),
        _ => return Ok(()),
    };
    let why = format!(
        "is {what}; {remedy} to read the files of the container, \
         or write {plain} to read the parts of the image as files"
    );
    Err(Error::refused(path, why))
}
