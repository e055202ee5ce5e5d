// SPDX-License-Identifier: GPL-2.0-only

//! The command lines of `mount.daxfs` and `fsck.daxfs`.

use super::FSCK_EXIT;
use clap::{ArgAction, Parser};
use std::path::PathBuf;

/// Mount a daxfs image; called by mount(8)
///
/// An image file is loaded into a sealed memfd first, as daxfs load does. Of a device with a catalogue, the image of the
/// option image=NAME is mounted, or the active one. Everything else is passed back to mount(8). With the type fuse.daxfs
/// (mount.fuse.daxfs), the image is served as by daxfs fuse; what root mounts is for all users then.
#[derive(Parser)]
#[command(
    name = "mount.daxfs",
    version,
    after_help = "\
Exit status:
  0 mounted, 1 wrong usage, 32 failed.

Examples:
  mount -t daxfs -o nosuid base.img /mnt
  mount -t daxfs -o image=base-2 /dev/pmem0 /mnt"
)]
pub struct HelperArgs {
    /// An image file, or a device
    pub source: PathBuf,
    /// The mount point
    pub dir: PathBuf,
    /// Mount options
    #[arg(short, value_delimiter = ',')]
    options: Vec<String>,
    /// Ignored, like -w, -s and -n: mounts are always read-only, unknown options always refused, and /etc/mtab not written
    #[arg(short = 'r', short_aliases = ['w', 's', 'n'], action = ArgAction::Count)]
    ignored: u8,
    /// Do everything but mount
    #[arg(short)]
    pub fake: bool,
    /// Say more; with -f, print the options for the kernel
    #[arg(short)]
    pub verbose: bool,
    /// Filesystem type
    #[arg(short = 't')]
    kind: Option<String>,
}

impl HelperArgs {
    /// Return the mount options that are not empty.
    pub fn words(&self) -> Vec<String> {
        let words = self.options.iter().filter(|word| !word.is_empty());
        words.cloned().collect()
    }
}

/// Check daxfs images; called by fsck(8)
///
/// This is the same as daxfs fsck. Images are never repaired, so the options for repairs are
/// ignored.
#[derive(Parser)]
#[command(name = "fsck.daxfs", disable_version_flag = true)]
#[command(after_help = format!("{FSCK_EXIT}\n\nExamples:\n  fsck -t daxfs /dev/pmem0"))]
pub struct FsckArgs {
    /// The images or devices
    #[arg(required_unless_present = "version")]
    pub images: Vec<PathBuf>,
    /// Ignored, like -p, -n, -y, -r, -f and -v: images are checked, and never repaired
    #[arg(short = 'a', short_aliases = ['p', 'n', 'y', 'r', 'f', 'v'], action = ArgAction::Count)]
    ignored: u8,
    /// Print the version
    #[arg(short = 'V', long)]
    pub version: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fsck_passes_what_it_likes() {
        let parse = |words: &[&str]| FsckArgs::try_parse_from(words).unwrap();
        let args = parse(&["fsck.daxfs", "-apnyrfav", "/dev/pmem0", "/dev/pmem1"]);
        assert_eq!(args.images.len(), 2);
        assert!(parse(&["fsck.daxfs", "-V"]).version);
    }
}
