// SPDX-License-Identifier: GPL-2.0-only

//! The command line of `daxfs share`.

use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

/// Arguments of `daxfs share`.
#[derive(Args)]
pub struct ShareArgs {
    /// The image file, or a file with a catalogue, see daxfs-catalog(8)
    pub image: PathBuf,
    /// Number of the device among the machine's virtio-pmem devices
    #[arg(short, long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..32))]
    pub number: u8,
    /// The command to run, with the arguments after its own
    #[arg(last = true)]
    pub command: Vec<OsString>,
}
