// SPDX-License-Identifier: GPL-2.0-only

//! Memory that is written through a mapping: DAX devices, huge pages and dma-bufs.

#![allow(unsafe_code)]

use rustix::mm::{mmap, munmap, MapFlags, ProtFlags};
use std::io;
use std::os::fd::AsFd;

/// A shared mapping of a part of a file or device. Its memory is only accessed through the raw
/// pointer: other processes may write to it.
pub struct Mapping {
    base: *mut u8,
    length: usize,
}

impl Mapping {
    /// Map the first `size` bytes of `file` for reading and writing.
    pub fn new(file: impl AsFd, size: u64) -> io::Result<Self> {
        Self::part(file, 0, size)
    }

    /// Map `size` bytes of `file` from byte `start` on, a multiple of the page size, for reading and writing.
    pub fn part(file: impl AsFd, start: u64, size: u64) -> io::Result<Self> {
        let length = usize::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: A mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                access,
                MapFlags::SHARED,
                file,
                start,
            )
        }?;
        Ok(Mapping {
            base: base.cast(),
            length,
        })
    }

    /// Write `bytes` at `offset`.
    ///
    /// Return `FileTooLarge` if the range is not within the mapping.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let to = self.at(offset, bytes.len())?;
        // SAFETY: `at` has checked that the range is within the mapping. `bytes` is not part of the
        // mapping, to which nothing refers.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Ok(())
    }

    /// Read the bytes at `offset`.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let from = self.at(offset, into.len())?;
        // SAFETY: `at` has checked that the range is within the mapping. `into` is not part of the
        // mapping, to which nothing refers.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    /// Write the processor's cache lines of `length` bytes at `offset` back to the memory, so that
    /// power loss does not lose them. Device DAX has no fsync(2), so msync(2) fails on it.
    pub fn write_back(&self, offset: u64, length: usize) -> io::Result<()> {
        let start = self.at(offset, length)?;
        write_back(start, length);
        Ok(())
    }

    /// Return the address of `length` bytes at `offset`, which must be within the mapping.
    fn at(&self, offset: u64, length: usize) -> io::Result<*mut u8> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = start.checked_add(length);
        if end.is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        // SAFETY: `start` is within the mapping.
        Ok(unsafe { self.base.add(start) })
    }
}

/// Smallest cache line of the processors that this runs on, in bytes.
const LINE: usize = 16;

/// Write the cache lines of `length` bytes from `start` on back to the memory.
#[cfg(target_arch = "x86_64")]
fn write_back(start: *const u8, length: usize) {
    use std::arch::x86_64::{_mm_clflush, _mm_mfence};
    // SAFETY: All these processors have the instruction.
    unsafe { _mm_mfence() };
    for at in (0..length).step_by(LINE) {
        // SAFETY: The caller passes a mapped range. The instruction does not change the memory.
        unsafe { _mm_clflush(start.wrapping_add(at)) };
    }
    // SAFETY: All these processors have the instruction.
    unsafe { _mm_mfence() };
}

/// Write the cache lines of `length` bytes from `start` on back to the memory.
#[cfg(target_arch = "aarch64")]
fn write_back(start: *const u8, length: usize) {
    use std::arch::asm;
    for at in (0..length).step_by(LINE) {
        let line = start.wrapping_add(at);
        // SAFETY: The caller passes a mapped range. Linux allows processes this instruction, which
        // does not change the memory.
        unsafe { asm!("dc cvac, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // SAFETY: A barrier changes nothing.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` created the mapping, and nothing refers to it.
        let _ = unsafe { munmap(self.base.cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn writes_within_the_mapping() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let mut mapping = Mapping::new(&file, 8192).unwrap();
        mapping.write(4094, b"here").unwrap();
        let mut bytes = [0; 4];
        mapping.read(4094, &mut bytes).unwrap();
        assert_eq!(&bytes, b"here");
        mapping.write_back(4094, 4).unwrap();
        file.read_exact_at(&mut bytes, 4094).unwrap();
        assert_eq!(&bytes, b"here");
        for offset in [8189, u64::MAX] {
            let error = mapping.write(offset, b"here").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        }
    }
}
