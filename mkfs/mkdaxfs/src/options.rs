// SPDX-License-Identifier: GPL-2.0

//! The command line.

use clap::Parser;
use daxfs_command::values::{block_size, jobs, label, multiple, size, time, Time};
use daxfs_input::exclude::pattern;
use daxfs_input::Platform;
use daxfs_writer::adjust::IdRange;
use daxfs_writer::mode::ModeChange;
use std::ffi::OsString;
use std::path::PathBuf;
use uuid::Uuid;

const EXAMPLES: &str = "\
Examples:
  mkdaxfs rootfs rootfs.daxfs                 image the directory rootfs
  mkdaxfs --pack rootfs rootfs.daxfs          make the image as small as can be
  mkdaxfs base.tar.zst overlay all.daxfs      image an archive, with changes
  mkdaxfs oci:layout:latest image.daxfs       image a container, flattened
  mkdaxfs --layers oci:layout images          each of its layers by itself
  tar -c rootfs | mkdaxfs - /dev/pmem0        from a pipe to a device
  mkdaxfs --all-root -e '*.o' tree tree.img   change owners, leave files out
  mkdaxfs --block-size 65536 tree arm64.img   for kernels with 64 KiB pages

Exit status: 0 done, 1 failed, 2 wrong usage. --help says more.";

const MORE: &str = "\
Inputs:
  PATH                A directory, a tar archive or a daxfs image; which of
                      these is found out. - is an archive or an image on
                      standard input.
  dir:PATH            A directory. Mounts below it are followed, unless
                      --one-file-system is given. Of a file that has names
                      outside the directory, too, only those inside count as
                      links.
  tar:PATH            A tar archive of any format (GNU, pax, ustar and older),
                      plain or compressed with gzip, zstd or xz. Extended
                      attributes, access control lists, sparse files of all
                      kinds and members of any size are understood. Of several
                      members with one name the last counts. A hard link is one
                      to what has that name by then. Directories that no member
                      describes belong to user and group 0, have mode 755 and
                      the time of the newest file in them. Absolute names lead
                      into the image; symbolic links on the way to a member are
                      followed within the image; names with .. are refused.
                      Owners are the numbers in the archive, not the names.
  image:PATH          A daxfs image, in a file or on a block device.
  oci:PATH[:NAME]     A container image in an OCI image layout, a directory or
                      an archive of one, with layers that are plain or
                      compressed with gzip or zstd. Every part is verified by
                      its digest. NAME is that in the annotation
                      org.opencontainers.image.ref.name, or a digest, and is
                      needed if there are several images. Of images for several
                      platforms, that of --platform is taken.
  docker:PATH[:NAME]  The same in an archive that docker save wrote.

What a later input has replaces what earlier ones had under the same name; of
directories the contents are merged, and the attributes are those of the last.

Layers of container images are put on top of one another, and what a layer
removes is not in the image. With --layers they are kept apart.

Files of archives that are compressed or come from a pipe are kept in a
temporary file meanwhile, in the directory that TMPDIR names, or beside the
image.

Patterns:
A pattern with a slash at its start or within it is matched against the path in
the image, another against each name.

  *       matches any text without a slash
  ?       matches one character, but no slash
  [a-z]   matches one of these
  **      matches any text, slashes as well
  {a,b}   matches either
  \\       takes the meaning from what follows
  /       at the end: the pattern matches directories only

Output:
IMAGE is a file, a block device, a DAX character device in devdax mode, or - for
standard output. What goes to a device or to standard output is made in a
temporary file first, in the directory that TMPDIR names, or in /var/tmp. A
device that is in use or too small is refused; its first block is written last,
when all the others are there, and then all of it is compared. What holds
something other than an image is not overwritten without --force.

A progress bar is shown on standard error, if that is a terminal, of what takes
longer than a second, and one line on standard output when the image is done:
its size, number of inodes, UUID and SHA-256. The latter is what the mount
option digest takes. If the image goes to standard output, that line goes to
standard error.

Environment:
  SOURCE_DATE_EPOCH  Build time, if --time does not say another.
  TMPDIR             Directory for temporary files.

Exit status:
  0  The image is complete.
  1  It failed; one line on standard error says why.
  2  Wrong usage.

Notes:
Who is not root sees no trusted extended attributes of files, and they are not
stored. Extended attributes of other name spaces than user, trusted, security
and access control lists cannot be stored; a warning names them.

