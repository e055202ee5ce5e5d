// SPDX-License-Identifier: GPL-2.0-only

//! Opening the memory that a mount names, and the error messages for it.

#![deny(unsafe_code)]

use crate::linux::fs::{BlockDevice, Context, Key, SourceKind, SuperKind};
use crate::linux::Errno;
use crate::memory::{dax, dmabuf, memfd, phys, Region, Tenure};
use crate::options::{Options, Source};
use core::ops::Range;
use kernel::{fmt, page::PAGE_SIZE, prelude::*};

/// Return the kind of superblock that a mount needs.
///
/// # Errors
///
/// `EINVAL` if options contradict each other or there is no source; `ENOTBLK` if the source is not
/// a device; those of stat(2).
pub(crate) fn super_kind(options: &mut Options, context: &Context) -> Result<SuperKind> {
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
    options.part = part(options, context)?;
    let key = |holder, first| {
        let part = options.part.as_ref();
        part.map(|part| SuperKind::Keyed(Key([holder, first + part.start, part.end - part.start])))
    };
    if let Some((start, size)) = options.phys_range() {
        // Before a superblock is found that another process has mounted.
        phys::check(start, size).map_err(|error| refuse_phys(start, size, error, context))?;
        return Ok(key(u64::MAX, start).unwrap_or(SuperKind::NoDevice));
    }
    if options.source.is_some() {
        return Ok(SuperKind::NoDevice);
    }
    let source = context.source();
    let kind = context.source_kind();
    options.device = kind.as_ref().ok().copied();
    if let Some(SourceKind::CharDevice(number)) = options.device {
        // Without s_umount, for which sync(2) waits.
        let opened = dax::CharDevice::open(number, || context.open_source());
        options.opened = Some(opened.map_err(|error| refuse_dax(options, error, context))?);
    }
    match kind {
        // The numbers of both kinds of devices differ in one bit more.
        Ok(SourceKind::BlockDevice(number)) => {
            Ok(key(u64::from(number) << 1, 0).unwrap_or(SuperKind::BlockDevice))
        }
        Ok(SourceKind::CharDevice(number)) => {
            Ok(key(u64::from(number) << 1 | 1, 0).unwrap_or(SuperKind::NoDevice))
        }
        Ok(SourceKind::Other) => refuse(
            fmt!(
                "{}: neither a block device nor a DAX device; \
                 mount.daxfs and 'daxfs load' put an image file into memory",
                source
            ),
            ENOTBLK,
        ),
        Err(error) if error == EINVAL => refuse(fmt!("no source given"), error),
        Err(error) => refuse(fmt!("{}: cannot be looked up: {:?}", source, error), error),
    }
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
    options: &mut Options,
    tenure: &Tenure,
    context: &Context,
) -> Result<Region> {
    let part = options.part.clone();
    match options.source.take() {
        Some(Source::Phys(start)) => {
            let size = options.size.ok_or(EINVAL)?;
            // An error is that of the part, which has its own place in /proc/iomem.
            let (first, length) = match &part {
                Some(part) => (start + part.start, part.end - part.start),
                None => (start, size),
            };
            phys::open(start, size, part, tenure)
                .map_err(|error| refuse_phys(first, length, error, context))
        }
        Some(Source::DmaBuf(buffer)) => {
            dmabuf::open(buffer, tenure).map_err(|error| refuse_dmabuf(error, context))
        }
        Some(Source::Memfd(file)) => {
            memfd::open(file, tenure).map_err(|error| refuse_memfd(error, context))
        }
        None => {
            let opened = match (bdev, options.device, part) {
                (Some(bdev), ..) => dax::open_block(bdev, tenure),
                (None, Some(SourceKind::BlockDevice(number)), Some(part)) => {
                    dax::open_block_part(number, part, tenure)
                }
                (None, _, part) => {
                    let opened = options.opened.as_ref().ok_or(ENOTBLK)?;
                    dax::open_char(opened, part, tenure)
                }
            };
            opened.map_err(|error| refuse_dax(options, error, context))
        }
    }
}

