// SPDX-License-Identifier: GPL-2.0-only

//! Opening the memory that a mount names, and the error messages for it.

#![deny(unsafe_code)]

use crate::catalog::{self, Chosen, Device, Holder};
use crate::memory::{dax, dmabuf, memfd, phys, probe::Probe, Region, Tenure};
use crate::options::{Options, Source};
use crate::support::Errno;
use crate::vfs::{BlockDevice, Context, SourceKind, SuperKind};
use kernel::{fmt, prelude::*};

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
    if let Some((start, size)) = options.phys_range() {
        let probe = look_at_range(start, size, context)?;
        let kind = choose(options, Holder::Range(start, size), &probe, context)?;
        return Ok(kind.unwrap_or(SuperKind::NoDevice));
    }
    if options.source.is_some() {
        if options.image.is_some() {
            return refuse(fmt!("image= requires a device or phys="), EINVAL);
        }
        return Ok(SuperKind::NoDevice);
    }
    let source = context.source();
    let kind = context.source_kind();
    options.device = kind.as_ref().ok().and_then(Device::of);
    if let Some(Device::Char(number)) = options.device {
        // Without s_umount, for which sync(2) waits.
        let opened = dax::CharDevice::open(number, || context.open_source());
        options.opened = Some(opened.map_err(|error| refuse_dax(true, error, context))?);
    }
    if let Some(device) = options.device {
        match device.probe(context) {
            Ok(probe) => {
                let holder = Holder::Device(device);
                if let Some(kind) = choose(options, holder, &probe, context)? {
                    return Ok(kind);
                }
            }
            // Without DAX there is no catalogue, and mounting it finds the same error. After any
            // other one it is not known whether there is one.
            Err(dax::OpenError::NoDax) if options.image.is_none() => {}
            Err(error) => {
                let is_char = matches!(device, Device::Char(_));
                return Err(refuse_dax(is_char, error, context));
            }
        }
    }
    match kind {
        Ok(SourceKind::BlockDevice(_)) => Ok(SuperKind::BlockDevice),
        Ok(SourceKind::CharDevice(_)) => Ok(SuperKind::NoDevice),
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

/// Look at the start of a physical range.
///
/// # Errors
///
/// Any error, after logging the reason to `context`.
fn look_at_range(start: u64, size: u64, context: &Context) -> Result<Probe> {
    Probe::range(start, size).map_err(|error| refuse_phys(start, size, error, context))
}

/// Check that the catalogue still has the image that was chosen, see [`Chosen::is_still_there`].
///
/// # Errors
///
/// `EIO` if the device is gone, and those of [`Chosen::is_still_there`].
pub(crate) fn check_chosen(chosen: &Chosen, context: &Context) -> Result {
    let probe = match chosen.holder {
        Holder::Device(device) => device.probe(context).map_err(|_| EIO)?,
        Holder::Range(start, size) => look_at_range(start, size, context)?,
    };
    chosen.is_still_there(&probe, context)
}

/// Choose the image that `options` name, or the active one, if `holder` has several. Return the
/// kind of superblock that it needs.
///
/// # Errors
///
/// Those of [`catalog::choose`].
fn choose(
    options: &mut Options,
    holder: Holder,
    probe: &Probe,
    context: &Context,
) -> Result<Option<SuperKind>> {
    options.chosen = catalog::choose(holder, probe, options.image.as_deref(), context)?;
    let key = options.chosen.as_ref().map(Chosen::key);
    Ok(key.map(SuperKind::Keyed))
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
    let part = options.chosen.as_ref().map(|chosen| chosen.range.clone());
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
                (None, Some(Device::Block(number)), Some(part)) => {
                    dax::open_block_part(number, part, tenure)
                }
                (None, _, part) => {
                    let opened = options.opened.as_ref().ok_or(ENOTBLK)?;
                    dax::open_char(opened, part, tenure)
                }
            };
            let is_char = matches!(options.device, Some(Device::Char(_)));
            opened.map_err(|error| refuse_dax(is_char, error, context))
        }
    }
}

fn refuse_dax(is_char: bool, error: dax::OpenError, context: &Context) -> Error {
    let source = context.source();
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