The owners and devices that fakeroot(1) pretends are seen by tar, not by mkdaxfs,
which refuses to read a directory then: fakeroot sh -c 'tar --format=posix -C DIR
-c . | mkdaxfs - IMAGE'.

Archives hold no sockets. Those of GNU tar have whole seconds only, unless its
option --format=posix was given, and extended attributes only with --xattrs and
--xattrs-include='*'.

A directory that appears below itself by a bind mount is refused, as is an IMAGE
inside an input directory.

The holes of sparse files stay holes of the image file.

Examples:
  mkdaxfs rootfs rootfs.daxfs
  mkdaxfs --pack rootfs rootfs.daxfs
  mkdaxfs base.tar.zst overlay all.daxfs
  mkdaxfs oci:layout:latest image.daxfs
  mkdaxfs --layers docker:saved.tar images
  tar -c rootfs | mkdaxfs - /dev/pmem0
  mkdaxfs --all-root --exclude '*.o' tree tree.daxfs
  mkdaxfs --block-size 65536 tree arm64.daxfs";

/// Make a daxfs image: a read-only file system for memory
///
/// The image gets everything that the inputs hold: regular files, directories, symbolic and hard links, devices, FIFOs
/// and sockets, with owner, mode, modification time and extended attributes. It depends on the content and the options
/// alone: the same files give the same bytes, whether they come in a directory, in an archive, in the layers of a
/// container image or in an image, and whatever the order of files on disk or the name of the image.
///
/// What was written is read back as the kernel does, checked against every rule of the format, and compared with what
/// it was made of. Then it is synced and gets its name. Until then it is a hidden temporary file beside IMAGE; if
/// anything fails, or a signal arrives, that file is removed, and an IMAGE that existed before is as it was.
///
/// A file that cannot be read, or that changes while it is read, is an error.
#[derive(Debug, Parser)]
#[command(name = "mkdaxfs", version, max_term_width = 100, after_help = EXAMPLES, after_long_help = MORE)]
pub struct Args {
    /// What the image shall hold: directories, archives, container images, daxfs images
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<OsString>,

    /// File or device to write the image to; - for standard output
    pub image: PathBuf,

    /// Name of the file system, up to 64 bytes of UTF-8
    #[arg(long, short = 'L', value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = label)]
    pub label: String,

    /// UUID of the file system [default: derived from the content]
    ///
    /// It depends on the content and on the other options.
    #[arg(long, short = 'U')]
    pub uuid: Option<Uuid>,

