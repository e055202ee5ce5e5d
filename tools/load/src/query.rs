// SPDX-License-Identifier: GPL-2.0-only

//! Calls on mounts that rustix does not have. Contains `unsafe` for an ioctl and for mount_setattr(2).

#![allow(unsafe_code)]

use rustix::io::{Errno, Result};
use rustix::ioctl::{ioctl, opcode, Getter};
use rustix::mount::{MountAttrFlags, MountPropagationFlags};
use std::ffi::{c_char, c_int, c_uint, CStr};
use std::os::fd::{AsFd, AsRawFd};

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    namespace: u64,
}

extern "C" {
    /// mount_setattr(2) of the C library.
    fn mount_setattr(
        directory: c_int,
        path: *const c_char,
        flags: c_uint,
        attributes: *mut MountAttributes,
        size: usize,
    ) -> c_int;
}

const AT_EMPTY_PATH: c_uint = 0x1000;

/// Gives `mount`, which is another one's clone, these attributes only, and takes it out of the other's peer group.
pub fn set_attributes(mount: impl AsFd, attributes: MountAttrFlags) -> Result<()> {
    let clear = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NODIRATIME
        | MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW
        | MountAttrFlags::MOUNT_ATTR__ATIME;
    let mut attributes = MountAttributes {
        set: attributes.bits().into(),
        clear: clear.bits().into(),
        propagation: MountPropagationFlags::PRIVATE.bits().into(),
        namespace: 0,
    };
    let (fd, path): (_, &CStr) = (mount.as_fd().as_raw_fd(), c"");
    let size = size_of::<MountAttributes>();
    // SAFETY: The call reads the path, which ends with a NUL, and a structure of this size.
    match unsafe { mount_setattr(fd, path.as_ptr(), AT_EMPTY_PATH, &mut attributes, size) } {
        0 => Ok(()),
        _ => {
            let error = std::io::Error::last_os_error();
            Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
        }
    }
}

/// `struct fsuuid2`: the length and the bytes.
type Uuid = [u8; 17];

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
