// SPDX-License-Identifier: GPL-2.0-only

//! The command lines.

use crate::buffer::Kind;
use clap::{Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

const EXIT: &str = "\
Exit status:
  0 done, 1 failed, 2 wrong usage; diff and fsck differ.";

/// Show, check and extract daxfs images, and load them into memory
///
/// IMAGE is an image file, a block device, a DAX device in devdax mode, or - for standard input.
/// Only load and write need privileges, and only load needs the kernel module. No command changes
/// an image.
#[derive(Parser)]
#[command(name = "daxfs", version, max_term_width = 100, after_help = EXIT)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Show the superblock of an image
    #[command(after_help = "\
Examples:
  daxfs info base.img
  daxfs info --json /dev/pmem0 | jq .uuid")]
    Info {
        /// The image
        image: PathBuf,
        /// Print JSON
        #[arg(long, conflicts_with = "udev")]
        json: bool,
        /// Print properties for udev rules: ID_FS_TYPE, ID_FS_LABEL, ID_FS_UUID and others
        #[arg(long)]
        udev: bool,
    },
    /// List files of an image
    ///
    /// Names are sorted by their bytes. On a terminal, unusual characters are escaped. Times are
    /// UTC; a + after the mode means that the file has extended attributes.
    #[command(
        disable_help_flag = true,
        after_help = "\
Examples:
  daxfs ls -lh base.img /etc
  daxfs ls -R0 base.img | xargs -0 -n 1"
    )]
    Ls {
        /// The image
        image: PathBuf,
        /// The file or directory in it
        #[arg(default_value = "/")]
        path: OsString,
        /// Show mode, links, owner, group, size and time, too
        #[arg(short, long)]
        long: bool,
        /// With --long, print sizes with a unit: 1.5K, 23M
        #[arg(short = 'h', long)]
        human_readable: bool,
        /// List all files below, with their full paths
        #[arg(short = 'R', long)]
        recursive: bool,
        /// List the directory itself instead of its content
        #[arg(short, long)]
        directory: bool,
        /// Show inode numbers, too
        #[arg(short, long)]
        inode: bool,
        /// End each name with NUL instead of a newline
        #[arg(short = '0', long)]
        zero: bool,
        /// Print help
        #[arg(long, action = clap::ArgAction::Help)]
        help: Option<bool>,
    },
    /// Write the content of files of an image to standard output
    #[command(after_help = "\
