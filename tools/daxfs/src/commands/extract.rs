// SPDX-License-Identifier: GPL-2.0-only

//! `extract`: to a directory, or to an archive that appears when it is complete.

use crate::options::ImageAt;
use daxfs_extract::{self as extract, to_directory, to_tar};
use daxfs_files::signals::Interrupt;
use daxfs_files::stdout::{self, Out};
use daxfs_files::{replace, Overwrite};
use daxfs_image::error::{Error, Result};
use daxfs_image::handle_signals;
use daxfs_image::reader::Reader;
use daxfs_image::source::Source;
use daxfs_image::text::shown_path;
use daxfs_reader::{Content, Inode};
use std::ffi::OsStr;
use std::io::BufWriter;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

/// Target of unpacking.
pub struct Target<'a> {
    /// The directory or file.
    pub path: &'a Path,
    /// A tar archive rather than a directory.
    pub tar: bool,
    /// Replace an archive that exists.
    pub force: bool,
    /// Restore owners.
    pub owner: bool,
}

/// Unpack the directory `path` of the image.
pub fn unpack(picked: &ImageAt, target: &Target<'_>, path: &OsStr) -> Result<ExitCode> {
    let image = picked.open()?;
    let reader = image.reader();
    let start = reader.find(path.as_bytes(), true)?;
    if !matches!(start.content, Content::Directory(_)) {
        let why = "is not a directory; 'daxfs cat' extracts a single file";
        return Err(reader.refuse(path.as_bytes(), why));
    }
    let interrupt = handle_signals()?;
    let done = if target.tar {
        let mut overwrite = Overwrite::new(target.force);
        overwrite.input(&picked.image);
        archive(&reader, &start, target.path, &overwrite, &interrupt)
    } else {
        if target.owner {
            let remedy = "let tar set them: daxfs extract --tar IMAGE - | \
                          tar --xattrs --xattrs-include='*' -C DIRECTORY -xp; or give --no-same-owner";
            mkdaxfs::input::fakeroot::check(target.path, remedy)?;
        }
        let owner = target.owner && rustix::process::geteuid().is_root();
        to_directory(&reader, &start, target.path, owner, &interrupt)
    };
    interrupt.obey();
    for line in done?.lines() {
        eprintln!("daxfs: warning: {line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Write a tar archive: to standard output, to a file that appears when it is complete, or to a
/// device.
fn archive(
    reader: &Reader<'_, Source>,
    start: &Inode,
    target: &Path,
    overwrite: &Overwrite,
    interrupt: &Interrupt,
) -> Result<extract::Losses> {
    if target.as_os_str() == "-" {
        let mut out = Out::open();
        if out.terminal {
            let why = "is a terminal; name a file, or pipe the archive on";
            return Err(Error::refused("standard output", why));
        }
        let failed = |error| stdout::Error::new(error).into();
        let losses = to_tar(reader, start, &mut out, &failed, interrupt)?;
        out.finish()?;
        return Ok(losses);
    }
    let name = shown_path(target);
    let failed = |error: std::io::Error| extract::unwritten(&name, error);
    // Replace the file that a symbolic link leads to, not the link, unless another user made it.
    let target = &match replace::is_planted(target).map_err(failed)? {
        false => target.canonicalize().unwrap_or_else(|_| target.into()),
        true => target.into(),
    };
    if target.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let why = "is not a regular file; name a file, or - and redirect";
        return Err(Error::refused(name, why));
    }
    let free = || match target.exists() {
        true => overwrite.check_new(target),
        false => Ok(()),
    };
    free()?;
    let mut file = replace::temporary(target, ".daxfs-").map_err(failed)?;
    let mut out = BufWriter::with_capacity(256 << 10, file.as_file_mut());
    let losses = to_tar(reader, start, &mut out, &failed, interrupt)?;
    drop(out);
    interrupt.check()?;
    file.as_file().sync_all().map_err(failed)?;
    free()?;
    replace::rename(file, target).map_err(failed)?;
    Ok(losses)
}
