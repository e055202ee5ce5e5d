// SPDX-License-Identifier: GPL-2.0-only

//! Choosing one of several images in memory, by the catalogue at its start.

#![deny(unsafe_code)]

use crate::image::{self, catalog, layout::CatalogEntry, Problem};
use crate::memory::{dax, probe::Probe};
use crate::support::Errno;
use crate::vfs::{Context, Key, SourceKind};
use core::ops::Range;
use kernel::{prelude::*, str::CString};
use zerocopy::FromZeros;

/// A device that may be the source of a mount.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    /// A block device, by its number.
    Block(u32),
    /// A DAX character device, by its number.
    Char(u32),
}

impl Device {
    /// Return the device that the source of a mount is, if it is one.
    pub(crate) fn of(kind: &SourceKind) -> Option<Self> {
        match *kind {
            SourceKind::BlockDevice(number) => Some(Device::Block(number)),
            SourceKind::CharDevice(number) => Some(Device::Char(number)),
            SourceKind::Other => None,
        }
    }

    /// Look at the device. `context` is a mount whose source it is.
    ///
    /// # Errors
    ///
    /// See [`dax::OpenError`].
    pub(crate) fn probe(self, context: &Context) -> Result<Probe, dax::OpenError> {
        match self {
            Device::Block(number) => Probe::block(number),
            Device::Char(number) => Probe::char(number, || context.open_source()),
        }
    }
}

/// Memory that may hold several images.
#[derive(Clone, Copy)]
pub(crate) enum Holder {
    /// A device.
    Device(Device),
    /// A range of physical addresses: the first one, and the length in bytes.
    Range(u64, u64),
}

/// An image of a catalogue, and where it is.
pub(crate) struct Chosen {
    /// The memory with the catalogue.
    pub(crate) holder: Holder,
    /// Bytes of that memory that the image has.
    pub(crate) range: Range<u64>,
    /// UUID of the image, by the catalogue.
    pub(crate) uuid: [u8; 16],
    /// Name of the image.
    pub(crate) name: CString,
}

impl Chosen {
    /// Return what identifies the superblock of the image: the memory and the place in it.
    pub(crate) fn key(&self) -> Key {
        let (kind, holder) = match self.holder {
            Holder::Device(Device::Block(number)) => (0, number.into()),
            Holder::Device(Device::Char(number)) => (1, number.into()),
            Holder::Range(start, _) => (2, start),
        };
        Key([kind, holder, self.range.start])
    }

    /// Check that the catalogue, at which `probe` looks, still has the image. Look after the mount
    /// is shown in sysfs: before the space of an image is used again, the catalogue is changed
    /// first, and sysfs is searched for mounts of the image after that.
    ///
    /// # Errors
    ///
    /// `ESTALE` if the image was replaced, and those of [`choose`].
    pub(crate) fn is_still_there(&self, probe: &Probe, context: &Context) -> Result {
        let now = choose(self.holder, probe, Some(&self.name), context)?;
        if now.is_some_and(|now| now.range == self.range && now.uuid == self.uuid) {
            return Ok(());
        }
        context.error(fmt!(
            "{}: image '{}' was replaced meanwhile; mount again",
            context.source(),
            &*self.name
        ));
        Err(Errno::Stale.into())
    }
}

/// Return the image of the catalogue in `holder`, which `probe` looks at, that is called `name`, or
/// the active one. Return `None` if there is no catalogue and no name.
///
/// # Errors
///
/// `ENOENT` if the catalogue has no such image, `EINVAL` if there is a name and no catalogue,
/// `EBADMSG`, `EUCLEAN` or `EOPNOTSUPP` for an invalid catalogue, `EIO`, `ENOMEM`.
pub(crate) fn choose(
    holder: Holder,
    probe: &Probe,
    name: Option<&CStr>,
    context: &Context,
) -> Result<Option<Chosen>> {
    let source = context.source();
    let mut records = KVec::from_elem(CatalogEntry::new_zeroed(), catalog::RECORDS, GFP_KERNEL)?;
    let catalog = catalog::Catalog::load(probe, &mut records).map_err(|error| {
        context.error(fmt!("{}: {}", source, error));
        errno(error)
    })?;
    let Some(catalog) = catalog else {
        let Some(name) = name else { return Ok(None) };
        context.error(fmt!(
            "{}: no catalogue, so there is no image '{}'; mount it without image=",
            source,
            name
        ));
        return Err(EINVAL);
    };
    if let Some(error) = catalog.other {
        pr_warn!(
            "{}: a copy of the catalogue is damaged, and the next change writes it: {}\n",
            source,
            error
        );
    }
    let Some(found) = catalog.find(name.map(CStr::to_bytes)) else {
        match name {
            Some(name) => context.error(fmt!(
                "{}: the catalogue has no image '{}'; 'daxfs catalog list' shows those it has",
                source,
                name
            )),
            None => context.error(fmt!(
                "{}: no image of the catalogue is active; \
                 name one with image=, or use 'daxfs catalog activate'",
                source
            )),
        }
        return Err(ENOENT);
    };
    Ok(Some(Chosen {
        holder,
        range: found.offset..found.offset + found.length,
        uuid: found.uuid,
        name: CString::try_from_fmt(fmt!("{}", found.name))?,
    }))
}

/// Return the error code for an invalid catalogue.
fn errno(error: image::Error) -> Error {
    match error.problem {
        Problem::Unreadable => EIO,
        Problem::Version => Errno::NotSupported.into(),
        Problem::CatalogChecksum => Errno::BadMessage.into(),
        _ => Errno::Corrupted.into(),
    }
}
