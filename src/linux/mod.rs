// SPDX-License-Identifier: GPL-2.0-only

//! Safe types for parts of the kernel that the kernel crate does not cover.

mod atomic;
pub(crate) mod block;
pub(crate) mod bus;
pub(crate) mod counters;
pub(crate) mod dax;
#[cfg(CONFIG_DAXFS_FS_DMABUF)]
pub(crate) mod dma_buf;
mod errno;
pub(crate) mod fs;
mod global;
pub(crate) mod internal;
#[cfg(CONFIG_DAXFS_FS_PHYS)]
pub(crate) mod ioport;
#[cfg(CONFIG_DAXFS_FS_SIGNATURES)]
pub(crate) mod keyring;
#[cfg(CONFIG_DAXFS_FS_MEMFD)]
pub(crate) mod memfd;
pub(crate) mod memory_failure;
pub(crate) mod mm;
mod owned;
#[cfg(CONFIG_DAXFS_FS_PHYS)]
pub(crate) mod pagemap;
#[cfg(CONFIG_DAXFS_FS_PHYS)]
pub(crate) mod pci;
pub(crate) mod prelude;
pub(crate) mod security;
pub(crate) mod sha256;
pub(crate) mod srcu;
pub(crate) mod sysfs;
pub(crate) mod workqueue;

pub(crate) use global::{
    global_mutex,
    GlobalMutex, //
};

use crate::linux::prelude::*;
use kernel::task::Task;

/// Returns `THIS_MODULE`, null if it is built into the kernel.
const fn this_module() -> *mut bindings::module {
    #[cfg(MODULE)]
    {
        extern "C" {
            // Only its address is used.
            static __this_module: u8;
        }
        (&raw const __this_module).cast_mut().cast()
    }
    #[cfg(not(MODULE))]
    ptr::null_mut()
}

/// Shows bytes as hexadecimal digits.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0.iter();
        bytes.try_for_each(|byte| f.write_fmt(fmt!("{byte:02x}")))
    }
}

/// Returns the major and the minor number of a device.
pub(crate) fn numbers(device: bindings::dev_t) -> (u32, u32) {
    let minors = (1 << bindings::MINORBITS) - 1;
    (device >> bindings::MINORBITS, device & minors)
}

/// Returns true if a signal is about to kill the current process.
pub(crate) fn fatal_signal_pending() -> bool {
    // SAFETY: The current task stays during the call.
    unsafe { bindings::fatal_signal_pending(Task::current_raw().cast()) != 0 }
}

/// Returns `EINTR` if a signal is pending.
pub(crate) fn check_signal() -> Result {
    if kernel::current!().signal_pending() {
        Err(EINTR)
    } else {
        Ok(())
    }
}

/// Returns the CRC-32C of `bytes` after bytes with the CRC-32C `crc`.
pub(crate) fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    // SAFETY: The bytes are only read.
    !unsafe { bindings::crc32c(!crc, bytes.as_ptr().cast(), bytes.len()) }
}

/// Returns the XXH32 of `bytes` with seed 0.
#[inline]
pub(crate) fn xxh32(bytes: &[u8]) -> u32 {
    // SAFETY: The bytes are only read.
    unsafe { bindings::xxh32(bytes.as_ptr().cast(), bytes.len(), 0) }
}

/// Keeps the module loaded until the next boot.
pub(crate) fn keep_loaded() {
    // SAFETY: The module is loaded as long as its code runs.
    unsafe { bindings::__module_get(this_module()) };
}

/// Returns true if a message about an image in use may be logged: ten in five seconds.
pub(crate) fn ratelimit() -> bool {
    // SAFETY: This may be called in any context.
    unsafe { bindings::ratelimit() }
}
