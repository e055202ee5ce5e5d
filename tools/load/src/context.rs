// SPDX-License-Identifier: GPL-2.0-only

//! Mount contexts of the kernel: fsopen(2) and its family.

use daxfs_image::error::{Error, Result};
use daxfs_image::warning::warn;
use rustix::io::{read, Errno};
use rustix::mount::{fsconfig_create, fsconfig_set_string, fsopen, FsOpenFlags};
use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};

/// Returns the error of a failed call on the mount context `fs`, with the kernel's message if there
/// is one.
pub fn explain(fs: &OwnedFd, operation: impl Into<Cow<'static, str>>, error: Errno) -> Error {
    match said(fs) {
        Some(said) => Error::Mount {
            said,
            source: error.into(),
        },
        None => Error::system("", operation, "", error),
    }
}

/// Passes on the kernel's warnings about the mount context `fs`. Returns its last error.
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

/// Makes the kernel read the first `length` of the `size` bytes at physical address `start`. Returns true if they are
/// memory with a store.
///
/// Fails if this process may not use the range, or if it is in use.
pub fn look_at_range(start: u64, size: u64, length: u64) -> Result<bool> {
    let fs = fsopen("daxfs", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|error| Error::system("", "cannot mount daxfs", "", error))?;
    let options = [
        ("phys", start),
        ("size", size),
        ("fsoffset", 0),
        ("fslength", length),
    ];
    let set = |(name, value)| fsconfig_set_string(fs.as_fd(), name, format!("{value}"));
    let looked = options.into_iter().try_for_each(set);
    match looked.and_then(|()| fsconfig_create(fs.as_fd())) {
        Err(Errno::MEDIUMTYPE) => Ok(true),
        Err(error @ (Errno::BUSY | Errno::PERM)) => {
            Err(explain(&fs, "cannot look at the range", error))
        }
        _ => Ok(false),
    }
}
