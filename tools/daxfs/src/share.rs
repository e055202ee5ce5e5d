// SPDX-License-Identifier: GPL-2.0-only

//! `share`: arguments for QEMU, so that any number of virtual machines share one image file, which none of them can write.

use daxfs_image::error::{Error, Result};
use daxfs_image::source::{self, name_of, superblock};
use daxfs_image::text::{human, shown_path};
use daxfs_reader::catalog::Table;
use daxfs_reader::Memory;
use std::path::Path;

/// Smallest unit of a pmem device, of the kernel's mappings and of memory hotplug.
const UNIT: u64 = 2 << 20;

/// Return the arguments that give a machine the virtio-pmem device `number` with the file `path`, which has an image or a
/// catalogue of images.
///
/// With `readonly=on`, QEMU opens the file for reading only and makes its memory ROM for the guest.
///
/// Fail if the file does not suit the device, or if its path is not UTF-8.
pub fn arguments(path: &Path, number: u8) -> Result<[String; 4]> {
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
    // A comma ends a value, two commas mean one.
    let file = absolute(path)?.replace(',', ",,");
    let id = format!("daxfs-pmem{number}");
    // Aligned as huge pages are, here as in the guest.
    let backend = format!(
        "memory-backend-file,id={id},mem-path={file},size={size},share=on,readonly=on,align=2M"
    );
    let device = format!("virtio-pmem-pci,memdev={id}");
    Ok(["-object".into(), backend, "-device".into(), device])
}

/// Return the absolute path of `path`, which must be text for the options of hypervisors.
fn absolute(path: &Path) -> Result<String> {
    let absolute = std::path::absolute(path)
        .map_err(|error| Error::system(shown_path(path), "cannot find its path", "", error))?;
    absolute.into_os_string().into_string().map_err(|_| {
        let why = "the path is not UTF-8, as the options of hypervisors must be; rename it";
        Error::refused(shown_path(path), why)
    })
}

/// Join `arguments` to a line that a shell reads as these words.
pub fn words(arguments: &[String]) -> String {
    let quoted = arguments.iter().map(|word| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=,./:@%+".contains(&byte);
        match !word.is_empty() && word.bytes().all(plain) {
            true => word.clone(),
            false => format!("'{}'", word.replace('\'', "'\\''")),
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}
