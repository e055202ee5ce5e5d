// SPDX-License-Identifier: GPL-2.0-only

//! Why a mount is refused.

use kernel::{fmt, prelude::*, str::CString};

/// Why a mount is refused: the reason, what the user can do about it, and the error code.
pub(crate) struct Refusal {
    /// `None` if only the error code is known, or if there is no memory for the text.
    reason: Option<CString>,
    remedy: Option<&'static str>,
    errno: Error,
}

impl Refusal {
    /// Refuse a mount with the error code `errno` for this reason.
    pub(crate) fn new(errno: impl Into<Error>, reason: fmt::Arguments<'_>) -> Self {
        Refusal {
            reason: CString::try_from_fmt(reason).ok(),
            remedy: None,
            errno: errno.into(),
        }
    }

    /// Tell the user what to do.
    pub(crate) fn remedy(self, remedy: &'static str) -> Self {
        let remedy = Some(remedy);
        Refusal { remedy, ..self }
    }

    /// Return the error code.
    pub(crate) fn errno(&self) -> Error {
        self.errno
    }
}

impl From<Error> for Refusal {
    fn from(errno: Error) -> Self {
        Refusal {
            reason: None,
            remedy: None,
            errno,
        }
    }
}

impl From<kernel::alloc::AllocError> for Refusal {
    fn from(_: kernel::alloc::AllocError) -> Self {
        ENOMEM.into()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => f.write_fmt(fmt!("{}", &**reason))?,
            None => write!(f, "cannot be used: {:?}", self.errno)?,
        }
        match self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}
