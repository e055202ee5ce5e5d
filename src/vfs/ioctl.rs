// SPDX-License-Identifier: GPL-2.0

//! ioctl(2) on files and directories. What a UUID can answer, the VFS does itself.

use super::{FileSystem, SuperBlock};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    prelude::*,
    uaccess::{UserPtr, UserSlice},
};

/// Bytes that `FS_IOC_GETFSLABEL` writes: the label, and zeros behind it.
const LABEL_MAX: usize = bindings::DAXFS_FSLABEL_MAX as usize;

/// The C operations for ioctl(2).
pub(super) struct Operations<T>(PhantomData<T>);

// The contracts of these functions are those of the C operations.
#[allow(clippy::missing_safety_doc)]
impl<T: FileSystem> Operations<T> {
    /// `unlocked_ioctl` of every file and directory.
    pub(super) unsafe extern "C" fn ioctl(
        file: *mut bindings::file,
        command: kernel::ffi::c_uint,
        argument: kernel::ffi::c_ulong,
    ) -> kernel::ffi::c_long {
        if command != bindings::DAXFS_FS_IOC_GETFSLABEL {
            return ENOTTY.to_errno() as kernel::ffi::c_long;
        }
        // SAFETY: The VFS calls this on an open file of ours.
        let sb = unsafe { SuperBlock::<T>::from_raw((*(*file).f_inode).i_sb) };
        let mut answer = [0; LABEL_MAX];
        for (to, from) in answer.iter_mut().zip(T::label(sb)) {
            *to = *from;
        }
        let user = UserSlice::new(UserPtr::from_addr(argument), LABEL_MAX);
        super::errno_or_zero(|| user.writer().write_slice(&answer)) as kernel::ffi::c_long
    }
}
