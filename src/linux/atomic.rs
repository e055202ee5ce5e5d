// SPDX-License-Identifier: GPL-2.0-only

//! Fast loads for reads, look-ups and page faults.
//!
//! [`Atomic::load`] calls a function of C unless the kernel is built with link-time optimization,
//! which would cost a look-up 2.8 % more instructions.

use core::sync::atomic::{
    fence,
    Ordering, //
};
use kernel::sync::atomic::{
    Atomic,
    AtomicType, //
};

/// Loads a value as READ_ONCE() does.
#[inline(always)]
pub(crate) fn read_once<T: AtomicType>(atomic: &Atomic<T>) -> T {
    // SAFETY: The pointer is valid and aligned. All other accesses to the word are atomic.
    unsafe { atomic.as_ptr().read_volatile() }
}

/// Loads a value as smp_load_acquire() does.
#[inline(always)]
pub(crate) fn load_acquire<T: AtomicType>(atomic: &Atomic<T>) -> T {
    let value = read_once(atomic);
    fence(Ordering::Acquire);
    value
}
