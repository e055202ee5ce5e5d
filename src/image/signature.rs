// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Finds the signature of an image, and makes the line of text that it signs.
//!
//! A signature is a CMS message (RFC 5652, the successor of PKCS#7), which Documentation/format.rst
//! describes. Nothing here looks into it: the kernel and the tools verify it, each with its own
//! cryptography.

use super::error::{
    Error,
    Problem,
    Result, //
};
use super::layout;
use super::memory::{
    load,
    Memory, //
};
use super::superblock::{
    Superblock,
    Table, //
};
use core::fmt;
use core::mem::offset_of;
use zerocopy::IntoBytes;

/// The line of text that is signed. A reader makes it of numbers and never parses one, so a line in
/// any other form is not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// SHA-256 of the image.
    pub digest: [u8; 32],
    /// Last second in which the signature counts, since 1970.
    pub expires: u64,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The start keeps signatures for other purposes from being valid here.
        f.write_str("daxfs sha256 ")?;
        for byte in self.digest {
            write!(f, "{byte:02x}")?;
        }
        writeln!(f, " expires {}", self.expires)
    }
}

/// A signature that follows an image.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// The range of the CMS message.
    pub table: Table,
    header: layout::Signature,
}

impl Section {
    /// Finds the signature of the image with this `superblock`, or returns `None`. Ignores a
    /// signature that an image with another SHA-256 has left in the memory.
    ///
    /// # Errors
    ///
    /// [`Problem::Signature`] if it is malformed, [`Problem::Unreadable`].
    pub fn find<M: Memory>(memory: &M, superblock: &Superblock) -> Result<Option<Self>> {
        let offset = superblock.signature_offset();
        let start = offset.saturating_add(size_of::<layout::Signature>() as u64);
        if start > memory.size() {
            return Ok(None);
        }
        let header: layout::Signature = load(memory, offset)?;
        if header.magic != layout::SIGNATURE_MAGIC || header.sha256 != superblock.sha256 {
            return Ok(None);
        }
        let length = header.length.get();
        let room = memory.size() - start;
        if length == 0 || length > layout::SIGNATURE_MAX || u64::from(length) > room {
            let field = offset + offset_of!(layout::Signature, length) as u64;
            return Err(Error::new(Problem::Signature, field, length.into()));
        }
        let table = Table {
            offset: start,
            length: length.into(),
        };
        Ok(Some(Section { table, header }))
    }

    /// Returns the line that the message must sign. [`Section::find`] has compared its SHA-256 with
    /// the superblock.
    pub fn line(&self) -> Line {
        Line {
            digest: self.header.sha256,
            expires: self.header.expires.get(),
        }
    }

    /// Loads the message into `cms`, which has its length, and checks its checksum.
    ///
    /// # Errors
    ///
    /// [`Problem::Signature`] if the checksum does not match, [`Problem::Unreadable`].
    pub fn load<M: Memory>(&self, memory: &M, cms: &mut [u8]) -> Result<()> {
        memory.read(self.table.offset, cms)?;
        if crc::<M>(&self.header, cms) == self.header.crc.get() {
            Ok(())
        } else {
            Err(self.error(Problem::Signature, self.header.crc.get().into()))
        }
    }

    /// Returns an error for this signature.
    pub const fn error(&self, problem: Problem, value: u64) -> Error {
        Error::new(problem, self.table.offset, value)
    }
}

/// Returns the checksum of a header and a message.
pub fn crc<M: Memory>(header: &layout::Signature, cms: &[u8]) -> u32 {
    let end = offset_of!(layout::Signature, crc);
    let start = header.as_bytes().get(..end).unwrap_or_default();
    M::crc32c(M::crc32c(0, start), cms)
}
