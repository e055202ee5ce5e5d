// SPDX-License-Identifier: GPL-2.0-only

//! `load`: loads an image file into memory, and mounts it.

use super::common::{print, wrong_usage};
use clap::Args;
use daxfs_image::error::Result;
use daxfs_load::buffer::Kind;
use daxfs_load::range::{self, Range};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

/// Load an image file into memory and mount it
///
/// You need as much memory as the image is large, until you unmount. By default, the memory is a
/// sealed memfd, whose content can never change.
///
/// With --into phys=ADDRESS,size=BYTES, the image goes into this physical memory, which other
/// kernels can also mount, and you get the command that mounts it. Use memory reserved at boot
/// (memmap=SIZE$ADDRESS), if the kernel lets programs map /dev/mem, or part of a pmem device or of
/// a DAX device in devdax mode.
///
/// With --serve SOCKET, the command keeps running, and passes the memory's descriptor to each
/// process that connects to this socket, for example with daxfs_memory() of libdaxfs. In a systemd
/// service, use Type=notify: the service is ready once the image is mounted.
#[derive(Args)]
#[command(after_help = "\
Examples:
  daxfs load base.img /mnt
  daxfs load --into heap base.img /mnt
  daxfs load --into heap --serve /run/model/memory model.img /mnt
  daxfs load --into phys=0x240000000,size=1G base.img
  mkdaxfs --quiet /srv/base - | daxfs load --into heap - /mnt")]
pub struct Load {
    /// The image file; - is standard input
    image: PathBuf,
    /// The mount point
    dir: Option<PathBuf>,
    /// The kind of memory: memfd, hugetlb, heap, or phys=ADDRESS,size=BYTES
    ///
    /// memfd is a sealed memfd. hugetlb is one of huge pages; enough of them must be free
    /// (/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages). heap is a buffer of the system's
    /// dma-heap.
    #[arg(long, value_name = "MEMORY", default_value = "memfd")]
    into: Destination,
    /// Overwrite any content of the physical memory
    ///
    /// By default, only an image or zeros are overwritten.
    #[arg(short, long)]
    force: bool,
    /// Share the memory's descriptor with others at this socket, until this program ends
    ///
    /// Users with write permission for the socket can connect: only root, with the usual umask.
    /// With the descriptor, a process can read the whole image, and write it if it is in a dma-buf.
    #[arg(long, value_name = "SOCKET")]
    serve: Option<PathBuf>,
    /// Mount options, as for mount(8)
    #[arg(short, long, value_delimiter = ',')]
    options: Vec<String>,
}

impl Load {
    pub fn run(self) -> Result<ExitCode> {
        match (self.into, &self.dir) {
            (Destination::Kind(kind), Some(dir)) if !self.force => {
                if let Some(socket) = &self.serve {
                    match daxfs_load::serve_on(&self.image, dir, kind, &self.options, socket)? {}
                }
                daxfs_load::load_on(&self.image, dir, kind, &self.options)?;
                Ok(ExitCode::SUCCESS)
            }
            (Destination::Range(range), None)
                if self.options.is_empty() && self.serve.is_none() =>
            {
                print(&range::write(&self.image, range, self.force)?)
            }
            (Destination::Kind(_), None) => wrong_usage("name the mount point after the image"),
            (Destination::Kind(_), Some(_)) => {
                wrong_usage("--force overwrites physical memory, and needs --into phys=")
            }
            (Destination::Range(_), _) => {
                wrong_usage("phys= is not mounted, and takes no mount point, options or --serve")
            }
        }
    }
}

/// Memory for an image, as given to `load --into`.
#[derive(Clone, Copy, Debug)]
pub enum Destination {
    /// Memory of the mount.
    Kind(Kind),
    /// Physical memory.
    Range(Range),
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match Kind::named(text) {
            Some(kind) => Ok(Destination::Kind(kind)),
            None if text.contains('=') => text.parse().map(Destination::Range),
            None => Err("use memfd, hugetlb, heap or phys=ADDRESS,size=BYTES".into()),
        }
    }
}
