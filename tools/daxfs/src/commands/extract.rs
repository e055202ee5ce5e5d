// SPDX-License-Identifier: GPL-2.0-only

//! `extract`: extracts to a directory, or to an archive that appears once complete.

use super::common::ImageAt;
use clap::Args;
use daxfs_extract::{self as extract, to_directory, to_tar};
use daxfs_files::region::Region;
use daxfs_files::signals::Interrupt;
use daxfs_files::stdout::{self, or_pipe, Out};
use daxfs_files::{eprintln, replace, Overwrite};
use daxfs_image::error::{Error, Result};
use daxfs_image::handle_signals;
use daxfs_image::packs::PackFiles;
use daxfs_image::reader::Reader;
use daxfs_image::text::shown_path;
use daxfs_reader::Inode;
use std::ffi::OsString;
use std::io::BufWriter;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Extract an image to a directory or a tar archive
///
/// Restores owners (as root), modes, times, extended attributes, hard links, devices and holes, and
/// lists on standard error what it cannot restore. TARGET must be new or an empty directory. It
/// appears once it is complete, and a failure leaves nothing behind. No image can make this command
/// write outside TARGET. Only --force replaces an existing archive.
///
/// Archives are in PAX format with extended attributes (SCHILY.xattr), access control lists
/// (SCHILY.acl), nanoseconds and sparse files; GNU tar restores all of that with --xattrs
/// --xattrs-include='*' --numeric-owner -p. Sockets are left out.
#[derive(Args)]
#[command(after_help = "\
Examples:
  daxfs extract base.img rootfs
  daxfs extract --path /etc base.img etc
  daxfs extract --tar base.img base.tar
  daxfs extract --tar base.img - | zstd >base.tar.zst")]
pub struct Extract {
    #[command(flatten)]
    image: ImageAt,
    #[command(flatten)]
    packs: PackFiles,
    /// Directory, or with --tar the archive; - for standard output
    target: PathBuf,
    /// Write a tar archive
    #[arg(short, long)]
    tar: bool,
    /// Replace an existing archive or other file; the new one keeps its owner and mode
    #[arg(short, long, requires = "tar")]
    force: bool,
    /// Extract only this directory of the image
    #[arg(short, long, default_value = "/")]
    path: OsString,
    /// Do not restore owners, even as root
    #[arg(long, conflicts_with = "tar")]
    no_same_owner: bool,
}

impl Extract {
    pub fn run(self) -> Result<ExitCode> {
        let image = self.image.open_with(&self.packs)?;
        let reader = image.reader();
        let start = reader.find(self.path.as_bytes(), true)?;
        if start.directory().is_none() {
            let why = "is not a directory; 'daxfs cat' extracts a single file";
            return Err(reader.refuse(self.path.as_bytes(), why));
        }
        let target = if self.tar {
            or_pipe(&self.target)
                .map_err(|error| extract::unwritten(&shown_path(&self.target), error))?
        } else {
            self.target.clone()
        };
        let interrupt = handle_signals()?;
        let done = if self.tar {
            let mut overwrite = Overwrite::new(self.force);
            overwrite.input(&self.image.image);
            archive(&reader, &start, &target, &overwrite, &interrupt)
        } else {
            if !self.no_same_owner {
                let remedy = "let tar set them: daxfs extract --tar IMAGE - | \
                              tar --xattrs --xattrs-include='*' -C DIRECTORY -xp; or give --no-same-owner";
                mkdaxfs::input::fakeroot::check(&target, remedy)?;
            }
            let owner = !self.no_same_owner && rustix::process::geteuid().is_root();
            to_directory(&reader, &start, &target, owner, &interrupt)
        };
        interrupt.obey();
        for line in done?.lines() {
            eprintln!("daxfs: warning: {line}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes a tar archive: to standard output, to a device, or to a file that appears once complete.
fn archive(
    reader: &Reader<'_, Region>,
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
    // Replace a symbolic link's target, not the link, unless another user made the link.
    let target = &if replace::is_planted(target).map_err(failed)? {
        target.into()
    } else {
        target.canonicalize().unwrap_or_else(|_| target.into())
    };
    if target.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let why = "is not a regular file; name a file, or - and redirect";
        return Err(Error::refused(name, why));
    }
    let free = || {
        if target.exists() {
            overwrite.check_new(target)
        } else {
            Ok(())
        }
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
