// SPDX-License-Identifier: GPL-2.0-only

//! The command line.

use clap::Parser;
use std::path::PathBuf;

/// The default configuration file.
pub const CONFIG: &str = "/etc/daxfs-snapshotter.toml";

const MORE: &str = "\
Configuration:
The file is in TOML. The comments in it describe each name and its default. Unknown
names are refused. The default applies to a name that the file does not set, and to all if
/etc/daxfs-snapshotter.toml is missing. Another FILE must exist.

containerd:
It needs sections in /etc/containerd/config.toml, see \"Set up\" in containers.rst. Then the option
--snapshotter daxfs of ctr(8) selects this program.

Files:
Each snapshot has a directory ROOT/snapshots/NUMBER.

  snapshot.json       What it is: name, parent, kind, labels, times.
  fs, work            The changes of an active snapshot, and overlayfs's own
                      directory. A committed one has them until its image is made.
  layer               Where the image of a committed snapshot is mounted.

ROOT/store is a store as daxfs store makes it, with an image NUMBER for each committed
snapshot once it is made, which has the files of all layers below it, too. While the program runs, no
other one can use the store.

An image is made and mounted after the commit, and unmounted when it is only needed below
another one. After the machine has started again, it is loaded when a container first
needs it. The program can be restarted at any time: images stay mounted.

Exit status:
  0  A signal ended it: SIGTERM or SIGINT.
  1  It failed; one line on standard error says why.
  2  Wrong usage.

Examples:
  systemctl enable --now daxfs-snapshotter
  ctr image import --snapshotter daxfs image.tar
  ctr run --rm --snapshotter daxfs docker.io/library/image:latest c1 sh
  ctr snapshots --snapshotter daxfs ls
  daxfs top";

/// Serve container layers to containerd as daxfs images in memory
///
/// This snapshotter, which containerd reaches through a socket, adds the layers of container images
/// to a store that keeps each file once, whatever layers contain it. As lower layers of overlayfs,
/// all containers share these files in memory, without page cache, and write to a directory on
/// disk. The store is on disk, because memory loses its content when the machine is powered off.
#[derive(Debug, Parser)]
#[command(name = "daxfs-snapshotter", version, max_term_width = 100, after_long_help = MORE)]
pub struct Args {
    /// Configuration file
    #[arg(long, short = 'c', value_name = "FILE", default_value = CONFIG)]
    pub config: PathBuf,

    /// Read the configuration, report errors in it, and exit
    #[arg(long)]
    pub check: bool,
}
