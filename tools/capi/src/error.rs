// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Error numbers and messages.

use daxfs_reader::{FindError, Problem};
use rustix::io::Errno;
use std::cell::RefCell;
use std::ffi::{c_char, c_int, CString};
use std::io;

/// An error number and a message.
pub struct Failure {
    errno: Errno,
    text: String,
}

/// The result of a function, before it becomes a number.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(errno: Errno, text: &str) -> Self {
        let text = text.into();
        Failure { errno, text }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let text = error.to_string();
        Failure { errno, text }
    }
}

/// Image errors have the same numbers as in the kernel module.
impl From<daxfs_reader::Error> for Failure {
    fn from(error: daxfs_reader::Error) -> Self {
        let errno = match error.problem {
            Problem::Unreadable => Errno::IO,
            Problem::TooSmall | Problem::Magic => Errno::INVAL,
            Problem::NoPack | Problem::Version | Problem::Feature | Problem::BlockSize => {
                Errno::OPNOTSUPP
            }
            _ => Errno::UCLEAN,
        };
        let text = match error.problem {
            Problem::TooSmall | Problem::Magic => "not a daxfs image".into(),
            _ => error.to_string(),
        };
        Failure { errno, text }
    }
}

impl From<FindError> for Failure {
    fn from(error: FindError) -> Self {
        let errno = match error {
            FindError::NotFound => Errno::NOENT,
            FindError::NotDirectory | FindError::TrailingSlash => Errno::NOTDIR,
            FindError::Loop => Errno::LOOP,
            FindError::Image(error) => return error.into(),
        };
        let text = error.to_string();
        Failure { errno, text }
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Returns 0, or remembers the message and returns the negative error number.
pub fn status(result: Result<()>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(Failure { errno, text }) => {
            // No message contains NUL.
            LAST.set(CString::new(text).unwrap_or_default());
            -errno.raw_os_error()
        }
    }
}

/// Returns the count, or remembers the message and returns the negative error number.
pub fn count(result: Result<usize>) -> isize {
    match result {
        Ok(count) => count as isize,
        Err(failure) => status(Err(failure)) as isize,
    }
}

/// Describes the last failure in this thread.
#[no_mangle]
pub extern "C" fn daxfs_error() -> *const c_char {
    LAST.with_borrow(|text| text.as_ptr())
}
