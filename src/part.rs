// SPDX-License-Identifier: GPL-2.0-only

//! The part of the memory that has the image: `fsoffset=` and `fslength=`.

use crate::linux::fs::{
    refusal,
    Refusal, //
};
use core::ops::Range;
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    seq_file::SeqFile, //
};

/// The part of the source that the image may have, while options are parsed.
#[derive(Default)]
pub(crate) struct Part {
    /// First byte of the image on the source.
    offset: Option<u64>,
    /// Bytes of the source from there on.
    length: Option<u64>,
}

impl Part {
    /// Returns the part of `length` bytes from `offset` on.
    pub(crate) fn new(offset: u64, length: u64) -> Self {
        Part {
            offset: Some(offset),
            length: Some(length),
        }
    }

    /// Stores the value of the option `key`.
    pub(crate) fn parse(&mut self, key: &[u8], value: u64) {
        match key {
            b"fsoffset" => self.offset = Some(value),
            _ => self.length = Some(value),
        }
    }

    /// Returns false if the options name another part than `part`.
    pub(crate) fn may_be(&self, part: Option<&Range<u64>>) -> bool {
        let part = part.map(|part| (part.start, part.end - part.start));
        (self.offset, self.length) == (None, None) || part == self.offset.zip(self.length)
    }

    /// Returns the part of a source with `size` bytes, if the options are given. Without a size,
    /// the source must be mounted whole.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it makes no sense.
    pub(crate) fn of(&self, size: Option<u64>) -> Result<Option<Range<u64>>, Refusal> {
        let (start, length) = match (self.offset, self.length) {
            (None, None) => return Ok(None),
            (Some(start), Some(length)) => (start, length),
            _ => {
                return Err(refusal!(EINVAL, "fsoffset= and fslength= need each other"));
            }
        };
        let refuse = |reason| {
            let refusal = Refusal::new(EINVAL, reason);
            Err(refusal.of(fmt!("fsoffset={start:#x},fslength={length:#x}")))
        };
        let most = size.unwrap_or(u64::MAX);
        match start.checked_add(length) {
            _ if (start | length) % PAGE_SIZE as u64 != 0 || length == 0 => refuse(fmt!(
                "both must be multiples of the page size, {PAGE_SIZE}, and the length not 0"
            )),
            Some(end) if end <= most => match size {
                Some(_) => Ok(Some(start..end)),
                None => refuse(fmt!(
                    "they need a device or phys=; a descriptor is mounted whole"
                )),
            },
            _ => refuse(fmt!(
                "the part ends after the memory, which has {most:#x} bytes"
            )),
        }
    }
}

/// Shows `part` as mount options.
pub(crate) fn show(seq: &SeqFile, part: &Range<u64>) {
    let Range { start, end } = part;
    kernel::seq_print!(seq, ",fsoffset={:#x},fslength={:#x}", start, end - start);
}
