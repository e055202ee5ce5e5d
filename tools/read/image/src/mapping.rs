// SPDX-License-Identifier: GPL-2.0-only

//! A DAX character device, which can be mapped but not read.

#![allow(unsafe_code)]

use rustix::mm::{mmap, munmap, MapFlags, ProtFlags};
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A mapped device. It is read through `/proc/self/mem`, so that memory which fails is an error
/// instead of a signal, and no reference into it ever exists.
pub struct Mapping {
    base: *mut c_void,
    length: usize,
    memory: File,
}

// SAFETY: The address is nothing but a number here: bytes are read by pread(2), which any thread
// may call.
unsafe impl Send for Mapping {}
// SAFETY: pread(2) takes `&self` only, and any number of threads may call it at once.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Map `size` bytes of `device` from `offset` on for reading.
    pub fn new(device: &File, offset: u64, size: u64) -> io::Result<Self> {
        let length = usize::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let memory = File::open("/proc/self/mem")?;
        // SAFETY: A mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ,
                MapFlags::SHARED,
                device,
                offset,
            )
        }?;
        Ok(Mapping {
            base,
            length,
            memory,
        })
    }

    /// Read at `offset`; all of `into` must lie within the mapping.
    ///
    /// Return `UnexpectedEof` outside the mapping, `EIO` for memory that fails.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(into.len() as u64);
        if end.is_none_or(|end| end > self.length as u64) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.memory
            .read_exact_at(into, self.base.expose_provenance() as u64 + offset)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: Mapped by `new`, and nothing refers to it.
        let _ = unsafe { munmap(self.base, self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn reads_what_is_mapped() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 8192]).unwrap();
        file.write_all_at(b"here", 4094).unwrap();
        let mapping = Mapping::new(&file, 0, 8192).unwrap();
        let mut bytes = [0; 4];
        mapping.read(4094, &mut bytes).unwrap();
        assert_eq!(&bytes, b"here");
        assert!(mapping.read(8190, &mut bytes).is_err());
        assert!(mapping.read(u64::MAX, &mut bytes).is_err());
        // Memory after the end of the file fails like failed memory: with an error, not a signal.
        file.set_len(0).unwrap();
        assert!(mapping.read(0, &mut bytes).is_err());
    }
}