Examples:
  daxfs cat base.img /etc/os-release")]
    Cat {
        /// The image
        image: PathBuf,
        /// The files in it; symbolic links are followed within the image
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Show all metadata of files
    Stat {
        /// The image
        image: PathBuf,
        /// The files in it
        #[arg(required = true)]
        paths: Vec<OsString>,
        /// Follow a symbolic link
        #[arg(short = 'L', long)]
        follow: bool,
        /// Print a line of JSON for each file, as dump does
        #[arg(long)]
        json: bool,
    },
    /// Print the superblock and all files of an image in JSON
    ///
    /// Print one object with the members superblock and files. Files are sorted by path, one on
    /// each line. Names and values are strings if they are UTF-8, and objects with the member
    /// base64 otherwise.
    #[command(after_help = "\
Examples:
  daxfs dump base.img | jq -r '.files[] | select(.type == \"file\") | .path'
  daxfs dump --sums base.img >base.json")]
    Dump {
        /// The image
        image: PathBuf,
        /// Add the SHA-256 of each file's content
        #[arg(long)]
        sums: bool,
    },
    /// Extract an image to a directory or a tar archive
    ///
    /// Owners (as root), modes, times, extended attributes, hard links, devices and holes are
    /// restored. A line on standard error names what cannot be restored. TARGET must not exist or
    /// be an empty directory. It appears when it is complete; a failure leaves nothing. No image
    /// can make this command write outside TARGET.
    ///
    /// An existing tar archive is replaced only with --force.
    ///
    /// Tar archives are in PAX format with extended attributes (SCHILY.xattr), access control lists
    /// (SCHILY.acl), nanoseconds and sparse files. GNU tar restores all of that with --xattrs
    /// --xattrs-include='*' --numeric-owner -p. Sockets are left out.
    #[command(after_help = "\
Examples:
  daxfs extract base.img rootfs
  daxfs extract --path /etc base.img etc
  daxfs extract --tar base.img base.tar
  daxfs extract --tar base.img - | zstd >base.tar.zst")]
    Extract {
        /// The image
        image: PathBuf,
        /// The directory, or with --tar the archive; - is standard output
        target: PathBuf,
        /// Write a tar archive
        #[arg(short, long)]
        tar: bool,
        /// Replace an existing archive or other file
        #[arg(short, long, requires = "tar")]
        force: bool,
        /// Extract only this directory of the image
        #[arg(short, long, default_value = "/")]
        path: OsString,
        /// Do not restore owners, even as root
        #[arg(long, conflicts_with = "tar")]
        no_same_owner: bool,
    },
    /// Compare an image with another image or a directory
    ///
    /// Print a line for each difference. Types, modes, owners, times, devices, targets, content,
    /// extended attributes and hard links are compared.
    #[command(after_help = "\
Exit status:
  0 no difference, 1 differences, 2 trouble.

Examples:
  daxfs diff base.img /srv/base
  daxfs diff --ignore time,owner old.img new.img")]
    Diff {
        /// An image or a directory
        first: PathBuf,
        /// An image or a directory
        second: PathBuf,
        /// Do not compare these
        #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
        ignore: Vec<Aspect>,
        /// Print nothing; only return the exit status
        #[arg(short, long)]
        quiet: bool,
    },
    /// Check images against every rule of the format
    ///
    /// Check the structure, all checksums, and the SHA-256 of the whole image. Images cannot be
    /// repaired: restore a damaged image from a copy.
    #[command(after_help = FSCK_EXIT)]
    Fsck {
        /// The images
        #[arg(required = true)]
        images: Vec<PathBuf>,
        /// Show every finding, not only the first hundred
        #[arg(short, long)]
        verbose: bool,
        /// Print nothing about clean images
        #[arg(short, long)]
        quiet: bool,
        /// Refused: images have no redundancy to repair them from
        #[arg(long)]
        repair: bool,
    },
    /// Print the SHA-256 of an image, for the mount option digest=
    ///
    /// The SHA-256 covers all bytes of the image, with the superblock's fields for the SHA-256 and
    /// the checksum taken as zero. It is an error if the superblock has another SHA-256: the image
    /// is damaged.
    #[command(after_help = "\
Examples:
  mount -t daxfs -o digest=$(daxfs digest base.img) /dev/pmem0 /mnt")]
    Digest {
        /// The image
        image: PathBuf,
    },
    /// Serve an image through FUSE, without the kernel module
    ///
    /// Users other than root need the program fusermount3. Files look as they do with the module,
    /// but reads go through this process and the page cache. Unmount with umount or fusermount3 -u.
    #[command(after_help = "\
Examples:
  daxfs fuse base.img mnt; ls mnt; fusermount3 -u mnt")]
    Fuse {
        /// The image
        image: PathBuf,
        /// The mount point
        dir: PathBuf,
        /// Stay in the foreground
        #[arg(short, long)]
        foreground: bool,
        /// Mount options: allow_other, allow_root, suid, dev, noexec
        #[arg(short, long, value_delimiter = ',')]
        options: Vec<String>,
        /// Write a line to standard output when the image is mounted
        #[arg(long, hide = true)]
        ready: bool,
    },
    /// Load an image file into memory and mount it
    ///
    /// The memory belongs to the mount and is freed with it. A memfd is sealed: its content can
    /// never change.
    #[command(after_help = "\
Examples:
  daxfs load base.img /mnt
  daxfs load --into heap base.img /mnt")]
    Load {
        /// The image file
        image: PathBuf,
        /// The mount point
        dir: PathBuf,
        /// The kind of memory
        #[arg(long, value_enum, default_value_t = Kind::Memfd)]
        into: Kind,
        /// Mount options, as for mount(8)
        #[arg(short, long, value_delimiter = ',')]
        options: Vec<String>,
    },
    /// Write an image file to a DAX or block device, which must not be mounted
    #[command(after_help = "\
Examples:
  daxfs write base.img /dev/pmem0 && mount -t daxfs /dev/pmem0 /mnt")]
    Write {
        /// The image file
        image: PathBuf,
        /// The device, such as /dev/pmem0 or /dev/dax0.0 (in devdax mode)
        device: PathBuf,
        /// Overwrite the device even if it contains something other than an image
        ///
        /// Without this option, a device is overwritten only if it contains a daxfs image, or zeros
        /// in its first 2 MiB and its last MiB.
        #[arg(short, long)]
        force: bool,
    },
}

