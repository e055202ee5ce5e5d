// SPDX-License-Identifier: GPL-2.0-only

//! `share`: arguments for a hypervisor so that any number of virtual machines share one copy of an image, which none of
//! them can write.
//!
//! * [`Device`]: the layout of each device's memory
//! * `backing`: the file or memfd with such memory
//! * `qemu`: its arguments

mod backing;
mod info_block;
mod qemu;

pub use backing::Backing;
pub use qemu::{arguments, libvirt, words};

use clap::ValueEnum;

/// Smallest unit of a pmem device, of the kernel's mappings and of memory hotplug.
const PMEM_UNIT: u64 = 2 << 20;

/// A device whose memory holds the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// A virtio-pmem device: /dev/pmem0
    VirtioPmem,
    /// An NVDIMM, with an info block in the 2 MiB before the image: /dev/pmem0
    Nvdimm,
}

/// Where the image is in the memory of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Offset of the image in bytes.
    pub start: u64,
    /// Bytes of all memory.
    pub size: u64,
}

/// Return the name of a device, as on the command line.
pub fn name(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().into())
}

/// Return the command that mounts the image of device `number` on /mnt in a guest, as root.
pub fn mount(number: u8) -> String {
    format!("mount -t daxfs /dev/pmem{number} /mnt")
}

impl Device {
    /// Return the layout for an image of `bytes` bytes in memory whose pages have `page` bytes.
    pub fn layout(self, bytes: u64, page: u64) -> Layout {
        let start = match self {
            Device::VirtioPmem => 0,
            Device::Nvdimm => info_block::DATA,
        };
        let size = (start + bytes).next_multiple_of(PMEM_UNIT.max(page));
        Layout { start, size }
    }

    /// Return the device's demand on its memory.
    fn demand(self) -> &'static str {
        match self {
            Device::VirtioPmem => "a multiple of 2 MiB",
            Device::Nvdimm => "a multiple of 2 MiB, with an info block in the first 2 MiB",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts() {
        const MIB: u64 = 1 << 20;
        let layout = |device: Device, bytes, page| {
            let Layout { start, size } = device.layout(bytes, page);
            (start / MIB, size / MIB)
        };
        for (device, expected) in [(Device::VirtioPmem, (0, 6)), (Device::Nvdimm, (2, 8))] {
            assert_eq!(layout(device, 5 * MIB, 4096), expected, "{device:?}");
            let (start, _) = expected;
            // Huge pages of 1 GiB.
            assert_eq!(layout(device, 5 * MIB, 1024 * MIB), (start, 1024));
        }
        assert_eq!(layout(Device::Nvdimm, 6 * MIB, 4096), (2, 8));
    }
}
