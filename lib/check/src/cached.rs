// SPDX-License-Identifier: GPL-2.0-only

//! A cache for an image's metadata.

use daxfs_files::memory::Storage;
use daxfs_reader::{self as image, Memory};
use std::cell::RefCell;

/// Size of a cached window in bytes: small, so that random access costs little more than without a
/// cache.
const WINDOW: u64 = 8 << 10;
const WINDOWS: usize = 32;

/// Memory with a cache, so that reading a record needs no system call. Metadata is read in small
/// pieces, in order, at a few places at a time.
pub struct Cached<'a, S> {
    memory: &'a S,
    /// End of the metadata. Reads after it are not cached.
    end: u64,
    /// Most recently used first.
    windows: RefCell<Vec<Window>>,
}

struct Window {
    offset: u64,
    bytes: Vec<u8>,
}

impl<'a, S: Storage> Cached<'a, S> {
    /// Returns a view of `memory` that caches the bytes before `end`.
    pub fn new(memory: &'a S, end: u64) -> Self {
        Cached {
            memory,
            end: end.min(memory.size()),
            windows: RefCell::new(Vec::new()),
        }
    }

    /// Loads the window at `offset` and moves it to the front of `windows`.
    fn window(&self, windows: &mut Vec<Window>, offset: u64) -> image::Result<()> {
        if let Some(index) = windows.iter().position(|window| window.offset == offset) {
            windows[..=index].rotate_right(1);
            return Ok(());
        }
        let mut bytes = match windows.len() {
            WINDOWS => windows.pop().map_or_else(Vec::new, |window| window.bytes),
            _ => Vec::new(),
        };
        bytes.resize(WINDOW.min(self.end - offset) as usize, 0);
        self.memory.read(offset, &mut bytes)?;
        windows.insert(0, Window { offset, bytes });
        Ok(())
    }
}

impl<S: Storage> Memory for Cached<'_, S> {
    fn size(&self) -> u64 {
        self.memory.size()
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> image::Result<()> {
        let window = offset - offset % WINDOW;
        let start = (offset - window) as usize;
        let length = into.len() as u64;
        let within = offset.checked_add(length);
        if within.is_none_or(|end| end > self.end || end > window + WINDOW) {
            return self.memory.read(offset, into);
        }
        let mut windows = self.windows.borrow_mut();
        // The bytes may be readable even if another byte of the window is not.
        if self.window(&mut windows, window).is_err() {
            return self.memory.read(offset, into);
        }
        into.copy_from_slice(&windows[0].bytes[start..start + into.len()]);
        Ok(())
    }

    daxfs_reader::hashes!();
}

impl<S: Storage> Storage for Cached<'_, S> {
    fn data(&self, offset: u64) -> image::Result<u64> {
        self.memory.data(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daxfs_reader::Problem;
    use daxfs_testing::memory::Hooked;
    use std::cell::Cell;

    #[test]
    fn reads_what_the_memory_has() {
        let size = (WINDOWS as u64 + 4) * WINDOW + 1000;
        let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let (bad_byte, reads) = (3 * WINDOW + 100, Cell::new(0));
        let memory = Hooked(&bytes, |offset, into: &mut [u8]| {
            reads.set(reads.get() + 1);
            if (offset..offset + into.len() as u64).contains(&bad_byte) {
                return Err(image::Error::new(Problem::Unreadable, offset, 0));
            }
            Ok(())
        });
        let end = size - 2000;
        let cached = Cached::new(&memory, end);
        let mut into = [0; 64];
        let mut offset = 0;
        while offset + 64 <= size {
            let bad = (offset..offset + 64).contains(&bad_byte);
            assert_eq!(cached.read(offset, &mut into).is_err(), bad, "{offset}");
            let wanted = &bytes[offset as usize..offset as usize + 64];
            assert!(bad || into == *wanted, "{offset}");
            offset += 37;
        }
        assert!(cached.read(size - 10, &mut into).is_err());
        assert!(cached.read(u64::MAX, &mut into).is_err());
        // Reads within a window are cached, reads after the end are not.
        cached.read(64, &mut into).unwrap();
        reads.set(0);
        cached.read(64, &mut into).unwrap();
        cached.read(1000, &mut into).unwrap();
        cached.read(WINDOW - 64, &mut into).unwrap();
        assert_eq!(reads.get(), 0);
        cached.read(end, &mut into).unwrap();
        assert_eq!(reads.get(), 1);
    }
}
