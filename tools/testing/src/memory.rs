// SPDX-License-Identifier: GPL-2.0-only

//! Memory that fails, changes, or counts its reads.

use daxfs_files::memory::Storage;
use daxfs_reader::{Memory, Result};

/// An image's bytes, and a function that is called with offset and bytes after each read.
pub struct Hooked<'a, F>(pub &'a [u8], pub F);

impl<F: Fn(u64, &mut [u8]) -> Result<()>> Memory for Hooked<'_, F> {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        self.0.read(offset, into)?;
        (self.1)(offset, into)
    }

    daxfs_reader::hashes!();
}

impl<F: Fn(u64, &mut [u8]) -> Result<()>> Storage for Hooked<'_, F> {}
