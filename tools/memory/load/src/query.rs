// SPDX-License-Identifier: GPL-2.0-only

//! Ask a mounted image for its names. Contains `unsafe` for ioctls.

#![allow(unsafe_code)]

use rustix::io::Result;
use rustix::ioctl::{ioctl, opcode, Getter};
use std::os::fd::AsFd;

/// `struct fsuuid2`: the length and the bytes.
type Uuid = [u8; 17];

/// The argument of `FS_IOC_GETFSLABEL`, which ends with NUL.
type Label = [u8; 256];

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
