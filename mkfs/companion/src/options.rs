// SPDX-License-Identifier: GPL-2.0

//! The command lines.

use crate::buffer::Kind;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Puts daxfs images into memory.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Exit status: 0 success, 1 failure, 2 usage."
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Put an image file into memory and mount it
    ///
    /// The memory belongs to the mount and is freed with it. A memfd is sealed: its content can never change.
    Load {
        /// The image file
        image: PathBuf,
        /// Where to mount it
        dir: PathBuf,
        /// The kind of memory
        #[arg(long, value_enum, default_value_t = Kind::Memfd)]
        into: Kind,
        /// Mount options, as for mount(8)
        #[arg(short, long, value_delimiter = ',')]
        options: Vec<String>,
    },
    /// Write an image file to a DAX or block device, which must not be mounted
    Write {
        /// The image file
        image: PathBuf,
        /// The device, such as /dev/pmem0 or /dev/dax0.0 (in devdax mode)
        device: PathBuf,
    },
}

/// Mounts a daxfs image; called by mount(8). An image file is put into a sealed memfd first.
#[derive(Parser)]
#[command(name = "mount.daxfs", version, about)]
pub struct HelperArgs {
    /// An image file, or a device
    pub source: PathBuf,
    /// Where to mount it
    pub dir: PathBuf,
    /// Mount options
    #[arg(short, value_delimiter = ',')]
    options: Vec<String>,
    /// Read-only, which every mount is
    #[arg(short)]
    read_only: bool,
    /// Read-write, which is ignored
    #[arg(short = 'w')]
    read_write: bool,
    /// Tolerate unknown options, which is not done
    #[arg(short)]
    sloppy: bool,
    /// Do everything but mount
    #[arg(short)]
    pub fake: bool,
    /// Do not write /etc/mtab
    #[arg(short)]
    pub no_mtab: bool,
    /// Say more
    #[arg(short)]
    pub verbose: bool,
    /// Filesystem type
    #[arg(short = 't')]
    kind: Option<String>,
}

impl HelperArgs {
    /// The mount options that are not empty.
    pub fn words(&self) -> Vec<String> {
        let words = self.options.iter().filter(|word| !word.is_empty());
        words.cloned().collect()
    }
}
