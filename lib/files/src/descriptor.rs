// SPDX-License-Identifier: GPL-2.0-only

//! The descriptor of standard output, which may be closed, or open for reading only.

use rustix::fs::{fcntl_getfl, OFlags};
use rustix::io::Errno;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// It was closed when the program began. Before `main`, std opens /dev/null in its place.
static CLOSED: AtomicBool = AtomicBool::new(false);

extern "C" fn look() {
    let closed = fcntl_getfl(rustix::stdio::stdout()).is_err();
    CLOSED.store(closed, Ordering::Relaxed);
}

// The C library calls it before std begins. It makes one system call and uses nothing of std.
#[allow(unsafe_code)]
#[used]
#[link_section = ".init_array"]
static BEFORE_MAIN: extern "C" fn() = look;

/// Fails with `EBADF` if standard output was closed, or is open for reading only.
pub fn writable() -> io::Result<()> {
    let access = fcntl_getfl(rustix::stdio::stdout())? & OFlags::RWMODE;
    if access == OFlags::RDONLY || CLOSED.load(Ordering::Relaxed) {
        Err(Errno::BADF.into())
    } else {
        Ok(())
    }
}

/// Records that the descriptor was opened again.
pub(crate) fn opened() {
    CLOSED.store(false, Ordering::Relaxed);
}

/// Standard output without a buffer. std's takes `EBADF` for success.
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
