// SPDX-License-Identifier: GPL-2.0-only

//! `ls`: lists files of an image.

use super::common::{on_image, ImageAt};
use clap::Args;
use daxfs_files::memory::Storage;
use daxfs_files::stdout::written;
use daxfs_image::error::Result;
use daxfs_image::reader::{join, Event, Reader};
use daxfs_image::text::{human, mode, shown, time};
use daxfs_reader::{Content, FileType, Inode};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

/// List files of an image
///
/// Names are sorted by their bytes, and on a terminal unusual characters are escaped. Times are
/// UTC, and a + after the mode stands for extended attributes.
#[derive(Args)]
#[command(
    disable_help_flag = true,
    after_help = "\
Examples:
  daxfs ls -lh base.img /etc
  daxfs ls -R0 base.img | xargs -0 -n 1"
)]
pub struct Ls {
    #[command(flatten)]
    image: ImageAt,
    /// File or directory in the image
    #[arg(default_value = "/")]
    path: OsString,
    #[command(flatten)]
    listing: Listing,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// Options of `ls`.
#[derive(Args, Clone, Copy, Default)]
pub struct Listing {
    /// Also show mode, links, owner, group, size and time
    #[arg(short, long)]
    pub long: bool,
    /// With --long, print sizes with a unit: 1.5K, 23M
    #[arg(short = 'h', long)]
    pub human_readable: bool,
    /// List all files below, with their full paths
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// List the directory itself instead of its content
    #[arg(short, long)]
    pub directory: bool,
    /// Also show inode numbers
    #[arg(short, long)]
    pub inode: bool,
    /// Append / to the names of directories
    #[arg(short = 'p', long)]
    pub slash: bool,
    /// End each name with NUL instead of a newline
    #[arg(short = '0', long)]
    pub zero: bool,
    /// Escape unusual characters in names, for a terminal.
    #[arg(skip)]
    pub terminal: bool,
}

impl Ls {
    pub fn run(mut self) -> Result<ExitCode> {
        on_image(&self.image.open()?, |reader, out| {
            self.listing.terminal = out.terminal && !self.listing.zero;
            ls(reader, self.path.as_bytes(), self.listing, out)
        })
    }
}

/// Lists `path`.
pub fn ls<S: Storage>(
    reader: &Reader<'_, S>,
    path: &[u8],
    options: Listing,
    out: &mut impl Write,
) -> Result<()> {
    let mut list =
        |inode: &Inode, path: &[u8], name: &[u8]| line(reader, inode, path, name, options, out);
    let start = reader.find(
        path,
        !options.directory && !options.long || path.ends_with(b"/"),
    )?;
    if options.recursive && !options.directory {
        return reader.walk(&start, path, &mut |path, _, event| match event {
            Event::Enter(inode) | Event::File(inode) => list(inode, path, path),
            Event::Leave(_) => Ok(()),
        });
    }
    match start.content {
        Content::Directory(directory) if !options.directory => {
            for child in reader.children(&directory, path)? {
                let whole = join(path, &child.name);
                list(&child.inode, &whole, &child.name)?;
            }
            Ok(())
        }
        _ => list(&start, path, path),
    }
}

/// Prints a listing's line for one file, called `name`.
fn line<S: Storage>(
    reader: &Reader<'_, S>,
    inode: &Inode,
    path: &[u8],
    name: &[u8],
    options: Listing,
    out: &mut impl Write,
) -> Result<()> {
    let target = if options.long {
        reader.target(inode, path)?
    } else {
        Vec::new()
    };
    let mut write = || {
        if options.inode {
            write!(out, "{:>7} ", inode.ino)?;
        }
        if options.long {
            let size = match inode.content {
                Content::Device { major, minor } => format!("{major}, {minor}"),
                _ if options.human_readable => human(inode.size),
                _ => inode.size.to_string(),
            };
            let plus = if inode.xattrs == 0 { ' ' } else { '+' };
            let mode = mode(inode.file_type, inode.permissions());
            let time = time(inode.mtime_sec, inode.mtime_nsec);
            let (nlink, uid, gid) = (inode.nlink, inode.uid, inode.gid);
            write!(
                out,
                "{mode}{plus} {nlink:>3} {uid:>5} {gid:>5} {size:>10} {time} "
            )?;
        }
        put_name(out, name, options.terminal)?;
        if options.slash && inode.file_type == FileType::Directory {
            out.write_all(b"/")?;
        }
        if !target.is_empty() {
            out.write_all(b" -> ")?;
            put_name(out, &target, options.terminal)?;
        }
        out.write_all(if options.zero { b"\0" } else { b"\n" })
    };
    Ok(written(write())?)
}

fn put_name(out: &mut impl Write, name: &[u8], terminal: bool) -> io::Result<()> {
    if terminal {
        out.write_all(shown(name).as_bytes())
    } else {
        out.write_all(name)
    }
}
