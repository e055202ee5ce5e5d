// SPDX-License-Identifier: GPL-2.0-only

//! The command line of `daxfs share`.

use crate::share::Device;
use clap::Args;
use daxfs_load::buffer::Kind;
use std::ffi::OsString;
use std::path::PathBuf;

/// Arguments of `daxfs share`.
#[derive(Args)]
pub struct ShareArgs {
    /// The image file, or a file with a catalogue, see daxfs-catalog(8)
    pub image: PathBuf,
    /// The device that the guest gets
    #[arg(short, long, value_enum, default_value_t = Device::VirtioPmem)]
    pub device: Device,
    /// Number of the device among the machine's NVDIMMs and virtio-pmem devices
    #[arg(short, long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..32))]
    pub number: u8,
    /// Share a copy in DIR, which is made unless it is there
    ///
    /// DIR can be on a disk, on tmpfs or on hugetlbfs, whose huge pages the copy then has. The copy is padded, and
    /// has an info block before the image, as the device needs it.
    #[arg(long, value_name = "DIR")]
    pub copy: Option<PathBuf>,
    /// Share a sealed memfd with a copy, which COMMAND and its children have: memfd or hugetlb
    #[arg(
        long,
        value_name = "KIND",
        conflicts_with = "copy",
        requires = "command"
    )]
    #[arg(value_parser = sealed)]
    pub into: Option<Kind>,
    /// Print the command that mounts the image on /mnt in the guest, instead of arguments
    #[arg(long, conflicts_with_all = ["json", "command", "into", "copy"])]
    pub guest: bool,
    /// Print the arguments as an element of a domain of libvirt
    #[arg(long, conflicts_with_all = ["json", "command", "into", "guest"])]
    pub libvirt: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "command")]
    pub json: bool,
    /// The command to run, with the arguments after its own
    #[arg(last = true)]
    pub command: Vec<OsString>,
}

/// Parse a kind of memory that can be sealed.
fn sealed(word: &str) -> Result<Kind, &'static str> {
    match Kind::named(word) {
        Some(kind @ (Kind::Memfd | Kind::Hugetlb)) => Ok(kind),
        _ => Err("use memfd or hugetlb"),
    }
}
