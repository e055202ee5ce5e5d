// SPDX-License-Identifier: GPL-2.0

//! The command line.

use clap::Parser;
use daxfs::adjust::IdRange;
use daxfs::input::Platform;
use daxfs::mode::ModeChange;
use daxfs::values::{block_size, label, multiple, size, time, Time};
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use uuid::Uuid;

const EXAMPLES: &str = "\
Inputs:
  A directory, a tar archive (plain or compressed with gzip, zstd or xz), a
  daxfs image, or - for an archive or image on standard input. With dir:, tar:
  or image: in front of the path it must be what that says. oci:PATH[:REF] and
  docker:PATH[:REF] name a container image in an OCI layout or archive, or in
  an archive of docker save. What comes later replaces what came before; of
  directories the contents are merged.

Patterns:
  One with a slash at its start or within is matched against the path in the
  image, another against every name. * ? [a-z] {a,b} match within names, **
  across them; a slash at the end means directories only.

Examples:
  mkdaxfs rootfs rootfs.daxfs                 image the directory rootfs
  mkdaxfs --pack rootfs rootfs.daxfs          make the image as small as can be
  mkdaxfs base.tar.zst overlay all.daxfs      image an archive, with changes
  mkdaxfs oci:layout:latest image.daxfs       image a container, flattened
  mkdaxfs --layers oci:layout images          each of its layers by itself
  tar -c rootfs | mkdaxfs - /dev/pmem0        from a pipe to a device
  mkdaxfs --all-root -e '*.o' tree tree.img   change owners, leave files out
  mkdaxfs --block-size 65536 tree arm64.img   for kernels with 64 KiB pages

The same content gives the same image, byte for byte, whatever it came in. An
existing IMAGE is replaced only when the new one is complete and verified; a
run that fails leaves it as it was.

Exit status: 0 done, 1 failed, 2 wrong usage.";

/// Make a daxfs image: a read-only file system for memory.
#[derive(Debug, Parser)]
#[command(name = "mkdaxfs", version, max_term_width = 100, after_help = EXAMPLES)]
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
    #[arg(long, short = 'U')]
    pub uuid: Option<Uuid>,

    /// Build time in seconds since 1970 [default: SOURCE_DATE_EPOCH, else the newest file's]
    #[arg(long, short = 'T', value_name = "SEC[.NSEC]", env = "SOURCE_DATE_EPOCH", hide_env = true,
          allow_hyphen_values = true, value_parser = time)]
    pub time: Option<Time>,

    /// Alignment of file data: a power of two from 4096 to 65536, at least the reader's page size
    #[arg(long, short = 'b', value_name = "BYTES", default_value_t = 4096, value_parser = block_size)]
    pub block_size: u32,

    /// Put files smaller than a block where others leave room: they are read as fast, but mapped by copies
    #[arg(long)]
    pub pack: bool,

    /// Store files with the same content separately
    #[arg(long)]
    pub no_dedupe: bool,

    /// Align files of at least this size to 2 MiB, for huge pages
    #[arg(long, value_name = "SIZE", default_value = "2M", value_parser = size)]
    pub huge_threshold: u64,

    /// Make the size of the image a multiple of this one
    #[arg(long, value_name = "SIZE", default_value = "2M", value_parser = multiple)]
    pub padding: u64,

    /// Fail if the image would be larger
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_size: Option<u64>,

    /// Leave out what matches, with all below it; may be repeated
    #[arg(long, short = 'e', value_name = "PATTERN", help_heading = "Content")]
    pub exclude: Vec<String>,

    /// Leave out what matches a line of the file; empty lines and those with # in front do not count
    #[arg(long, value_name = "FILE", help_heading = "Content")]
    pub exclude_from: Vec<PathBuf>,

    /// Leave directories empty on which another file system is mounted
    #[arg(long, short = 'x', help_heading = "Content")]
    pub one_file_system: bool,

    /// Platform to choose of a container image for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", help_heading = "Content")]
    pub platform: Option<Platform>,

    /// Keep the layers of a container image apart, for overlayfs: IMAGE is a directory for their images
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
    #[arg(long, value_name = "FROM:TO[:COUNT]", conflicts_with_all = ["uid", "all_root"], help_heading = "Attributes")]
    pub map_uid: Vec<IdRange>,

    /// The same for groups
    #[arg(long, value_name = "FROM:TO[:COUNT]", conflicts_with_all = ["gid", "all_root"], help_heading = "Attributes")]
    pub map_gid: Vec<IdRange>,

    /// Change permissions as chmod(1) does, of everything but symlinks
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
    #[arg(long, value_name = "FILE", help_heading = "Attributes")]
    pub file_contexts: Option<PathBuf>,

    /// Only say what the image would be; write nothing
    #[arg(long, short = 'n', help_heading = "Running")]
    pub dry_run: bool,

    /// Say what was made in JSON
    #[arg(long, help_heading = "Running")]
    pub json: bool,

    /// Use so many threads [default: one for each processor]
    #[arg(long, short = 'j', value_name = "N", help_heading = "Running")]
    pub jobs: Option<NonZeroUsize>,

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
