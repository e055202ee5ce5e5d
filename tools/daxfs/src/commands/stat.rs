// SPDX-License-Identifier: GPL-2.0-only

//! `stat`: shows all metadata of files.

use super::common::{on_image, ImageAt};
use clap::Args;
use daxfs_files::digest::hex;
use daxfs_files::memory::Storage;
use daxfs_files::stdout::written;
use daxfs_image::error::Result;
use daxfs_image::packs::PackFiles;
use daxfs_image::reader::Reader;
use daxfs_image::text::{mode, shown, time, type_name};
use daxfs_reader::Content;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

/// Show all metadata of files
#[derive(Args)]
#[command(after_help = "\
Examples:
  daxfs stat base.img /etc/os-release")]
pub struct Stat {
    #[command(flatten)]
    image: ImageAt,
    #[command(flatten)]
    packs: PackFiles,
    /// Files in the image
    #[arg(required = true)]
    paths: Vec<OsString>,
    /// Follow a symbolic link
    #[arg(short = 'L', long)]
    follow: bool,
}

impl Stat {
    pub fn run(self) -> Result<ExitCode> {
        on_image(&self.image.open_with(&self.packs)?, |reader, out| {
            let mut paths = self.paths.iter();
            paths.try_for_each(|path| stat(reader, path.as_bytes(), self.follow, out))
        })
    }
}

/// Shows all metadata of `path`.
pub fn stat<S: Storage>(
    reader: &Reader<'_, S>,
    path: &[u8],
    follow: bool,
    out: &mut impl Write,
) -> Result<()> {
    let inode = reader.find(path, follow)?;
    let target = reader.target(&inode, path)?;
    let xattrs = reader.xattrs(&inode, path)?;
    let packs = reader.packs()?;
    let mut write = || {
        let permissions = inode.permissions();
        write!(out, "  File: {}", shown(path))?;
        if !target.is_empty() {
            write!(out, " -> {}", shown(&target))?;
        }
        writeln!(out)?;
        let kind = type_name(inode.file_type);
        writeln!(
            out,
            "  Type: {kind}  Size: {}  Inode: {}  Links: {}",
            inode.size, inode.ino, inode.nlink
        )?;
        let text = mode(inode.file_type, permissions);
        writeln!(
            out,
            "  Mode: {permissions:04o}/{text}  Uid: {}  Gid: {}",
            inode.uid, inode.gid
        )?;
        writeln!(
            out,
            "Modify: {} UTC",
            time(inode.mtime_sec, inode.mtime_nsec)
        )?;
        match inode.content {
            Content::Regular { data } if inode.size > 0 => {
                let huge = if inode.is_huge() {
                    ", by huge pages"
                } else {
                    ""
                };
                writeln!(out, "  Data: from {data:#x} of the image{huge}")?;
            }
            Content::InPack { pack, original } => {
                let there = reader
                    .source(&inode, path)
                    .map(|(_, inode, _)| inode.content);
                let place = match there {
                    Ok(Content::Regular { data }) => format!("from {data:#x}"),
                    _ => format!("inode {original}"),
                };
                let sha256 = hex(&packs[pack as usize].sha256);
                writeln!(out, "  Data: {place} of the pack {sha256}")?;
            }
            Content::Device { major, minor } => writeln!(out, "Device: {major}:{minor}")?,
            Content::Directory(directory) => writeln!(out, "Names:  {}", directory.entries)?,
            _ => (),
        }
        for xattr in &xattrs {
            writeln!(
                out,
                " Xattr: {}={}",
                shown(&xattr.whole_name()),
                shown(&xattr.value)
            )?;
        }
        Ok(())
    };
    Ok(written(write())?)
}
