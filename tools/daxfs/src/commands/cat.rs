// SPDX-License-Identifier: GPL-2.0-only

//! `cat`: prints files of an image.

use super::common::{on_image, ImageAt};
use clap::Args;
use daxfs_files::memory::Storage;
use daxfs_files::stdout::written;
use daxfs_image::error::Result;
use daxfs_image::packs::PackFiles;
use daxfs_image::reader::Reader;
use daxfs_image::text::type_name;
use daxfs_reader::FileType;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

/// Print files of an image
#[derive(Args)]
#[command(after_help = "\
Examples:
  daxfs cat base.img /etc/os-release")]
pub struct Cat {
    #[command(flatten)]
    image: ImageAt,
    #[command(flatten)]
    packs: PackFiles,
    /// Files in the image; symbolic links are followed within it
    #[arg(required = true)]
    paths: Vec<OsString>,
}

impl Cat {
    pub fn run(self) -> Result<ExitCode> {
        on_image(&self.image.open_with(&self.packs)?, |reader, out| {
            let mut paths = self.paths.iter();
            paths.try_for_each(|path| cat(reader, path.as_bytes(), out))
        })
    }
}

/// Writes the content of the file `path`.
pub fn cat<S: Storage>(reader: &Reader<'_, S>, path: &[u8], out: &mut impl Write) -> Result<()> {
    let inode = reader.find(path, true)?;
    if inode.file_type != FileType::Regular {
        let kind = type_name(inode.file_type);
        return Err(reader.refuse(path, format!("is a {kind}; only files have content")));
    }
    reader.content(&inode, path, &mut |piece| {
        Ok(written(out.write_all(piece))?)
    })
}
