// SPDX-License-Identifier: GPL-2.0-only

//! Allocates huge pages for a memfd. Contains `unsafe` for mmap(2) and madvise(2).

#![allow(unsafe_code)]

use rustix::io::{pwrite, Errno};
use rustix::mm::{mmap, mmap_anonymous, munmap, MapFlags, ProtFlags};
use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;

/// Size of a huge page.
pub const HUGE: u64 = 2 << 20;

extern "C" {
    /// The C library's madvise(2), because rustix lacks this advice.
    fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
}

const MADV_COLLAPSE: c_int = 25;

/// Returns true if the kernel can map files with huge pages. If its base pages are larger than 4
/// KiB, its huge pages are larger than [`HUGE`], for which no image is aligned. Without transparent
/// huge pages, [`allocate`] fails.
pub fn can_map() -> bool {
    let size = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");
    size.map_or(true, |size| size.trim() == HUGE.to_string())
}

/// Allocates huge pages for the first `size` bytes of the empty memfd `fd`, whatever
/// `/sys/kernel/mm/transparent_hugepage/shmem_enabled` prescribes for memfds. `size` must be a
/// multiple of [`HUGE`].
///
/// After an error, parts of the memfd may have huge pages.
pub fn allocate(fd: BorrowedFd<'_>, size: u64) -> Result<(), Errno> {
    // The kernel collapses present pages to a huge page; one is enough.
    for offset in (0..size).step_by(HUGE as usize) {
        pwrite(fd, &[0], offset)?;
    }
    let length = usize::try_from(size).map_err(|_| Errno::FBIG)?;
    let room = length.checked_add(HUGE as usize).ok_or(Errno::FBIG)?;
    let none = std::ptr::null_mut();
    // SAFETY: A mapping at an address of the kernel's choice touches nothing that exists.
    let base = unsafe { mmap_anonymous(none, room, ProtFlags::empty(), MapFlags::PRIVATE) }?;
    let aligned = base.wrapping_byte_add(base.align_offset(HUGE as usize));
    let collapsed = collapse(aligned, length, fd);
    // SAFETY: This is the mapping from above, and nothing refers to it.
    let _ = unsafe { munmap(base, room) };
    collapsed
}

/// Maps `length` bytes of `fd` at `address`, which must be mapped and unused, and collapses them to
/// huge pages.
fn collapse(address: *mut c_void, length: usize, fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MapFlags::SHARED | MapFlags::FIXED;
    // SAFETY: This replaces a part of a mapping that nothing refers to.
    let mapped = unsafe { mmap(address, length, ProtFlags::READ, flags, fd, 0) }?;
    // SAFETY: This does not change the content of the mapping.
    match unsafe { madvise(mapped, length, MADV_COLLAPSE) } {
        0 => Ok(()),
        _ => {
            let error = std::io::Error::last_os_error();
            Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
        }
    }
}