/// Aspects that a comparison can ignore.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Aspect {
    /// Owner and group
    Owner,
    /// Permission bits
    Mode,
    /// Modification times
    Time,
    /// Extended attributes
    Xattrs,
    /// Which names are hard links of each other
    Links,
}

/// Mount a daxfs image; called by mount(8)
///
/// An image file is loaded into a sealed memfd first, as daxfs load does. Everything else is passed
/// back to mount(8).
#[derive(Parser)]
#[command(
    name = "mount.daxfs",
    version,
    after_help = "\
Exit status:
  0 mounted, 1 wrong usage, 32 failed."
)]
pub struct HelperArgs {
    /// An image file, or a device
    pub source: PathBuf,
    /// The mount point
    pub dir: PathBuf,
    /// Mount options
    #[arg(short, value_delimiter = ',')]
    options: Vec<String>,
    /// Mount read-only, as every mount is
    #[arg(short)]
    read_only: bool,
    /// Ignored: mounts are always read-only
    #[arg(short = 'w')]
    read_write: bool,
    /// Ignored: unknown options are always refused
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
    /// Return the mount options that are not empty.
    pub fn words(&self) -> Vec<String> {
        let words = self.options.iter().filter(|word| !word.is_empty());
        words.cloned().collect()
    }
}

const FSCK_EXIT: &str = "\
Exit status:
  0 clean, 4 errors found, 8 the check itself failed, 16 wrong usage, or a sum of these.";

/// Check daxfs images; called by fsck(8)
///
/// This is the same as daxfs fsck. Images are never repaired, so the options for repairs are
/// ignored.
#[derive(Parser)]
#[command(name = "fsck.daxfs", disable_version_flag = true, after_help = FSCK_EXIT)]
pub struct FsckArgs {
    /// The images or devices
    #[arg(required_unless_present = "version")]
    pub images: Vec<PathBuf>,
    /// Repair without questions; ignored
    #[arg(short)]
    auto: bool,
    /// Repair without questions; ignored
    #[arg(short)]
    preen: bool,
    /// Repair nothing; always the case
    #[arg(short)]
    no: bool,
    /// Answer yes to all questions; ignored
    #[arg(short)]
    yes: bool,
    /// Ask before repairs; ignored
    #[arg(short)]
    repair: bool,
    /// Check even if the image seems clean; always the case
    #[arg(short)]
    force: bool,
    /// Show every finding, not only the first hundred
    #[arg(short)]
    pub verbose: bool,
    /// Show the progress; with a number, write it to that file descriptor in fsck(8)'s format
    #[arg(short = 'C', value_name = "FD", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    pub progress: Option<u32>,
    /// Print the version
    #[arg(short = 'V', long)]
    pub version: bool,
}

impl FsckArgs {
    /// Replace `-C5` by `-C=5` in the arguments, so that `-C` does not take an image for its
    /// number.
    pub fn normalize(arguments: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
        arguments.map(
            |argument| match argument.to_str().and_then(|text| text.strip_prefix("-C")) {
                Some(number)
                    if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) =>
                {
                    format!("-C={number}").into()
                }
                _ => argument,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn commands_are_consistent() {
        Args::command().debug_assert();
        HelperArgs::command().debug_assert();
        FsckArgs::command().debug_assert();
    }

    #[test]
    fn fsck_passes_what_it_likes() {
        let parse = |words: &[&str]| {
            let words = words.iter().map(OsString::from);
            FsckArgs::try_parse_from(FsckArgs::normalize(words)).unwrap()
        };
        assert_eq!(
            parse(&["fsck.daxfs", "-a", "-C5", "/dev/pmem0"]).progress,
            Some(5)
        );
        assert_eq!(parse(&["fsck.daxfs", "-C", "/dev/pmem0"]).progress, Some(0));
        assert_eq!(
            parse(&["fsck.daxfs", "-C0", "-p", "/dev/pmem0"]).progress,
            Some(0)
        );
        let args = parse(&["fsck.daxfs", "-apnyfv", "/dev/pmem0", "/dev/pmem1"]);
        assert_eq!(
            (args.images.len(), args.verbose, args.progress),
            (2, true, None)
        );
        assert!(parse(&["fsck.daxfs", "-V"]).version);
    }
}
