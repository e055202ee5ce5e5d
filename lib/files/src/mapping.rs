// SPDX-License-Identifier: GPL-2.0-only

//! Memory that is read and written through a mapping: DAX devices, huge pages and dma-bufs.

#![allow(unsafe_code)]

use rustix::mm::{mmap, munmap, MapFlags, ProtFlags};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// A shared mapping of part of a file or device. No reference points into it, because other
/// processes may write to it. Reads go through `/proc/self/mem`, so that failing memory causes an
/// error instead of a signal.
pub struct Mapping {
    base: *mut u8,
    length: usize,
    memory: File,
    writable: bool,
    /// Offset and length of each write since the last sync.
    written: Vec<(u64, usize)>,
}

// SAFETY: The mapping belongs to the process, and any thread may access it and unmap it.
unsafe impl Send for Mapping {}
// SAFETY: With `&self`, bytes are only read by pread(2), which any number of threads may call, and
// cache lines are written back.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `size` bytes of `file` for reading and writing.
    pub fn new(file: impl AsFd, size: u64) -> io::Result<Self> {
        Self::part(file, 0, size)
    }

    /// Maps `size` bytes of `file` at `start`, a multiple of the page size, to read and write.
    pub fn part(file: impl AsFd, start: u64, size: u64) -> io::Result<Self> {
        Self::map(file, start, size, true)
    }

    /// Maps `size` bytes of `file` at `start`, a multiple of the page size, to read.
    pub fn read_only(file: impl AsFd, start: u64, size: u64) -> io::Result<Self> {
        Self::map(file, start, size, false)
    }

    fn map(file: impl AsFd, start: u64, size: u64, writable: bool) -> io::Result<Self> {
        let length = usize::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let memory = File::open("/proc/self/mem")?;
        let access = if writable {
            ProtFlags::READ | ProtFlags::WRITE
        } else {
            ProtFlags::READ
        };
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
            memory,
            writable,
            written: Vec::new(),
        })
    }

    /// Writes `bytes` at `offset`.
    ///
    /// Returns `FileTooLarge` for a range outside it, `PermissionDenied` if it is read-only.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let to = self.at(offset, bytes.len())?;
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        // SAFETY: `at` has checked that the range is within the mapping. `bytes` is not part of the
        // mapping, to which nothing refers.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        self.written.push((offset, bytes.len()));
        Ok(())
    }

    /// Reads the bytes at `offset`.
    ///
    /// Returns `FileTooLarge` for a range outside the mapping, `EIO` for failing memory.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let from = self.at(offset, into.len())?;
        self.memory
            .read_exact_at(into, from.expose_provenance() as u64)
    }

    /// Writes the cache lines of all written bytes back to the memory, so that they survive power
    /// loss. msync(2) fails on device DAX, which has no fsync(2).
    pub fn sync(&mut self) -> io::Result<()> {
        for (offset, length) in std::mem::take(&mut self.written) {
            write_back(self.at(offset, length)?, length);
        }
        Ok(())
    }

    /// Returns the address of `length` bytes at `offset`, which must be within the mapping.
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

/// Smallest cache line of the supported processors, in bytes.
const LINE: usize = 16;

/// Writes the cache lines of `length` bytes at `start` back to the memory.
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

/// Writes the cache lines of `length` bytes at `start` back to the memory.
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

    #[test]
    fn writes_within_the_mapping() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let mut mapping = Mapping::new(&file, 8192).unwrap();
        mapping.write(4094, b"here").unwrap();
        let mut bytes = [0; 4];
        mapping.read(4094, &mut bytes).unwrap();
        assert_eq!(&bytes, b"here");
        mapping.sync().unwrap();
        file.read_exact_at(&mut bytes, 4094).unwrap();
        assert_eq!(&bytes, b"here");
        for offset in [8189, u64::MAX] {
            let error = mapping.write(offset, b"here").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
            assert!(mapping.read(offset, &mut bytes).is_err());
        }
        // Memory after the end of the file fails like failed memory: with an error, not a signal.
        file.set_len(0).unwrap();
        assert!(mapping.read(0, &mut bytes).is_err());
        let mut mapping = Mapping::read_only(&file, 0, 8192).unwrap();
        assert!(mapping.read(0, &mut bytes).is_err());
        let error = mapping.write(0, b"here").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
