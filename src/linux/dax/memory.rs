// SPDX-License-Identifier: GPL-2.0-only

//! Memory of DAX devices that is mapped into the kernel.

use super::device::{
    Device,
    Found,
    Mode, //
};
use crate::linux::block::BlockDevice;
use crate::linux::fs::*;
use crate::linux::mm::{
    poison::Frame,
    DaxRange,
    MapMethod,
    Mappable,
    Owner, //
};
use crate::linux::prelude::*;

/// How many pages to ask for at a time, 1 TiB: the pmem driver counts the sectors of a request in
/// 32 bits.
const MOST_PAGES: u64 = 1 << 40 >> bindings::PAGE_SHIFT;

/// Returns the refusal of a device that denies access to byte `at` with `error`.
fn refused(at: u64, error: Error) -> Refusal {
    if error == Errno::HwPoison.into() {
        return refusal!(EIO => "byte {at:#x} cannot be read: the memory has failed";
            "write the block again to repair it");
    }
    refusal!(error => "device refuses access to byte {at:#x}: {error:?}")
}

owned! {
    /// A reference to the page map of a driver, which keeps its struct pages and its mapping.
    struct PageMap(dev_pagemap, put_dev_pagemap);
}

impl PageMap {
    /// Looks up the page map that contains page frame `frame`, if the driver of `device` created
    /// it, rather than the driver of a device that it is stacked on.
    fn of(frame: usize, device: &Device) -> Option<Self> {
        // SAFETY: The function looks the number up.
        let found = unsafe { bindings::get_dev_pagemap(frame) };
        // INVARIANT: get_dev_pagemap() returned a reference.
        let map = PageMap(NonNull::new(found)?);
        // SAFETY: By the type invariant the map is valid, and so is the device.
        let (owner, driver) = unsafe {
            let driver = bindings::dax_get_private(device.as_raw());
            ((*map.0.as_ptr()).owner, driver)
        };
        (!owner.is_null() && owner == driver).then_some(map)
    }
}

/// Owner and address of mapped memory.
struct Mapped {
    base: NonNull<u8>,
    bad_blocks: Option<(NonNull<Atomic<u32>>, u32)>,
    _pages: PageMap,
}

/// A device's memory, once mapped, and `keep`, which is dropped after the memory.
///
/// # Invariants
///
/// `mapped` is about the bytes of `range` of the device.
pub(crate) struct DeviceMemory<K> {
    mapped: Option<Mapped>,
    range: Range<u64>,
    device: ARef<Device>,
    _keep: K,
}

// SAFETY: References to page maps may be put by any thread.
unsafe impl<K: Send> Send for DeviceMemory<K> {}
// SAFETY: Nothing reachable through a shared reference changes.
unsafe impl<K: Sync> Sync for DeviceMemory<K> {}

impl<K> DeviceMemory<K> {
    /// Describes the bytes of `range`, whole pages of `device`.
    pub(crate) fn new(device: ARef<Device>, range: Range<u64>, keep: K) -> Self {
        // INVARIANT: They are not mapped yet.
        DeviceMemory {
            mapped: None,
            range,
            device,
            _keep: keep,
        }
    }

    /// Finds where the memory is mapped. The addresses and page frames must be contiguous. Marks
    /// the pages that are known to have failed: they are mapped like the others, but reads of them
    /// fail. If the device is `bdev`'s, its list of bad blocks may grow later.
    ///
    /// The caller must delay the removal of the device.
    pub(crate) fn map(&mut self, bdev: Option<&BlockDevice>) -> Result<(), Refusal> {
        let first = self.range.start >> bindings::PAGE_SHIFT;
        let start = self
            .device
            .direct_access(first, 1, Mode::Good)
            .map_err(|error| refused(0, error))?;
        let Some(pages) = PageMap::of(start.frame, &self.device) else {
            refuse!(Errno::NotSupported => "stacked DAX devices are not supported";
                "mount the pmem device below it");
        };
        // The object with the page map also contains the list: pmem is the only driver with both.
        let bdev = bdev.filter(|bdev| {
            Device::of_block(bdev).is_some_and(|(device, _)| ptr::eq(&*device, &*self.device))
        });
        let bad_blocks = bdev.and_then(BlockDevice::bad_blocks).map(|number| {
            // SAFETY: The reference to the page map keeps the object.
            let now = unsafe { number.as_ref() }.load(Acquire);
            (number, now)
        });
        self.for_each_part(refused, |page, found| {
            let at = page << bindings::PAGE_SHIFT;
            let address = start.address.as_ptr().wrapping_add(at as usize);
            if found.address.as_ptr() != address || found.frame != start.frame + page as usize {
                refuse!(EINVAL => "device is not mapped in one piece (break at byte {at:#x})";
                    "use a linear one");
            }
            Ok(())
        })?;
        // INVARIANT: All pages of the range have been found.
        self.mapped = Some(Mapped {
            base: start.address,
            bad_blocks,
            _pages: pages,
        });
        Ok(())
    }

    /// Asks for all pages, and calls `visit` with the number of the first page of each part
    /// that was found. Marks pages that are known to have failed, and visits them too.
    ///
    /// The device refuses a request if any of its pages has failed, so shrink the request until the
    /// device accepts it, then grow it again.
    ///
    /// Errors: The errors of `visit`, and errors of the device with their place, as `refuse`
    /// returns them.
    fn for_each_part<E>(
        &self,
        refuse: impl Fn(u64, Error) -> E,
        mut visit: impl FnMut(u64, Found) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = Error::from(Errno::HwPoison);
        let first = self.range.start >> bindings::PAGE_SHIFT;
        let pages = (self.range.end - self.range.start).div_ceil(bindings::PAGE_SIZE);
        let (mut page, mut step) = (0, MOST_PAGES);
        while page < pages {
            let count = step.min(pages - page);
            let found = match self.device.direct_access(first + page, count, Mode::Good) {
                Err(error) if error == failed && count > 1 => {
                    step = count / 2;
                    continue;
                }
                // A kernel without failure handling cannot mark pages.
                Err(error) if error == failed && cfg!(CONFIG_MEMORY_FAILURE) => self
                    .device
                    .direct_access(first + page, 1, Mode::Any)
                    .map(|found| Found { pages: 1, ..found })
                    // SAFETY: The reference to the page map keeps the struct page.
                    .inspect(|found| unsafe { Frame::new(found.frame) }.mark()),
                Ok(found) => {
                    step = MOST_PAGES.min(2 * step);
                    Ok(found)
                }
                error => error,
            };
            let at = page << bindings::PAGE_SHIFT;
            let found = found.map_err(|error| refuse(at, error))?;
            visit(page, found)?;
            page += found.pages;
        }
        Ok(())
    }
}

// SAFETY: The page map keeps the driver's mapping, its struct pages, and its list of bad blocks.
// Processes map the memory through the DAX code.
unsafe impl<K: Send + Sync> Owner for DeviceMemory<K> {
    fn mappable(&self) -> Option<Mappable> {
        let method = MapMethod::Dax(DaxRange {
            device: NonNull::new(self.device.as_raw())?,
            offset: self.range.start,
        });
        let size = self.range.end - self.range.start;
        let mapped = self.mapped.as_ref()?;
        Some(Mappable::new(mapped.base, size, method))
    }

    fn bad_blocks(&self) -> Option<(NonNull<Atomic<u32>>, u32)> {
        self.mapped.as_ref()?.bad_blocks
    }

    fn mark_failed(&self) {
        // If the device is gone, there is nothing to mark.
        let _ = self.for_each_part(|_, error| error, |_, _| Ok(()));
    }
}
