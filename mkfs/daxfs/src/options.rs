// SPDX-License-Identifier: GPL-2.0

//! The command lines.

use crate::buffer::Kind;
use clap::{Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

const EXIT: &str = "\
Exit status:
  0 done, 1 failed, 2 wrong usage; diff and fsck have their own.";

/// Look into daxfs images, check and unpack them, put them into memory
///
/// IMAGE is an image file, a block device, a DAX device in devdax mode, or - for standard input. Nothing but load
/// and write takes a privilege or the kernel module, and no image is ever changed.
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
    /// Show what the superblock of an image says
    #[command(after_help = "\
Examples:
  daxfs info base.img
  daxfs info --json /dev/pmem0 | jq .uuid")]
    Info {
        /// The image
        image: PathBuf,
        /// For programs: JSON
        #[arg(long, conflicts_with = "udev")]
        json: bool,
        /// For udev rules: the properties ID_FS_TYPE, ID_FS_LABEL, ID_FS_UUID and their like
        #[arg(long)]
        udev: bool,
    },
    /// List files of an image
    ///
    /// Names are sorted by their bytes. On a terminal, unusual characters are escaped. Times are UTC; a + after the
    /// mode stands for extended attributes.
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
        /// Mode, links, owner, group, size and time as well
        #[arg(short, long)]
        long: bool,
        /// With --long, sizes with a unit: 1.5K, 23M
        #[arg(short = 'h', long)]
        human_readable: bool,
        /// Everything below as well, by whole paths
        #[arg(short = 'R', long)]
        recursive: bool,
        /// The directory itself instead of what is in it
        #[arg(short, long)]
        directory: bool,
        /// The inode number as well
        #[arg(short, long)]
        inode: bool,
        /// NUL after each name instead of a line end
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
    /// Show all that an image knows of files
    Stat {
        /// The image
        image: PathBuf,
        /// The files in it
        #[arg(required = true)]
        paths: Vec<OsString>,
        /// Follow a symbolic link
        #[arg(short = 'L', long)]
        follow: bool,
        /// For programs: a line of JSON for each, as in dump
        #[arg(long)]
        json: bool,
    },
    /// Write superblock and files of an image in JSON
    ///
    /// One object with the members superblock and files; files are in the order of their paths, one a line. Names
    /// and values are strings if they are UTF-8, else objects with the member base64.
    #[command(after_help = "\
Examples:
  daxfs dump base.img | jq -r '.files[] | select(.type == \"file\") | .path'
  daxfs dump --sums base.img >base.json")]
    Dump {
        /// The image
        image: PathBuf,
        /// With the SHA-256 of each file's content
        #[arg(long)]
        sums: bool,
    },
    /// Unpack an image to a directory or a tar archive
    ///
    /// Owners (as root), modes, times, extended attributes, hard links, devices and holes are restored. What cannot be
    /// is told in a line on standard error. TARGET must not exist or be an empty directory; it appears when all of it
    /// is there, and a failure leaves nothing. Nothing outside TARGET is ever touched, whatever the image says.
    ///
    /// A tar archive that exists is replaced only with --force.
    ///
    /// A tar archive is in PAX format with extended attributes (SCHILY.xattr), access control lists (SCHILY.acl),
    /// nanoseconds and sparse files. GNU tar
    /// restores all that with --xattrs --xattrs-include='*' --numeric-owner -p. Sockets are left out.
    #[command(after_help = "\
Examples:
  daxfs extract base.img rootfs
  daxfs extract --path /etc base.img etc
  daxfs extract --tar base.img base.tar
  daxfs extract --tar base.img - | zstd >base.tar.zst")]
    Extract {
        /// The image
        image: PathBuf,
        /// The directory, or with --tar the archive, - for standard output
        target: PathBuf,
        /// Write a tar archive
        #[arg(short, long)]
        tar: bool,
        /// Replace an archive or any other file that exists
        #[arg(short, long, requires = "tar")]
        force: bool,
        /// Only this directory of the image
        #[arg(short, long, default_value = "/")]
        path: OsString,
        /// Leave the files to whoever runs this, also as root
        #[arg(long, conflicts_with = "tar")]
        no_same_owner: bool,
    },
    /// Compare an image with another, or with a directory
    ///
    /// A line for each difference. Types, modes, owners, times, devices, targets, content, extended attributes and
    /// hard links are compared.
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
        /// Only the exit status tells
        #[arg(short, long)]
        quiet: bool,
    },
    /// Check images against every rule of the format
    ///
    /// The structure, all checksums, and the SHA-256 of the whole image. There is no repair: an image is made once,
    /// and what is damaged can only come from a copy of it.
    #[command(after_help = FSCK_EXIT)]
    Fsck {
        /// The images
        #[arg(required = true)]
        images: Vec<PathBuf>,
        /// Show every finding, not only the first hundred
        #[arg(short, long)]
        verbose: bool,
        /// Say nothing of what is clean
        #[arg(short, long)]
        quiet: bool,
        /// Refused: nothing tells what the right bytes were
        #[arg(long)]
        repair: bool,
    },
    /// Print the SHA-256 of an image, for the mount option digest=
    ///
    /// Taken of all bytes of the image, with the two fields of the superblock zero that hold it and the checksum. An
    /// image that says it has another is damaged, which is an error.
    #[command(after_help = "\
