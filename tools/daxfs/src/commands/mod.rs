// SPDX-License-Identifier: GPL-2.0-only

//! The commands, each with its arguments, its help and its work.

// Their documentation is the help.
#![allow(missing_docs)]

pub mod cat;
mod common;
pub mod diff;
mod digest;
pub mod dump;
mod extract;
pub mod fsck;
mod fuse;
pub mod info;
mod load;
mod locate;
pub mod ls;
mod mount;
mod share;
mod sign;
pub mod stat;
mod store;
mod top;
mod verify;

use clap::{Parser, Subcommand};
use common::USAGE;
use daxfs_files::signals::survive_limits;
use daxfs_files::{eprintln, usage};
use daxfs_image::error::Result;
use mount::{fuse_helper, helper};
use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

pub use fsck::Helper as FsckHelper;
pub use mount::Helper as MountHelper;

const EXIT: &str = "\
Exit status:
  0 done, 1 failed, 2 wrong usage; diff and fsck differ.

Examples:
  daxfs ls -l base.img /etc";

/// Inspect, check and sign daxfs images, and load them into memory
///
/// Name an image file, a block device, a DAX device in devdax mode, or - for standard input; a pipe
/// is first copied to a temporary file in TMPDIR or /tmp. If the image does not start at the first
/// byte, use --offset; if it is in a store on a device, use --image. You need neither root nor the
/// kernel module, except to load images and to mount from a store. No command changes an image;
/// sign adds a signature.
///
/// Mount images with mount(8). daxfs.schema.json in share/doc/daxfs-doc, below /usr or /usr/local,
/// describes the output of --json.
#[derive(Parser)]
#[command(name = "daxfs", version, max_term_width = 100, after_help = EXIT)]
pub struct Args {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The command.
#[derive(Subcommand)]
pub enum Command {
    Info(info::Info),
    Ls(ls::Ls),
    Cat(cat::Cat),
    Stat(stat::Stat),
    Locate(locate::Locate),
    Dump(dump::Dump),
    Extract(extract::Extract),
    Diff(diff::Diff),
    Fsck(fsck::Fsck),
    Digest(digest::Digest),
    Sign(sign::Sign),
    Verify(verify::Verify),
    Fuse(fuse::Fuse),
    Top(top::Top),
    Load(load::Load),
    Share(share::Share),
    /// Keep images in a store: in a directory or on a device
    ///
    /// In a directory, images share the content of equal files, on disk and in memory. On a device,
    /// such as /dev/pmem0, a DAX device in devdax mode or a file that virtual machines map, every
    /// attached kernel can mount the images. mount(8) mounts the active image, or with image=NAME
    /// another one. A store is changed by one process at a time while others wait, and all changes
    /// survive power loss. See store.rst in share/doc/daxfs-doc.
    #[command(after_help = "\
Exit status:
  0 done, 1 failed, 2 wrong usage.

Examples:
  daxfs store init /dev/pmem0
  daxfs store add --activate /dev/pmem0 base-1 base-1.img
  mount -t daxfs /dev/pmem0 /mnt
  daxfs store add --activate /dev/pmem0 base-2 base-2.img
  daxfs store activate /dev/pmem0 base-1
  daxfs store add /srv/store base-1 rootfs")]
    Store(store::StoreArgs),
}

impl Command {
    fn run(self) -> Result<ExitCode> {
        match self {
            Command::Info(command) => command.run(),
            Command::Ls(command) => command.run(),
            Command::Cat(command) => command.run(),
            Command::Stat(command) => command.run(),
            Command::Locate(command) => command.run(),
            Command::Dump(command) => command.run(),
            Command::Extract(command) => command.run(),
            Command::Diff(command) => command.run(),
            Command::Fsck(command) => Ok(command.run()),
            Command::Digest(command) => command.run(),
            Command::Sign(command) => command.run(),
            Command::Verify(command) => command.run(),
            Command::Fuse(command) => command.run(),
            Command::Top(command) => command.run(),
            Command::Load(command) => command.run(),
            Command::Share(command) => command.run(),
            Command::Store(command) => command.run(),
        }
    }
}

const MOUNT_FAILED: u8 = 32;

const MOUNT_USAGE: u8 = 1;

/// Exit status of `diff` for trouble.
const TROUBLE: u8 = 2;

/// Runs the program by the name it was called with.
pub fn main() -> ExitCode {
    daxfs_image::warning::send_to(|warning| eprintln!("daxfs: warning: {warning}"));
    survive_limits();
    let name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&name).file_name().and_then(OsStr::to_str);
    let name = name.unwrap_or_default();
    if name == "mount.daxfs" || name == "mount.fuse.daxfs" {
        let args = match mount::Helper::try_parse() {
            Ok(args) => args,
            Err(error) => return usage(name, &error, MOUNT_USAGE),
        };
        let done = if name == "mount.daxfs" {
            helper(&args).map(|()| ExitCode::SUCCESS)
        } else {
            fuse_helper(&args)
        };
        return match done {
            Ok(status) if status == ExitCode::FAILURE => ExitCode::from(MOUNT_FAILED),
            Ok(status) => status,
            Err(why) => {
                eprintln!("{name}: {why}");
                ExitCode::from(MOUNT_FAILED)
            }
        };
    }
    if name == "fsck.daxfs" {
        return match fsck::Helper::try_parse() {
            Ok(helper) => helper.run(),
            Err(error) => usage("fsck.daxfs", &error, fsck::USAGE),
        };
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let fsck = std::env::args_os()
                .nth(1)
                .is_some_and(|word| word == "fsck");
            return usage("daxfs", &error, if fsck { fsck::USAGE } else { USAGE });
        }
    };
    let trouble = if matches!(args.command, Command::Diff(_)) {
        TROUBLE
    } else {
        1
    };
    match args.command.run() {
        Ok(code) => code,
        Err(why) => {
            eprintln!("daxfs: {why}");
            ExitCode::from(trouble)
        }
    }
}
