// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The place of files of mounted images in their memory. Contains `unsafe` for an ioctl.
//!
//! The C library compiles this file as well, which is why it has its license.

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

/// Returns the offset and the length of the bytes of the regular file `file` in the memory that its image was mounted
/// from. A file has one extent.
///
/// Fails with `NODEV` if the file is not on a mounted image.
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
    Ok((start + map.physical, status.st_size as u64))
}
