// SPDX-License-Identifier: GPL-2.0-only

//! Ask a mounted image for its names and for the place of its files. Contains `unsafe` for ioctls.

#![allow(unsafe_code)]

use rustix::io::Result;
use rustix::ioctl::{ioctl, opcode, Getter, Updater};
use std::os::fd::AsFd;

/// `struct fsuuid2`: the length and the bytes.
type Uuid = [u8; 17];

/// The argument of `FS_IOC_GETFSLABEL`, which ends with NUL.
type Label = [u8; 256];

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

/// Return the UUID of the filesystem that `file` is on: `FS_IOC_GETFSUUID`.
pub fn uuid(file: impl AsFd) -> Result<[u8; 16]> {
    // SAFETY: The request writes such a structure.
    let [_, uuid @ ..] = unsafe {
        ioctl(
            file,
            Getter::<{ opcode::read::<Uuid>(0x15, 0) }, Uuid>::new(),
        )
    }?;
    Ok(uuid)
}

/// Return the label of the filesystem that `file` is on: `FS_IOC_GETFSLABEL`.
pub fn label(file: impl AsFd) -> Result<Vec<u8>> {
    // SAFETY: The request writes such an array.
    let label = unsafe {
        ioctl(
            file,
            Getter::<{ opcode::read::<Label>(0x94, 49) }, Label>::new(),
        )
    }?;
    Ok(label.into_iter().take_while(|&byte| byte != 0).collect())
}

/// Return where the bytes of `file` start in its image, or 0 for a file without any: `FS_IOC_FIEMAP`. A file has one
/// extent.
pub fn offset(file: impl AsFd) -> Result<u64> {
    const REQUEST: rustix::ioctl::Opcode = opcode::read_write::<Head>(b'f', 11);
    let mut map = Map::default();
    (map.head.length, map.head.count) = (u64::MAX, 1);
    // SAFETY: The request takes such a head and writes as many extents as it counts, one.
    unsafe { ioctl(file, Updater::<REQUEST, _>::new(&mut map)) }?;
    Ok(map.physical)
}
