// SPDX-License-Identifier: GPL-2.0-only

//! The command line.

// clap shows these comments unchanged.
#![allow(rustdoc::invalid_html_tags)]

use crate::input::exclude::pattern;
use crate::input::Platform;
use crate::writer::options::Tails;
use clap::Parser;
use daxfs_files::values::{block_size, id, label, multiple, size, time, Time};
use std::ffi::OsString;
use std::path::PathBuf;
use uuid::Uuid;

const EXAMPLES: &str = "\
Examples:
  mkdaxfs rootfs rootfs.daxfs                 image the directory rootfs
  mkdaxfs --tails=all rootfs rootfs.daxfs     make the image as small as possible
  mkdaxfs base.tar.zst overlay all.daxfs      image an archive, with changes
  mkdaxfs oci:layout:latest image.daxfs       image a container, flattened
  tar -C rootfs -c . | mkdaxfs - /dev/pmem0   from a pipe to a device
  mkdaxfs --all-root -e '*.o' tree tree.img   change owners, leave files out
  mkdaxfs --block-size 65536 tree arm64.img   for kernels with 64 KiB pages";

const MORE: &str = "\
Inputs:
  PATH                A directory, a tar archive or a daxfs image, recognized by
                      its content. - is an archive or an image on standard
                      input. A container image is refused, and so is an archive
                      without members: write one of these prefixes.
  dir:PATH            A directory, with the filesystems mounted below it unless
                      --one-file-system is given. Only hard links inside the
                      directory are counted as links.
  tar:PATH            A tar archive of any format (GNU, pax, ustar and older),
                      plain or compressed with gzip, zstd or xz. Extended
                      attributes, access control lists, sparse files (except GNU
                      tar's formats 0.0 and 0.1) and members of any size are
                      supported. If several members have the same name,
                      the last one wins. A hard link refers to the file that has
                      the name at that point, or to a later one if there is none.
                      Directories without a member of their own belong to user
                      and group 0, have mode 755 and the time of the newest
                      file in them. Absolute names start at the root of the
                      image. Symbolic links in the path of a member are
                      followed within the image. Names with .. are refused.
                      Owners are the numbers in the archive, not the names.
                      A warning says how many bytes follow the end of the
                      archive; --ignore-zeros reads them.
  image:PATH          A daxfs image, in a file or on a block device.
  oci:PATH[:NAME]     A container image in an OCI image layout, a directory or
                      an archive of one. Layers may be plain or compressed with
                      gzip or zstd. Every part is verified against its digest.
                      docker save and podman save --format=oci-archive write
                      such an archive.
                      Layers are merged as containerd and overlayfs do, whatever
                      the order of a layer's members: a layer replaces a symbolic
                      link or a file of a lower layer by a directory if it has
                      anything below that name, and never follows the link. A
                      directory that a layer removes and has again is new. Other
                      than there, the root may be opaque, a hard link may refer
                      to a file of a lower layer, and marks below a symbolic link
                      or a file of the same layer are ignored.
                      NAME is the name of the image, such as alpine:3, its tag
                      (org.opencontainers.image.ref.name), or a digest. It is
                      needed if the layout has several images. Of images for
                      several platforms, --platform selects one, by an index
                      or the configurations.
                      An artifact of files, such as a model, is read as well if
                      its configuration is not a container's: layers that are
                      files of ModelPack (org.cncf.model.filepath has the path),
                      of oras (org.opencontainers.image.title) or of Docker's
                      models, and archives of such files. Files without metadata
                      have mode 644 and the time 0. Two layers with one file are
                      refused, and so are absolute paths.

A file of a later input replaces a file of the same name of an earlier input.
Directories are merged, with the attributes of the last one. A warning says where
a directory replaces a symlink, or another file a directory with files.

Layers of container images are merged, and files that a layer removes are left
out.

The files of archives that are compressed or come from a pipe are stored in a
temporary file, in the directory named by TMPDIR, or beside the image.

Patterns:
A pattern that starts with or contains a slash is matched against the path in the
image. Any other pattern is matched against each file name.

  *       matches any text without a slash
  ?       matches one character, but no slash
  [a-z]   matches one of these characters
  **      matches any text, including slashes
  {a,b}   matches a or b
  \\       takes away the special meaning of the next character
  /       at the end: the pattern matches directories only

A pattern that starts with ! is refused: a file that another pattern matches cannot
be kept. So is one with a blank at its end, or with . or .. in the path.

Output:
IMAGE is a file, a block device, a DAX character device in devdax mode, a pipe, or -
for standard output. An image for a device or a pipe is first written to a temporary
file, in the directory named by TMPDIR, or in /var/tmp. A device that is
in use or too small is refused. Its first block is written last, and then the
whole image is read back and compared. Anything other than an image is not
overwritten without --force, and no image if an input is an image: the last one of
several images may be an input after which IMAGE was forgotten.

A file that replaces another one has its owner, group, mode, access control list
and security label from the start. If the user may not set the owner or the list,
nobody but the user gets more rights than before.

If standard error is a terminal, operations that take longer than a second show a
progress bar. When the image is complete, mkdaxfs prints its size, number of
inodes, UUID and SHA-256 to standard output, or to standard error if the image
goes to standard output. The mount option digest takes the SHA-256.

Environment:
  SOURCE_DATE_EPOCH  Build time, unless --time is given.
  TMPDIR             Directory for temporary files.
  RAYON_NUM_THREADS  Number of threads, if not one for each processor that the
                     process may use.

Exit status:
  0  The image is complete.
  1  It failed; one line on standard error says why.
  2  Wrong usage.

Notes:
Users other than root cannot see trusted extended attributes, so these are not
stored. Extended attributes outside the name spaces user, trusted and security,
except access control lists, cannot be stored; warnings name up to 20.

An archive with more than 16777216 members, or 1 GiB of names, targets of symbolic
links, extended attributes and maps of sparse files, is refused.

tar sees the owners and devices that fakeroot(1) pretends, mkdaxfs does not and
refuses to read a directory under fakeroot: fakeroot sh -c 'tar --format=posix
-C DIR -c . | mkdaxfs - IMAGE'.

Archives contain no sockets. Archives of GNU tar have whole seconds unless they
were made with --format=posix, and extended attributes only if they were made with
--xattrs and --xattrs-include='*'.

A directory that contains itself through a bind mount is refused, and so is an
IMAGE inside an input directory.

Holes of sparse files are holes of the image file.";

/// Make a daxfs image: a read-only filesystem for memory
///
/// Give directories, archives, container images or other images, the newest last. The image
/// contains all of their files, with owner, mode, modification time and extended attributes. The
/// same files and options always give the same bytes, whatever kind of input the files come from.
///
/// mkdaxfs writes a hidden temporary file beside IMAGE, checks it against every rule of the format,
/// compares and syncs it, and only then replaces an existing IMAGE. An error or a signal removes
/// the temporary file. If mkdaxfs is killed, you can remove the remaining .mkdaxfs-*.tmp.
///
/// If a file cannot be read, or changes while it is read, mkdaxfs fails.
#[derive(Debug, Parser)]
#[command(name = "mkdaxfs", version, max_term_width = 100, after_help = EXAMPLES, after_long_help = format!("{MORE}\n\n{EXAMPLES}"))]
pub struct Args {
    /// Directories, archives, container images or daxfs images to store in the image
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<OsString>,

    /// File or device to write the image to; - for standard output
    pub image: PathBuf,

    /// Name of the filesystem, up to 64 bytes of UTF-8
    #[arg(long, short = 'L', value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = label)]
    pub label: String,

    /// UUID of the filesystem [default: derived from the content]
    ///
    /// The default depends on the content and on the other options. uuidgen(1) prints a random one.
    #[arg(long, short = 'U', value_parser = uuid)]
    pub uuid: Option<Uuid>,

    /// Build time in seconds since 1970 [default: SOURCE_DATE_EPOCH, or the newest file's time]
    ///
    /// The image stores this time. A fraction counts upwards from the second, even before 1970. The
    /// option does not change the times of files; see --clamp-mtime.
    #[arg(long, short = 'T', value_name = "SEC[.NSEC]", env = "SOURCE_DATE_EPOCH", hide_env = true,
          allow_hyphen_values = true, value_parser = build_time)]
    pub time: Option<Time>,

    /// Alignment of file data: a power of two from 4096 to 65536
    ///
    /// The block size must be at least the page size of the kernel that mounts the image.
    #[arg(long, short = 'b', value_name = "SIZE", default_value = "4096", value_parser = block_size)]
    pub block_size: u32,

    /// Which files share blocks with others
    ///
    /// Reading shared blocks stays direct, but mapping one copies it to the page cache instead of
    /// using the memory that all kernels and processes share.
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    pub tails: Tails,

    /// Store files with the same content separately
    ///
    /// By default files with identical bytes share one copy, in the image and in the memory of
    /// processes that map them. Each file keeps its owner, mode, time and name.
    #[arg(long)]
    pub no_dedupe: bool,

    /// Align files of at least this size to 2 MiB, for huge pages
    ///
    /// A size is a number of bytes, or a number followed by K, M, G or T for KiB, MiB, GiB or TiB.
    #[arg(long, value_name = "SIZE", default_value = "2M", value_parser = size)]
    pub huge_threshold: u64,

    /// Pad the image to a multiple of this size
    /// SIZE must be a multiple of 4096. Some devices need 2 MiB.
    #[arg(long, value_name = "SIZE", default_value = "2M", value_parser = multiple)]
    pub padding: u64,

    /// Store the SHA-256 of each 2 MiB, for the mount option verify=lazy
    ///
    /// The sums need 16 bytes per MiB, and use the padding if they fit.
    #[arg(long)]
    pub sums: bool,

    /// Leave out files that match, and everything below them; may be repeated
    ///
    /// The pattern applies to all inputs.
    #[arg(long, short = 'e', value_name = "PATTERN", value_parser = pattern, help_heading = "Content")]
    pub exclude: Vec<String>,

    /// Leave out files that match a line of FILE; empty lines and lines that start with # are
    /// ignored
    #[arg(long, value_name = "FILE", help_heading = "Content")]
    pub exclude_from: Vec<PathBuf>,

    /// Leave mount points empty: do not descend into other filesystems
    #[arg(long, short = 'x', help_heading = "Content")]
    pub one_file_system: bool,

    /// Store the files that symlinks lead to, not the symlinks
    ///
    /// Symlinks to directories are followed on this machine, even out of the directory. A symlink
    /// that leads nowhere, or to a directory that contains it, is stored unchanged, with a warning.
    /// A directory can be reached by at most 10,000 paths.
    #[arg(long, help_heading = "Content")]
    pub dereference: bool,

    /// Read on after the end of an archive, for concatenated archives
    ///
    /// Blocks of zeros, which mark the end, are skipped, even in the layers of container images.
    #[arg(long, help_heading = "Content")]
    pub ignore_zeros: bool,

    /// Platform to select from a container image for several platforms [default: this machine's]
    ///
    /// The default is Linux on this machine's processor, without a variant, but a single image is
    /// used for any platform. Among variants such as linux/arm/v7 and linux/amd64/v3, mkdaxfs
    /// selects the best one that runs on VARIANT, by default v7 for arm, v8 for arm64, and v1 for
    /// amd64.
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", help_heading = "Content")]
    pub platform: Option<Platform>,

    /// Set the owner of all files
    #[arg(long, value_name = "ID", value_parser = id, help_heading = "Attributes")]
    pub uid: Option<u32>,

    /// Set the group of all files
    #[arg(long, value_name = "ID", value_parser = id, help_heading = "Attributes")]
    pub gid: Option<u32>,

    /// Set the owner and group of all files to 0
    #[arg(long, conflicts_with_all = ["uid", "gid"], help_heading = "Attributes")]
    pub all_root: bool,

    /// Set the modification time of all files, in seconds since 1970
    #[arg(long, value_name = "SEC[.NSEC]", allow_hyphen_values = true, value_parser = time, help_heading = "Attributes")]
    pub mtime: Option<Time>,

    /// Set the time only for newer files; without --mtime, to the time from --time or
    /// SOURCE_DATE_EPOCH
    #[arg(long, help_heading = "Attributes")]
    pub clamp_mtime: bool,

    /// Overwrite IMAGE even if it contains something other than an image
    ///
    /// By default, mkdaxfs overwrites a file or device only if it contains a daxfs image, zeros, or
    /// nothing. It examines the first 2 MiB and the last MiB of a device. It never overwrites an
    /// input.
    #[arg(long, short = 'f', help_heading = "Running")]
    pub force: bool,

    /// Print the size of the image, but do not write it
    ///
    /// Reads only files that may have the same content as others.
    #[arg(long, short = 'n', help_heading = "Running")]
    pub dry_run: bool,

    /// Print only warnings and errors
    #[arg(long, short, help_heading = "Running")]
    pub quiet: bool,
}

fn build_time(text: &str) -> Result<Time, String> {
    time(text).map_err(|why| match std::env::var_os("SOURCE_DATE_EPOCH") {
        Some(epoch) if epoch == text => format!("{why} in SOURCE_DATE_EPOCH"),
        _ => why.into(),
    })
}

fn uuid(text: &str) -> Result<Uuid, &'static str> {
    Uuid::parse_str(text).map_err(|_| "use 32 hexadecimal digits with or without hyphens")
}

#[cfg(test)]
mod tests {
    use super::Args;

    #[test]
    fn command_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
