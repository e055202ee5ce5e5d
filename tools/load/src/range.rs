// SPDX-License-Identifier: GPL-2.0-only

//! Physical memory as a target for an image.

use crate::file::ImageFile;
use daxfs_files::bar::Bar;
use daxfs_files::device::Device;
use daxfs_files::values::size;
use daxfs_files::Overwrite;
use daxfs_image::error::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A range of physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Address of the first byte.
    pub start: u64,
    /// Length in bytes.
    pub size: u64,
}

impl FromStr for Range {
    type Err = String;

    /// Parses `phys=ADDRESS,size=BYTES`, like the mount options.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let value = |name: &str| {
            let value = text.split(',').find_map(|word| word.strip_prefix(name));
            value.map(size).transpose()
        };
        match (value("phys=")?, value("size=")?) {
            (Some(start), Some(size)) if text.split(',').count() == 2 => Ok(Range { start, size }),
            _ => Err("use phys=ADDRESS,size=BYTES".into()),
        }
    }
}

enum Owner {
    /// Memory without a driver.
    None,
    /// A block or DAX device in /dev, and the offset of the range in it.
    Device(PathBuf, u64),
}

impl Range {
    /// Returns the driver's device that contains the range, if any.
    ///
    /// Fails if the range is System RAM or mounted, which /proc/iomem shows only to root, or if a
    /// device contains only part of the range.
    fn owner(&self) -> Result<Owner> {
        let last = self.start + (self.size - 1);
        let name = self.to_string();
        for (start, end, device) in devices() {
            if end < self.start || last < start {
                continue;
            }
            if start <= self.start && last <= end {
                return Ok(Owner::Device(device, self.start - start));
            }
            let device = device.display();
            let why = format!(
                "{device} has {start:#x} to {end:#x}, a part of the range; name a range in it"
            );
            return Err(Error::refused(name, why));
        }
        let text = fs::read_to_string("/proc/iomem");
        let text = text.map_err(|error| Error::system("/proc/iomem", "cannot read", "", error))?;
        let has = |kind: &str| {
            text.lines().any(|line| {
                let entry = || {
                    let (range, what) = line.trim_start().split_once(" : ")?;
                    let (first, end) = range.split_once('-')?;
                    let number = |text| u64::from_str_radix(text, 16).ok();
                    Some((number(first)?, number(end)?, what))
                };
                entry().is_some_and(|(first, end, what)| {
                    what.starts_with(kind) && first <= last && self.start <= end
                })
            })
        };
        if has("System RAM") {
            let why = "is System RAM; reserve it at boot, with memmap=SIZE$ADDRESS";
            return Err(Error::refused(name, why));
        }
        if has("daxfs") {
            return Err(Error::refused(
                name,
                "is mounted, or a part of it; unmount it",
            ));
        }
        Ok(Owner::None)
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "phys={:#x},size={:#x}", self.start, self.size)
    }
}

/// Returns the first and last address and the node of each pmem and DAX device.
fn devices() -> Vec<(u64, u64, PathBuf)> {
    let number = |path: PathBuf| {
        let text = fs::read_to_string(path).ok()?;
        size(text.trim()).ok()
    };
    let found = |directory: &str, resource: &str| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let devices = entries.filter_map(|entry| {
            let path = entry.path();
            let start = number(path.join(resource).join("resource"))?;
            let size = match number(path.join("size"))? {
                // In sectors.
                size if !resource.is_empty() => size * 512,
                size => size,
            };
            Some((
                start,
                start + size.checked_sub(1)?,
                Path::new("/dev").join(entry.file_name()),
            ))
        });
        devices.collect::<Vec<_>>()
    };
    [
        found("/sys/class/block", "device"),
        found("/sys/bus/dax/devices", ""),
    ]
    .concat()
}

/// Writes the image file `image` to `range`, reads it back, and returns the command that mounts it.
/// Unless `force`, overwrites only an image and zeros.
///
/// Fails if the range is System RAM or closed to programs, or if the image does not fit.
pub fn write(image: &Path, range: Range, force: bool) -> Result<String> {
    let image = ImageFile::open(image)?;
    let page = rustix::param::page_size() as u64;
    let end = range.start.checked_add(range.size);
    if (range.start | range.size) % page != 0 || range.size == 0 || end.is_none() {
        let why = format!("address and size must be multiples of the page size, {page}, and not 0");
        return Err(Error::refused(range.to_string(), why));
    }
    if image.size > range.size {
        let why = format!(
            "the image has {} bytes, the range {}; name a larger range",
            image.size, range.size
        );
        return Err(Error::refused(range.to_string(), why));
    }
    let mut overwrite = Overwrite::new(force);
    overwrite.input(&image.path);
    let (device, mount) = match range.owner()? {
        Owner::None => {
            let device = Device::memory(range.start, range.size)?;
            (device, format!("mount -t daxfs -o {range} none"))
        }
        Owner::Device(path, start) => {
            let device = Device::open_part(&path, start)?;
            let length = image.size;
            let part = match start {
                0 => String::new(),
                start => format!(" -o fsoffset={start:#x},fslength={length:#x}"),
            };
            (device, format!("mount -t daxfs{part} {}", path.display()))
        }
    };
    device.check_part(&overwrite, image.size)?;
    image.write_to(&device, &Bar::of("copying", image.size))?;
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let range = |text: &str| text.parse::<Range>();
        let wanted = Range {
            start: 0x2_4000_0000,
            size: 8 << 30,
        };
        assert_eq!(range("phys=0x240000000,size=8G"), Ok(wanted));
        assert_eq!(range("size=0x200000000,phys=9G"), Ok(wanted));
        assert_eq!(wanted.to_string(), "phys=0x240000000,size=0x200000000");
        let wrong = "phys=1M|size=1M|phys=1M,size=1M,x|phys=x,size=1M|memfd";
        for text in wrong.split('|') {
            assert!(range(text).is_err(), "{text}");
        }
    }
}
