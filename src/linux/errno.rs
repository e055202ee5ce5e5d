// SPDX-License-Identifier: GPL-2.0-only

//! Error codes that the kernel crate does not have.

use crate::bindings;
use kernel::error::Error;

/// An error code.
#[derive(Clone, Copy)]
#[cfg_attr(not(CONFIG_DAXFS_FS_SIGNATURES), allow(dead_code))]
pub(crate) enum Errno {
    /// Bad message: a checksum does not match.
    BadMessage = bindings::EBADMSG as isize,
    /// `EFSCORRUPTED`: structure needs cleaning.
    Corrupted = bindings::EUCLEAN as isize,
    /// Memory page has a hardware error.
    HwPoison = bindings::EHWPOISON as isize,
    /// Wrong medium type. The kernel crate has it from 7.3 on.
    MediumType = bindings::EMEDIUMTYPE as isize,
    /// Key has expired.
    KeyExpired = bindings::EKEYEXPIRED as isize,
    /// Key has been revoked.
    KeyRevoked = bindings::EKEYREVOKED as isize,
    /// Key was rejected by service: a signature is wrong.
    KeyRejected = bindings::EKEYREJECTED as isize,
    /// Required key not available.
    NoKey = bindings::ENOKEY as isize,
    /// Package not installed: an algorithm is missing.
    NoPackage = bindings::ENOPKG as isize,
    /// File name too long.
    NameTooLong = bindings::ENAMETOOLONG as isize,
    /// No medium found: a pack is missing.
    NoMedium = bindings::ENOMEDIUM as isize,
    /// No data available: no such extended attribute.
    NoData = bindings::ENODATA as isize,
    /// Operation not supported.
    NotSupported = bindings::EOPNOTSUPP as isize,
    /// Quota exceeded.
    Quota = bindings::EDQUOT as isize,
    /// Stale file handle.
    Stale = bindings::ESTALE as isize,
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Error::from_errno(-(errno as kernel::ffi::c_int))
    }
}
