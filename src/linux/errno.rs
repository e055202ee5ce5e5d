// SPDX-License-Identifier: GPL-2.0-only

//! Error codes that the kernel crate lacks.

use crate::bindings;
use kernel::error::Error;

/// An error code.
#[derive(Clone, Copy)]
#[allow(dead_code)] // Some are for parts that Kconfig can leave out.
pub(crate) enum Errno {
    /// Bad message: a checksum does not match.
    BadMessage = bindings::EBADMSG as isize,
    /// `EFSCORRUPTED`: structure needs cleaning.
    Corrupted = bindings::EUCLEAN as isize,
    HwPoison = bindings::EHWPOISON as isize,
    /// Wrong medium type. The kernel crate defines it since 7.3.
    MediumType = bindings::EMEDIUMTYPE as isize,
    KeyExpired = bindings::EKEYEXPIRED as isize,
    KeyRevoked = bindings::EKEYREVOKED as isize,
    /// Key was rejected by service: a signature is wrong.
    KeyRejected = bindings::EKEYREJECTED as isize,
    NoKey = bindings::ENOKEY as isize,
    /// Package not installed: an algorithm is missing.
    NoPackage = bindings::ENOPKG as isize,
    /// No medium found: a pack is missing.
    NoMedium = bindings::ENOMEDIUM as isize,
    /// No data available: no such extended attribute.
    NoData = bindings::ENODATA as isize,
    NotSupported = bindings::EOPNOTSUPP as isize,
    Quota = bindings::EDQUOT as isize,
    Stale = bindings::ESTALE as isize,
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Error::from_errno(-(errno as kernel::ffi::c_int))
    }
}