fn refuse_dax(options: &Options, error: dax::OpenError, context: &Context) -> Error {
    let source = context.source();
    let is_char = matches!(options.device, Some(SourceKind::CharDevice(_)));
    let (start, length) = options.offset.zip(options.length).unwrap_or_default();
    match error {
        dax::OpenError::NoDax if is_char => {
            context.error(fmt!(
                "{}: no DAX device in fsdev mode; \
                 bind it to the driver fsdev_dax (daxctl list shows its mode)",
                source
            ));
            Errno::NotSupported.into()
        }
        dax::OpenError::NoDax => {
            context.error(fmt!(
                "{}: device does not support DAX; persistent memory must be in fsdax mode",
                source
            ));
            Errno::NotSupported.into()
        }
        dax::OpenError::Empty => {
            context.error(fmt!("{}: device is empty", source));
            EINVAL
        }
        dax::OpenError::Beyond(size) => {
            context.error(fmt!(
                "{}: fsoffset={:#x},fslength={:#x}: the part ends after the device, \
                 which has {:#x} bytes",
                source,
                start,
                length,
                size
            ));
            EINVAL
        }
        dax::OpenError::Busy if options.part.is_some() => {
            context.error(fmt!(
                "{}: fsoffset={:#x},fslength={:#x}: another mount has some of these bytes, or \
                 memory of the previous mount is still in use; unmount it",
                source,
                start,
                length
            ));
            EBUSY
        }
        dax::OpenError::Busy => {
            context.error(fmt!(
                "{}: another mount has the device, \
                 or memory of the previous mount is still in use",
                source
            ));
            EBUSY
        }
        dax::OpenError::Stacked => {
            context.error(fmt!(
                "{}: stacked DAX devices are not supported; mount the pmem device below it",
                source
            ));
            Errno::NotSupported.into()
        }
        dax::OpenError::NotContiguous(at) => {
            context.error(fmt!(
                "{}: device is not mapped in one piece (break at byte {:#x}); use a linear one",
                source,
                at
            ));
            EINVAL
        }
        dax::OpenError::Refused(at, error) if error == Errno::HwPoison.into() => {
            context.error(fmt!(
                "{}: byte {:#x} cannot be read: the memory has failed; \
                 write the block again to repair it",
                source,
                at
            ));
            EIO
        }
        dax::OpenError::Refused(at, error) => {
            context.error(fmt!(
                "{}: device refuses access to byte {:#x}: {:?}",
                source,
                at,
                error
            ));
            error
        }
        dax::OpenError::Other(error) => {
            context.error(fmt!("{}: {:?}", source, error));
            error
        }
    }
}

fn refuse_phys(start: u64, size: u64, error: phys::OpenError, context: &Context) -> Error {
    let (reason, errno) = match error {
        phys::OpenError::NotPermitted => ("CAP_SYS_RAWIO is needed", EPERM),
        phys::OpenError::LockedDown => ("the kernel is locked down", EPERM),
        phys::OpenError::Unaligned => (
            "address and size must be multiples of the page size, and not 0",
            EINVAL,
        ),
        phys::OpenError::Overflow => ("the range ends after the last address", EINVAL),
        phys::OpenError::SystemRam => (
            "the range is System RAM; reserve it at boot, with memmap=SIZE$ADDRESS",
            EBUSY,
        ),
        phys::OpenError::Registers => (
            "the range is not memory: neither reserved at boot nor a prefetchable region of a PCI \
             device with memory, or not cached; see /proc/iomem",
            EINVAL,
        ),
        phys::OpenError::Busy => (
            "the range belongs to a driver, or memory of the previous mount is still in use; \
             see /proc/iomem",
            EBUSY,
        ),
        phys::OpenError::Other(error) => ("the range cannot be mapped", error),
    };
    context.error(fmt!(
        "phys={:#x},size={:#x}: {}: {:?}",
        start,
        size,
        reason,
        errno
    ));
    errno
}

fn refuse_dmabuf(error: dmabuf::OpenError, context: &Context) -> Error {
    use dmabuf::Step;
    match error {
        dmabuf::OpenError::Exporter(step, error) => {
            let (what, remedy) = match step {
                Step::Attach => (
                    "attaching to the buffer",
                    "allocate it so that it can be shared with other devices",
                ),
                Step::Pin => (
                    "pinning the buffer",
                    "free some memory of the device, or allocate it in system memory",
                ),
                Step::Wait => ("waiting for the device", "mount again"),
                Step::Map => (
                    "mapping the buffer into the kernel",
                    "use a udmabuf, a heap, or a driver that supports it",
                ),
                Step::Access => (
                    "beginning CPU access",
                    "allocate the buffer where the processor can read it",
                ),
            };
            if error == EINTR {
                context.error(fmt!("dmabuf: {} was interrupted", what));
            } else {
                context.error(fmt!("dmabuf: {} failed: {:?}; {}", what, error, remedy));
            }
            error
        }
        dmabuf::OpenError::MixedCaching => {
            context.error(fmt!(
                "dmabuf: the exporter caches its pages in different ways; use one buffer for each"
            ));
            Errno::NotSupported.into()
        }
        dmabuf::OpenError::Other(error) => {
            context.error(fmt!("dmabuf: cannot be used: {:?}", error));
            error
        }
    }
}

fn refuse_memfd(error: memfd::OpenError, context: &Context) -> Error {
    match error {
        memfd::OpenError::NotSealed => {
            context.error(fmt!(
                "memfd: must be sealed against writing, shrinking and growing"
            ));
            EPERM
        }
        memfd::OpenError::Other(error) => {
            context.error(fmt!("memfd: cannot be mapped: {:?}", error));
            error
        }
    }
}
