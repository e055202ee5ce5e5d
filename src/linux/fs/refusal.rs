// SPDX-License-Identifier: GPL-2.0-only

//! Refuses mounts with a reason and a remedy, and reports errors of mounted filesystems.

use super::*;

/// Why we refuse a mount or a mount option, what the user can do about it, and the error code.
pub(crate) struct Refusal {
    // Texts are `None` if memory is short.
    pub(super) subject: Option<CString>,
    pub(super) reason: Option<CString>,
    remedy: Option<&'static str>,
    pub(super) errno: Error,
}

impl Refusal {
    /// Refuses with the error code `errno` for this reason.
    pub(crate) fn new(errno: impl Into<Error>, reason: fmt::Arguments<'_>) -> Self {
        let reason = CString::try_from_fmt(reason).ok();
        Refusal {
            reason,
            ..errno.into().into()
        }
    }

    /// Returns true if it has this error code.
    pub(crate) fn is(&self, errno: Error) -> bool {
        self.errno == errno
    }

    /// Adds what the user can do about it.
    pub(crate) fn remedy(self, remedy: &'static str) -> Self {
        let remedy = Some(remedy);
        Refusal { remedy, ..self }
    }

    /// Adds what is refused, unless it was added before.
    pub(crate) fn of(self, subject: fmt::Arguments<'_>) -> Self {
        let subject = self.subject.or_else(|| CString::try_from_fmt(subject).ok());
        Refusal { subject, ..self }
    }
}

/// Creates a [`Refusal`] from an error code, a reason, which is formatted, and perhaps a remedy.
macro_rules! refusal {
    ($errno:expr => $reason:tt $(, $value:expr)*) => {
        $crate::linux::fs::Refusal::new($errno, kernel::prelude::fmt!($reason $(, $value)*))
    };
    ($errno:expr => $reason:tt $(, $value:expr)*; $remedy:expr) => {
        $crate::linux::fs::refusal!($errno => $reason $(, $value)*).remedy($remedy)
    };
}
pub(crate) use refusal;

/// Returns a [`refusal`] from a function.
macro_rules! refuse {
    ($($refusal:tt)*) => { return Err($crate::linux::fs::refusal!($($refusal)*)) };
}
pub(crate) use refuse;

impl From<Error> for Refusal {
    fn from(errno: Error) -> Self {
        Refusal {
            subject: None,
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
        if let Some(subject) = &self.subject {
            f.write_fmt(fmt!("{}: ", &**subject))?;
        }
        match &self.reason {
            Some(reason) => f.write_fmt(fmt!("{}", &**reason))?,
            None => f.write_fmt(fmt!("cannot be used: {:?}", self.errno))?,
        }
        match self.remedy {
            Some(remedy) => f.write_fmt(fmt!("; {}", remedy)),
            None => Ok(()),
        }
    }
}

impl<T: FileSystem> SuperBlock<T> {
    /// Reports an error to those who watch the filesystem (`FAN_FS_ERROR` of fanotify(7)).
    pub(crate) fn report_error(&self, errno: Error) {
        let (kind, errno, none) = (bindings::FSERR_METADATA, errno.to_errno(), ptr::null_mut());
        let sb = self.as_raw();
        // SAFETY: The superblock is valid, and errors are found where memory can be waited for.
        unsafe { bindings::fserror_report(sb, none, kind, 0, 0, errno, bindings::GFP_KERNEL) };
    }
}
