// SPDX-License-Identifier: GPL-2.0-only

//! The kernel's mount contexts: fsopen(2) and its family.

use daxfs_image::error::Error;
use daxfs_image::warning::warn;
use rustix::io::{read, Errno};
use std::borrow::Cow;
use std::os::fd::OwnedFd;

/// Returns the error for a failed call on the mount context `fs`, with the kernel's message if
/// there is one.
pub fn explain(fs: &OwnedFd, operation: impl Into<Cow<'static, str>>, error: Errno) -> Error {
    match said(fs) {
        Some(said) => Error::Mount {
            said,
            source: error.into(),
        },
        None => Error::system("", operation, "", error),
    }
}

/// Forwards the kernel's warnings about the mount context `fs`. Returns its last error.
pub fn said(fs: &OwnedFd) -> Option<String> {
    let (mut line, mut last) = ([0; 1024], None);
    while let Ok(length) = read(fs, &mut line) {
        // "e daxfs: ...\n": the first letter is the level.
        let text = String::from_utf8_lossy(line.get(2..length).unwrap_or_default());
        match line[0] {
            b'w' => warn(text.trim_end()),
            b'e' => last = Some(text.trim_end().to_owned()),
            _ if length == 0 => break,
            _ => {}
        }
    }
    last
}
