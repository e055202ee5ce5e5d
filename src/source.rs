// SPDX-License-Identifier: GPL-2.0-only

//! Opening the memory that a mount names.

#![deny(unsafe_code)]

use crate::linux::block::BlockDevice;
use crate::linux::fs::{Context, Key, Refusal, SourceKind, SuperKind};
use crate::memory::dax::{self, CharDevice};
use crate::memory::{dmabuf, memfd, phys, Region, Tenure};
use crate::options::{Options, Source};
use core::ops::Range;
use kernel::{fmt, page::PAGE_SIZE, prelude::*};

/// What a mount has found out about its source before it has a superblock.
pub(crate) struct Found {
    /// The device that is the source, unless an option names the memory.
    pub(crate) device: Option<SourceKind>,
    /// That device, if it is a DAX character device.
    opened: Option<CharDevice>,
    /// The part of the source that the image may have, if not all of it.
    pub(crate) part: Option<Range<u64>>,
}

/// Return the kind of superblock that a mount needs, and what was found out about its source.
///
/// # Errors
///
/// `EINVAL` if options contradict each other or there is no source; `ENOTBLK` if the source is not
/// a device; those of stat(2).
pub(crate) fn super_kind(options: &Options, context: &Context) -> Result<(SuperKind, Found)> {
    let refuse = |message: fmt::Arguments<'_>, error: Error| {
        context.error(message);
        Err(error)
    };
    let is_phys = matches!(options.source, Some(Source::Phys(_)));
    match (is_phys, options.size) {
        (true, None) => return refuse(fmt!("phys= needs size="), EINVAL),
        (false, Some(_)) => return refuse(fmt!("size= requires phys="), EINVAL),
        _ => {}
    }
    let mut found = Found {
        device: None,
        opened: None,
        part: part(options, context)?,
    };
    let part = found.part.clone();
    let key = |holder, first| {
        part.map(|part| SuperKind::Keyed(Key([holder, first + part.start, part.end - part.start])))
    };
    if let Some((start, size)) = options.phys_range() {
        // Before a superblock is found that another process has mounted.
        phys::check(start, size).map_err(|refusal| refuse_phys(start, size, &refusal, context))?;
        let kind = key(u64::MAX, start).unwrap_or(SuperKind::NoDevice);
        return Ok((kind, found));
    }
    if options.source.is_some() {
        return Ok((SuperKind::NoDevice, found));
    }
    let source = context.source();
    let device = match context.source_kind() {
        Ok(device) => device,
        Err(error) if error == EINVAL => return refuse(fmt!("no source given"), error),
        Err(error) => return refuse(fmt!("{}: cannot be looked up: {:?}", source, error), error),
    };
    found.device = Some(device);
    // The numbers of both kinds of devices differ in one bit more.
    let kind = match device {
        SourceKind::BlockDevice(number) => {
            key(u64::from(number) << 1, 0).unwrap_or(SuperKind::BlockDevice)
        }
        SourceKind::CharDevice(number) => {
            // Without s_umount, for which sync(2) waits.
            let opened = CharDevice::open(number, || context.open_source());
            found.opened =
                Some(opened.map_err(|refusal| refuse_device(&found, &refusal, context))?);
            key(u64::from(number) << 1 | 1, 0).unwrap_or(SuperKind::NoDevice)
        }
        SourceKind::Other => {
            return refuse(
                fmt!(
                    "{}: neither a block device nor a DAX device; \
                     mount.daxfs and 'daxfs load' put an image file into memory",
                    source
                ),
                ENOTBLK,
            )
        }
    };
    Ok((kind, found))
}

/// Return the part of the source that `fsoffset=` and `fslength=` name, if they are given.
///
/// # Errors
///
/// `EINVAL` if it makes no sense, after logging the reason to `context`.
fn part(options: &Options, context: &Context) -> Result<Option<Range<u64>>> {
    let (start, length) = match (options.offset, options.length) {
        (None, None) => return Ok(None),
        (Some(start), Some(length)) => (start, length),
        _ => {
            context.error(fmt!("fsoffset= and fslength= need each other"));
            return Err(EINVAL);
        }
    };
    let end = start.checked_add(length);
    let part = end.map(|end| start..end);
    let refuse = |reason: fmt::Arguments<'_>| {
        context.error(fmt!("fsoffset={start:#x},fslength={length:#x}: {reason}"));
        Err(EINVAL)
    };
    let size = options.phys_range().map_or(u64::MAX, |(_, size)| size);
    match part {
        _ if (start | length) % PAGE_SIZE as u64 != 0 || length == 0 => refuse(fmt!(
            "both must be multiples of the page size, {PAGE_SIZE}, and the length not 0"
        )),
        Some(part) if part.end <= size => match options.source {
            None | Some(Source::Phys(_)) => Ok(Some(part)),
            _ => refuse(fmt!(
                "they need a device or phys=; a descriptor is mounted whole"
            )),
        },
        _ => refuse(fmt!(
            "the part ends after the memory, which has {size:#x} bytes"
        )),
    }
}

/// Open the memory that `options` name, or else the device that is the mount's source: `bdev` if
/// the superblock has opened it. The lease of `tenure` owns the memory, also after a failure.
///
/// # Errors
///
/// Any error, after logging the reason to `context`.
pub(crate) fn open(
    bdev: Option<&BlockDevice>,
    options: &Options,
    found: &Found,
    tenure: &Tenure,
    context: &Context,
) -> Result<Region> {
    let part = found.part.clone();
    match &options.source {
        Some(Source::Phys(start)) => {
            let size = options.size.ok_or(EINVAL)?;
            // A part has its own place in /proc/iomem.
            let (first, length) = match &part {
                Some(part) => (start + part.start, part.end - part.start),
                None => (*start, size),
            };
            phys::open(*start, size, part, tenure)
                .map_err(|refusal| refuse_phys(first, length, &refusal, context))
        }
        Some(Source::DmaBuf(buffer)) => {
            dmabuf::open(buffer, tenure).map_err(|refusal| context.refuse(fmt!("dmabuf"), &refusal))
        }
        Some(Source::Memfd(file)) => {
            memfd::open(file, tenure).map_err(|refusal| context.refuse(fmt!("memfd"), &refusal))
        }
        None => {
            let opened = match (bdev, found.device, part) {
                (Some(bdev), ..) => dax::open_block(bdev, tenure),
                (None, Some(SourceKind::BlockDevice(number)), Some(part)) => {
                    dax::open_block_part(number, part, tenure)
                }
                (None, _, part) => {
                    let opened = found.opened.as_ref().ok_or(ENOTBLK)?;
                    dax::open_char(opened, part, tenure)
                }
            };
            opened.map_err(|refusal| refuse_device(found, &refusal, context))
        }
    }
}

fn refuse_phys(start: u64, size: u64, refusal: &Refusal, context: &Context) -> Error {
    context.refuse(fmt!("phys={start:#x},size={size:#x}"), refusal)
}

fn refuse_device(found: &Found, refusal: &Refusal, context: &Context) -> Error {
    let source = context.source();
    match &found.part {
        Some(Range { start, end }) => {
            let length = end - start;
            context.refuse(
                fmt!("{source}: fsoffset={start:#x},fslength={length:#x}"),
                refusal,
            )
        }
        None => context.refuse(fmt!("{source}"), refusal),
    }
}