Examples:
  mount -t daxfs -o digest=$(daxfs digest base.img) /dev/pmem0 /mnt")]
    Digest {
        /// The image
        image: PathBuf,
    },
    /// Serve an image through FUSE, without the kernel module
    ///
    /// Ordinary users can, if the program fusermount3 is installed. Files show as they do through the module, but
    /// reads take the way through this process and the page cache. Unmount with umount or fusermount3 -u.
    #[command(after_help = "\
Examples:
  daxfs fuse base.img mnt; ls mnt; fusermount3 -u mnt")]
    Fuse {
        /// The image
        image: PathBuf,
        /// Where to mount it
        dir: PathBuf,
        /// Stay in the foreground
        #[arg(short, long)]
        foreground: bool,
        /// Mount options: allow_other, allow_root, suid, dev, noexec
        #[arg(short, long, value_delimiter = ',')]
        options: Vec<String>,
        /// Tell through standard output when it is mounted
        #[arg(long, hide = true)]
        ready: bool,
    },
    /// Put an image file into memory and mount it
    ///
    /// The memory belongs to the mount and is freed with it. A memfd is sealed: its content can never change.
    #[command(after_help = "\
Examples:
  daxfs load base.img /mnt
  daxfs load --into heap base.img /mnt")]
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
    #[command(after_help = "\
Examples:
  daxfs write base.img /dev/pmem0 && mount -t daxfs /dev/pmem0 /mnt")]
    Write {
        /// The image file
        image: PathBuf,
        /// The device, such as /dev/pmem0 or /dev/dax0.0 (in devdax mode)
        device: PathBuf,
        /// Overwrite the device also if it holds something other than an image
        ///
        /// Without this, a device is only overwritten if it holds a daxfs image or zeros in its first 2 MiB and its last
        /// MiB.
        #[arg(short, long)]
        force: bool,
    },
}

/// What can be left out of a comparison.
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
/// An image file is put into a sealed memfd first, as daxfs load does; everything else goes back to mount(8).
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

const FSCK_EXIT: &str = "\
Exit status:
  0 clean, 4 errors that stay, 8 the check itself failed, 16 wrong usage, or a sum of these.";

/// Check daxfs images; called by fsck(8)
///
/// The same as daxfs fsck. Images are never repaired, so that the options which say how to go about it mean nothing.
#[derive(Parser)]
#[command(name = "fsck.daxfs", disable_version_flag = true, after_help = FSCK_EXIT)]
pub struct FsckArgs {
    /// The images or devices
    #[arg(required_unless_present = "version")]
    pub images: Vec<PathBuf>,
    /// Repair without questions; means nothing
    #[arg(short)]
    auto: bool,
    /// The same
    #[arg(short)]
    preen: bool,
    /// Repair nothing, which is what is done anyway
    #[arg(short)]
    no: bool,
    /// Answer yes to all questions, of which there are none
    #[arg(short)]
    yes: bool,
    /// Ask before repairs; means nothing
    #[arg(short)]
    repair: bool,
    /// Check even what looks clean, which is what is done anyway
    #[arg(short)]
    force: bool,
    /// Show every finding, not only the first hundred
    #[arg(short)]
    pub verbose: bool,
    /// Show the progress; with a number, write it to that file descriptor as fsck(8) wants it
    #[arg(short = 'C', value_name = "FD", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    pub progress: Option<u32>,
    /// Print the version
    #[arg(short = 'V', long)]
    pub version: bool,
}

impl FsckArgs {
    /// The arguments with `-C5` as `-C=5`, so that `-C` does not take an image for its number.
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
