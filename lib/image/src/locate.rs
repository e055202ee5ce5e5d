// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Locates files of mounted images in their memory. Contains `unsafe` for an ioctl.
//!
//! The C library also compiles this file, so it has the library's license.

#![allow(unsafe_code)]

use rustix::fs::{fstat, major, minor};
use rustix::io::{Errno, Result};
use rustix::ioctl::{ioctl, opcode, Updater};
use std::fs::read_to_string;
use std::os::fd::AsFd;

/// `struct fiemap` with one extent.
#[repr(C)]
#[derive(Default)]
struct Map {
    head: Head,
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

/// `struct fiemap`.
#[repr(C)]
#[derive(Default)]
struct Head {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
}

/// `FIEMAP_EXTENT_UNKNOWN`: the extent is outside the mount's memory.
const ELSEWHERE: u32 = 2;

/// Returns the offset and length of the regular file `file` in the memory that its image was
/// mounted from. A file has one extent.
///
/// Fails with `NODEV` if the file is not on a mounted image, and with `OPNOTSUPP` if its bytes are
/// in a pack.
pub fn locate(file: impl AsFd) -> Result<(u64, u64)> {
    const REQUEST: rustix::ioctl::Opcode = opcode::read_write::<Head>(b'f', 11);
    let status = fstat(&file)?;
    let (major, minor) = (major(status.st_dev), minor(status.st_dev));
    let start = read_to_string(format!("/sys/fs/daxfs/{major}:{minor}/offset"));
    let start: Option<u64> = start.ok().and_then(|text| text.trim().parse().ok());
    let start = start.ok_or(Errno::NODEV)?;
    let mut map = Map::default();
    (map.head.length, map.head.count) = (u64::MAX, 1);
    // SAFETY: The request takes such a head and writes as many extents as it counts, one.
    unsafe { ioctl(file, Updater::<REQUEST, _>::new(&mut map)) }?;
    map.place(start, status.st_size as u64)
}

impl Map {
    /// Returns the place of a file of `size` bytes in the memory, where the image is at `start`.
    fn place(&self, start: u64, size: u64) -> Result<(u64, u64)> {
        match self.flags & ELSEWHERE {
            0 => Ok((start + self.physical, size)),
            _ => Err(Errno::OPNOTSUPP),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let (physical, shared) = (4096, 0x2000);
        let map = |flags| Map {
            physical,
            flags,
            ..Map::default()
        };
        assert_eq!(map(shared).place(8192, 5), Ok((12_288, 5)));
        assert_eq!(
            map(shared | ELSEWHERE).place(8192, 5),
            Err(Errno::OPNOTSUPP)
        );
    }
}
