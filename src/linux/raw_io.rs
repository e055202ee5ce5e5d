// SPDX-License-Identifier: GPL-2.0-only

//! The right to use physical addresses.

use super::security::capable;
use crate::bindings;
use core::ptr;
use kernel::seq_file::SeqFile;

/// Returns true if the calling process has `CAP_SYS_RAWIO`.
pub(crate) fn has() -> bool {
    capable(bindings::CAP_SYS_RAWIO)
}

/// Returns true if the process that opened the file of `seq` has `CAP_SYS_RAWIO`. Another one may
/// read it, with more capabilities or less. statmount(2) has no file, and asks for itself.
pub(crate) fn opener_has(seq: &SeqFile) -> bool {
    let seq = ptr::from_ref(seq).cast::<bindings::seq_file>();
    // SAFETY: `SeqFile` is transparent over the C struct. Its file does not change.
    let file = unsafe { (*seq).file };
    if file.is_null() {
        return has();
    }
    let everywhere = &raw mut bindings::init_user_ns;
    // SAFETY: The file of a seq_file that is read is open. The namespace is static.
    unsafe { bindings::file_ns_capable(file, everywhere, bindings::CAP_SYS_RAWIO) }
}

/// Returns true if the kernel is locked down against access to physical memory.
pub(crate) fn is_locked_down() -> bool {
    // SAFETY: Mount options are parsed in the context of a process, which the hook looks at.
    unsafe { bindings::security_locked_down(bindings::LOCKDOWN_DEV_MEM) != 0 }
}
