// SPDX-License-Identifier: GPL-2.0-only

//! Opens the memory that a mount specifies.

use crate::backing::name_of;
use crate::linux::block::BlockDevice;
#[cfg(CONFIG_DAXFS_FS_PHYS)]
use crate::memory::phys;
use crate::memory::{
    dax,
    LeaseRef,
    Region, //
};
use crate::options::{
    Named,
    Options, //
};
use crate::prelude::*;

/// Facts about the source of a mount.
pub(crate) struct Found {
    /// The source device, unless an option specifies the memory.
    pub(crate) device: Option<SourceKind>,
    /// The part of the source that may hold the image, if not all of it.
    pub(crate) part: Option<Range<u64>>,
}

/// Returns the kind of superblock that a mount requires, and facts about its source.
///
/// Errors: `EINVAL` if options contradict each other or the source is missing; `ENOTBLK` if the
/// source is not a device; the errors of stat(2).
pub(crate) fn super_kind(
    options: &Options,
    context: &Context,
) -> Result<(SuperKind, Found), Refusal> {
    if options.user.is_some() && options.named() != Named::Descriptor("memfd") {
        refuse!(EPERM => "only root mounts other memory than sealed memfds";
            "mount.daxfs puts an image file into one");
    }
    match (options.phys.is_some(), options.size) {
        (true, None) => refuse!(EINVAL => "phys= needs size="),
        (false, Some(_)) => refuse!(EINVAL => "size= requires phys="),
        _ => {}
    }
    let mut found = Found {
        device: None,
        part: options.part.of(match options.named() {
            Named::Device => Some(u64::MAX),
            Named::Phys(_, size) => Some(size),
            Named::Descriptor(_) => None,
        })?,
    };
    let part = found.part.clone();
    let key = |holder, first| {
        part.map(|part| SuperKind::Keyed(Key([holder, first + part.start, part.end - part.start])))
    };
    #[cfg(CONFIG_DAXFS_FS_PHYS)]
    if let Named::Phys(start, size) = options.named() {
        // Check this before looking for a superblock that another process has mounted.
        phys::check(start, size)
            .map_err(|refusal| refusal.of(fmt!("phys={start:#x},size={size:#x}")))?;
        let kind = key(u64::MAX, start).unwrap_or(SuperKind::New);
        return Ok((kind, found));
    }
    if options.descriptor.is_some() {
        return Ok((SuperKind::New, found));
    }
    let source = context.source();
    let device = context.source_kind().map_err(|error| match error {
        error if error == EINVAL => refusal!(error => "no source given"),
        error => refusal!(error => "{source}: cannot be looked up: {error:?}"),
    })?;
    found.device = Some(device);
    // One more bit distinguishes block from character device numbers.
    let kind = match device {
        SourceKind::BlockDevice(number) => {
            key(u64::from(number) << 1, 0).unwrap_or(SuperKind::BlockDevice(number))
        }
        SourceKind::CharDevice(number) => {
            key(u64::from(number) << 1 | 1, 0).unwrap_or(SuperKind::New)
        }
        SourceKind::Other => {
            refuse!(ENOTBLK => "{source}: neither a block device nor a DAX device";
                "mount.daxfs and 'daxfs load' put an image file into memory")
        }
    };
    Ok((kind, found))
}

/// Opens the memory that `options` name, or else the `part` of the device that is the mount's
/// source, if not all of it. Returns the device as well, if it is a block device.
pub(crate) fn open(
    options: &Options,
    found: &Found,
    part: Option<Range<u64>>,
    lease_ref: &LeaseRef,
    context: &Context,
) -> Result<(Region, Option<BlockDevice>), Refusal> {
    let of_device = |refusal| of_device(refusal, &part, context);
    let region = match (&options.descriptor, found.device) {
        (Some((name, descriptor)), _) => descriptor
            .open(lease_ref)
            .map_err(|refusal| refusal.of(fmt!("{name}"))),
        (None, Some(SourceKind::BlockDevice(number))) => {
            let (region, bdev) =
                dax::open_block(number, part.clone(), lease_ref).map_err(of_device)?;
            return Ok((region, Some(bdev)));
        }
        (None, Some(SourceKind::CharDevice(number))) => {
            let node = || context.open_source();
            dax::open_char(number, node, part.clone(), lease_ref).map_err(of_device)
        }
        _ => match (options.named(), &part) {
            #[cfg(CONFIG_DAXFS_FS_PHYS)]
            (Named::Phys(_, size), Some(part)) if part.end > size => Err(of_device(EINVAL.into())),
            // A part has its own entry in /proc/iomem.
            #[cfg(CONFIG_DAXFS_FS_PHYS)]
            (Named::Phys(first, size), part) => {
                let part = part.clone().unwrap_or(0..size);
                let (start, size) = (first + part.start, part.end - part.start);
                phys::open(start, size, lease_ref)
                    .map_err(|refusal| refusal.of(fmt!("phys={start:#x},size={size:#x}")))
            }
            _ => Err(ENOTBLK.into()),
        },
    };
    Ok((region?, None))
}

/// Returns the name of the memory, by which images on it share packs, if others can share it.
pub(crate) fn shared_name(options: &Options, found: &Found) -> Result<Option<CString>> {
    Ok(match options.named() {
        Named::Device => Some(name_of(found.device)?),
        Named::Phys(start, _) => Some(CString::try_from_fmt(fmt!("phys/{start:x}"))?),
        Named::Descriptor(_) => None,
    })
}

/// Adds to a refusal that it concerns the source device, or a part of it.
fn of_device(refusal: Refusal, part: &Option<Range<u64>>, context: &Context) -> Refusal {
    let source = context.source();
    match part {
        Some(Range { start, end }) => {
            let length = end - start;
            refusal.of(fmt!("{source}: fsoffset={start:#x},fslength={length:#x}"))
        }
        None => refusal.of(fmt!("{source}")),
    }
}
