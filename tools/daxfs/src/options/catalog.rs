// SPDX-License-Identifier: GPL-2.0-only

//! The command lines of `daxfs catalog`.

use clap::Subcommand;
use daxfs_files::values;
use daxfs_load::catalog::Reuse;
use std::path::PathBuf;

/// A command on a catalogue.
#[derive(Subcommand)]
pub enum Catalog {
    /// Make an empty catalogue
    ///
    /// The device's content is lost. Without --force, only zeros and a daxfs image are overwritten;
    /// of a device, the first 2 MiB and the last MiB are examined.
    #[command(after_help = "\
Examples:
  daxfs catalog init /dev/pmem0
  daxfs catalog init --size 4G images.pmem")]
    Init {
        /// The device or file
        device: PathBuf,
        /// Make a new file of this size
        #[arg(long, value_parser = values::size)]
        size: Option<u64>,
        /// Overwrite whatever the device holds, also another catalogue
        #[arg(short, long)]
        force: bool,
    },
    /// List the images
    ///
    /// MOUNTED says whether this kernel has the image mounted. It cannot know about other kernels
    /// that share the memory.
    #[command(after_help = "\
Examples:
  daxfs catalog list /dev/pmem0
  daxfs catalog list --json /dev/pmem0 | jq -r '.images[] | select(.active) | .name'")]
    List {
        /// The device or file
        device: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Copy an image into free space and add it
    ///
    /// Space of removed images is free when no mount uses it, see --reuse.
    #[command(after_help = "\
Examples:
  daxfs catalog add /dev/pmem0 base-2 base-2.img
  daxfs catalog add --activate /dev/pmem0 base-2 base-2.img")]
    Add {
        /// The device or file
        device: PathBuf,
        /// Name of the image: 1 to 63 letters, digits and . _ - + : @
        name: String,
        /// The image file; - is standard input
        image: PathBuf,
        /// Make it the image that is mounted without a name
        #[arg(short, long)]
        activate: bool,
        /// When to overwrite removed images
        #[arg(long, value_enum, value_name = "WHEN", default_value_t = Reuse::Unmounted)]
        reuse: Reuse,
    },
    /// Remove an image
    ///
    /// It can be mounted no more. Mounts that exist are not affected: its space is used again after
    /// they are gone.
    #[command(after_help = "\
Examples:
  daxfs catalog remove /dev/pmem0 base-1")]
    Remove {
        /// The device or file
        device: PathBuf,
        /// Name of the image
        name: String,
        /// Remove the active image, which leaves none active
        #[arg(short, long)]
        force: bool,
    },
    /// Choose the image that is mounted without a name
    ///
    /// Mounts that exist are not affected. Activate the old image to roll back.
    #[command(after_help = "\
Examples:
  daxfs catalog activate /dev/pmem0 base-2")]
    Activate {
        /// The device or file
        device: PathBuf,
        /// Name of the image
        name: String,
    },
}
