// SPDX-License-Identifier: GPL-2.0-only

//! The descriptor of standard output, which may be closed or read-only.

use rustix::fs::{fcntl_getfl, OFlags};
use rustix::io::Errno;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether it was closed when the program started. std opens /dev/null in its place before `main`.
static CLOSED: AtomicBool = AtomicBool::new(false);

extern "C" fn look() {
    let closed = fcntl_getfl(rustix::stdio::stdout()).is_err();
    CLOSED.store(closed, Ordering::Relaxed);
}

// The C library calls `look` before std starts, so `look` makes one system call and avoids std.
#[allow(unsafe_code)]
#[used]
#[link_section = ".init_array"]
static BEFORE_MAIN: extern "C" fn() = look;

/// Fails with `EBADF` if standard output was closed, or is read-only.
pub fn writable() -> io::Result<()> {
    let access = fcntl_getfl(rustix::stdio::stdout())? & OFlags::RWMODE;
    if access == OFlags::RDONLY || CLOSED.load(Ordering::Relaxed) {
        Err(Errno::BADF.into())
    } else {
        Ok(())
    }
}

/// Records that the descriptor was reopened.
pub(crate) fn opened() {
    CLOSED.store(false, Ordering::Relaxed);
}

/// Standard output without a buffer. std's treats `EBADF` as success; this one fails.
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        writable()?;
        Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
