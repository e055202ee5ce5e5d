// SPDX-License-Identifier: GPL-2.0-only

//! Locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lock a mutex whose content is valid at any time.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
