// SPDX-License-Identifier: GPL-2.0-only

//! `share`: QEMU arguments with which any number of virtual machines share an image file read-only.

use clap::Args;
use daxfs_files::stdout::say;
use daxfs_image::error::{Error, Result};
use daxfs_image::source::{self, name_of, superblock};
use daxfs_image::text::{human, shown_path};
use daxfs_reader::catalog::Table;
use daxfs_reader::Memory;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Smallest unit of a pmem device, of the kernel's mappings and of memory hotplug.
const UNIT: u64 = 2 << 20;

/// Share an image among virtual machines that cannot write to it
///
/// Runs COMMAND with QEMU's arguments for a virtio-pmem device with the image, or prints them,
/// quoted for a shell. All machines that you start with the same file share one copy, which QEMU
/// maps read-only. In the guest, mount /dev/pmem0. If the file is a store, running machines see the
/// images that daxfs store adds to it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  daxfs share base.img -- qemu-system-x86_64 -m 1G,maxmem=4G ...
  args=$(daxfs share base.img) && eval \"qemu-system-x86_64 -m 1G,maxmem=4G $args\"
  daxfs share images -- qemu-system-x86_64 -m 1G,maxmem=4G ...")]
pub struct Share {
    /// Image file, or file that contains a store, see daxfs-store(8)
    image: PathBuf,
    /// Number of the device among the machine's virtio-pmem devices
    #[arg(short, long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..32))]
    number: u8,
    /// The command to run, with the arguments after its own
    #[arg(last = true)]
    command: Vec<OsString>,
}

impl Share {
    /// Fails if the image does not suit the device, or if the command cannot be run.
    pub fn run(self) -> Result<ExitCode> {
        let arguments = arguments(&self.image, self.number)?;
        if let Some(program) = self.command.first() {
            let mut command = Command::new(program);
            let error = command.args(&self.command[1..]).args(&arguments).exec();
            let name = program.to_string_lossy();
            let remedy = if name.contains('/') {
                "; check the path"
            } else {
                "; install it, or give its path"
            };
            return Err(Error::system(name, "cannot run it", remedy, error));
        }
        say(&words(&arguments))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns the arguments for a virtio-pmem device `number` with the file `path`, an image or a
/// store.
///
/// With `readonly=on`, QEMU opens the file read-only, and its memory is ROM for the guest.
///
/// Fails if the file does not suit the device, or if its path is not UTF-8.
fn arguments(path: &Path, number: u8) -> Result<[String; 4]> {
    if path.as_os_str() == "-" {
        let why = "has no path for a hypervisor; name a file";
        return Err(Error::refused("standard input", why));
    }
    let source = source::open(path)?;
    let name = name_of(path);
    let table = Table::load(&source).map_err(|error| Error::image(&name, b"", error))?;
    if table.is_none() {
        superblock(&source, &name)?;
    }
    let size = source.size();
    if size % UNIT != 0 {
        let has = human(size);
        let why = format!(
            "has {size} bytes ({has}), but the memory of virtio-pmem must be a multiple of 2 MiB; \
             truncate -s %2M enlarges it"
        );
        return Err(Error::refused(name, why));
    }
    // A comma ends a value; two commas stand for one.
    let file = absolute(path)?.replace(',', ",,");
    let id = format!("daxfs-pmem{number}");
    // Aligned to huge pages, both here and in the guest.
    let backend = format!(
        "memory-backend-file,id={id},mem-path={file},size={size},share=on,readonly=on,align=2M"
    );
    let device = format!("virtio-pmem-pci,memdev={id}");
    Ok(["-object".into(), backend, "-device".into(), device])
}

/// Returns the absolute path of `path`, which must be UTF-8 for hypervisors' options.
fn absolute(path: &Path) -> Result<String> {
    let absolute = std::path::absolute(path)
        .map_err(|error| Error::system(shown_path(path), "cannot find its path", "", error))?;
    absolute.into_os_string().into_string().map_err(|_| {
        let why = "the path is not UTF-8, as the options of hypervisors must be; rename it";
        Error::refused(shown_path(path), why)
    })
}

/// Joins `arguments` to a line that a shell splits into the same words.
fn words(arguments: &[String]) -> String {
    let quoted = arguments.iter().map(|word| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=,./:@%+".contains(&byte);
        if !word.is_empty() && word.bytes().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}
