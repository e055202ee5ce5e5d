// SPDX-License-Identifier: GPL-2.0-only

//! ioctl(2) on files and directories: the label. The VFS handles the UUID itself.

use super::{
    INode,
    Operations, //
};
use crate::bindings;
use kernel::{
    error::from_result,
    ffi::{
        c_long,
        c_uint,
        c_ulong, //
    },
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// Number of bytes that `FS_IOC_GETFSLABEL` writes: the label, then zeros.
const LABEL_MAX: usize = bindings::FSLABEL_MAX as usize;

/// `unlocked_ioctl` of `struct file_operations`.
///
/// # Safety
///
/// `file` must be an open file or directory of type `T`.
pub(super) unsafe extern "C" fn ioctl<T: Operations>(
    file: *mut bindings::file,
    command: c_uint,
    argument: c_ulong,
) -> c_long {
    from_result(|| {
        if command != bindings::FS_IOC_GETFSLABEL {
            return Err(ENOTTY);
        }
        // SAFETY: The file is open.
        let sb = unsafe { INode::<T>::of_file(file) }.super_block();
        let mut answer = [0; LABEL_MAX];
        for (to, from) in answer.iter_mut().zip(T::label(sb)) {
            *to = *from;
        }
        let user = UserSlice::new(UserPtr::from_addr(argument), LABEL_MAX);
        user.writer().write_slice(&answer)?;
        Ok(0)
    })
}
