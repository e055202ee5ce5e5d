// SPDX-License-Identifier: GPL-2.0-only

//! Nameless temporary files, and copies of pipes in them.

use crate::memory::ZEROS;
use crate::{cause, plain, shown_path, Error, Result};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Creates a temporary file in `directory`.
pub fn nameless(directory: &Path) -> Result<File> {
    tempfile::tempfile_in(directory).map_err(|error| {
        let set = match std::env::var_os("TMPDIR") {
            Some(value) if *value == *directory => format!(" (now {})", shown_path(directory)),
            _ => String::new(),
        };
        let why = cause(&plain(error));
        let remedy = format!("set TMPDIR{set} to a directory that you can write to");
        let why = format!("cannot create a temporary file in the directory: {why}; {remedy}");
        Error::refused(directory, why)
    })
}

/// Writes `bytes` to a temporary file in `directory`.
pub fn write(file: &File, bytes: &[u8], offset: u64, directory: &Path) -> Result<()> {
    let written = file.write_all_at(bytes, offset);
    written.map_err(|error| Error::output(directory, "write a temporary file", error))
}

/// Copies `pipe`, called `name` in messages, to a temporary file in `directory`, with holes for
/// zeros. Returns the file and its size.
pub fn spool(mut pipe: impl Read, name: &Path, directory: &Path) -> Result<(File, u64)> {
    let file = nameless(directory)?;
    let mut buffer = vec![0; ZEROS.len()];
    let mut size = 0;
    loop {
        let piece = match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => &buffer[..length],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io(name, "read it", error)),
        };
        if *piece != ZEROS[..piece.len()] {
            write(&file, piece, size, directory)?;
        }
        size += piece.len() as u64;
    }
    file.set_len(size)
        .map_err(|error| Error::output(directory, "write a temporary file", error))?;
    Ok((file, size))
}
