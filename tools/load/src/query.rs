// SPDX-License-Identifier: GPL-2.0-only

//! Mount queries that rustix lacks. Contains `unsafe` for an ioctl.

#![allow(unsafe_code)]

use rustix::io::Result;
use rustix::ioctl::{ioctl, opcode, Getter};
use std::os::fd::AsFd;

/// `struct fsuuid2`: the length and the bytes.
type Uuid = [u8; 17];

/// Returns the UUID of the filesystem that contains `file`: `FS_IOC_GETFSUUID`.
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