    /// Build time in seconds since 1970 [default: SOURCE_DATE_EPOCH, else the newest file's]
    ///
    /// It is stored in the image. A fraction counts upwards from the second, also before 1970. The times of files are stored
    /// as they are in any case; see --clamp-mtime.
    #[arg(long, short = 'T', value_name = "SEC[.NSEC]", env = "SOURCE_DATE_EPOCH", hide_env = true,
          allow_hyphen_values = true, value_parser = time)]
    pub time: Option<Time>,

    /// Alignment of file data: a power of two from 4096 to 65536, at least the reader's page size
    ///
    /// A kernel mounts images whose blocks are at least as large as its pages.
    #[arg(long, short = 'b', value_name = "SIZE", default_value = "4096", value_parser = block_size)]
    pub block_size: u32,

    /// Put files smaller than a block where others leave room: they are read as fast, but mapped by copies
    ///
    /// Room is mostly behind the end of a larger file. That makes images of many small files much smaller. A mapping of such a
    /// file shows a copy that the kernel makes in its page cache; of the larger file, that goes for the last page alone.
    /// Kernels that do not know packed files refuse the image.
    #[arg(long)]
    pub pack: bool,

    /// Store files with the same content separately
    ///
    /// By default all of them share one copy, in the image as in the memory of those who map them; owners, modes, times and
    /// names remain their own. Alike are files that are the same byte by byte.
    #[arg(long)]
    pub no_dedupe: bool,

    /// Align files of at least this size to 2 MiB, for huge pages
    ///
    /// A size is a number of bytes, or one of KiB, MiB, GiB or TiB with K, M, G or T behind it.
    #[arg(long, value_name = "SIZE", default_value = "2M", value_parser = size)]
    pub huge_threshold: u64,

    /// Make the size of the image a multiple of this one
    ///
    /// It is itself a multiple of 4096. Some devices need 2 MiB.
    #[arg(long, value_name = "SIZE", default_value = "2M", value_parser = multiple)]
    pub padding: u64,

    /// Fail if the image would be larger
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_size: Option<u64>,

    /// Leave out what matches, with all below it; may be repeated
    ///
    /// It does not matter which input it is in.
    #[arg(long, short = 'e', value_name = "PATTERN", value_parser = pattern, help_heading = "Content")]
    pub exclude: Vec<String>,

    /// Leave out what matches a line of the file; empty lines and those with # in front do not count
    #[arg(long, value_name = "FILE", help_heading = "Content")]
    pub exclude_from: Vec<PathBuf>,

    /// Leave directories empty on which another file system is mounted
    #[arg(long, short = 'x', help_heading = "Content")]
    pub one_file_system: bool,

    /// Platform to choose of a container image for several [default: this machine's]
    ///
    /// By default that for Linux on this machine's processor.
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", help_heading = "Content")]
    pub platform: Option<Platform>,

    /// Keep the layers of a container image apart, for overlayfs: IMAGE is a directory for their images
    ///
    /// It is made if it does not exist. Names of the images begin with a number, from the lowest layer to the uppermost, which
    /// is the reverse of the order in overlayfs's lowerdir=. Removed files become character devices with the number 0:0, and
    /// directories that hide what is below them have the extended attribute trusted.overlay.opaque.
    #[arg(long, help_heading = "Content")]
    pub layers: bool,

    /// Owner of everything
    #[arg(long, value_name = "ID", help_heading = "Attributes")]
    pub uid: Option<u32>,

    /// Group of everything
    #[arg(long, value_name = "ID", help_heading = "Attributes")]
    pub gid: Option<u32>,

    /// Make everything belong to user 0 and group 0
    #[arg(long, conflicts_with_all = ["uid", "gid"], help_heading = "Attributes")]
    pub all_root: bool,

    /// Turn COUNT owners from the id FROM on into those from TO on; may be repeated, others stay
    ///
    /// COUNT is 1 by default. The first range counts that has the id.
    #[arg(long, value_name = "FROM:TO[:COUNT]", conflicts_with_all = ["uid", "all_root"], help_heading = "Attributes")]
    pub map_uid: Vec<IdRange>,

    /// The same for groups
    #[arg(long, value_name = "FROM:TO[:COUNT]", conflicts_with_all = ["gid", "all_root"], help_heading = "Attributes")]
    pub map_gid: Vec<IdRange>,

    /// Change permissions as chmod(1) does, of everything but symlinks
    ///
    /// Octal digits, or changes like u=rwX,go=rX.
    #[arg(
        long,
        value_name = "MODE",
        allow_hyphen_values = true,
        help_heading = "Attributes"
    )]
    pub mode: Option<ModeChange>,

    /// Modification time of everything, in seconds since 1970
    #[arg(long, value_name = "SEC[.NSEC]", allow_hyphen_values = true, value_parser = time, help_heading = "Attributes")]
    pub mtime: Option<Time>,

    /// Give that time to newer files only; without --mtime, SOURCE_DATE_EPOCH or --time is that time
    #[arg(long, help_heading = "Attributes")]
    pub clamp_mtime: bool,

    /// Label everything as this file_contexts file of SELinux says
    ///
    /// And those beside it that end with .homedirs, .local, .subs_dist and .subs. The last line that matches counts, but one
    /// without operators goes before those that have some. What matches none, or has <<none>>, has no label then. Expressions
    /// with look-around or back references are not understood.
    #[arg(long, value_name = "FILE", help_heading = "Attributes")]
    pub file_contexts: Option<PathBuf>,

    /// Overwrite IMAGE also if it holds something other than an image
    ///
    /// Without this, a file or device is only overwritten if it holds a daxfs image, zeros, or nothing. Of a device, the first
    /// 2 MiB and the last MiB are examined. An input is never overwritten.
    #[arg(long, short = 'f', help_heading = "Running")]
    pub force: bool,

    /// Only say what the image would be; write nothing
    ///
    /// Only files that may be alike are read.
    #[arg(long, short = 'n', help_heading = "Running")]
    pub dry_run: bool,

    /// Say what was made in JSON
    ///
    /// An object on one line with image, size, inodes, dry_run and, if it was made, uuid, sha256 and seconds.
    #[arg(long, help_heading = "Running")]
    pub json: bool,

    /// Use so many threads [default: one for each processor]
    #[arg(long, short = 'j', value_name = "N", value_parser = jobs, help_heading = "Running")]
    pub jobs: Option<usize>,

    /// Print nothing but warnings and errors
    #[arg(long, short, conflicts_with = "json", help_heading = "Running")]
    pub quiet: bool,
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
