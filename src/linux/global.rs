// SPDX-License-Identifier: GPL-2.0-only

//! Static mutexes that initialize themselves.
//!
//! Mutexes of the kernel crate's `global_lock!` must be initialized before their first use, which
//! the compiler cannot check.

use kernel::sync::atomic::{
    Acquire,
    Atomic,
    Relaxed,
    Release, //
};
use kernel::sync::{
    GlobalGuard,
    GlobalLock,
    GlobalLockBackend, //
};
use kernel::time::{
    delay::fsleep,
    Delta, //
};

/// Not initialized yet.
const NEW: i8 = 0;
/// A thread is initializing it.
const BUSY: i8 = 1;
/// Ready to lock.
const READY: i8 = 2;

/// A static mutex, see [`global_mutex`].
///
/// # Invariants
///
/// `lock` is initialized if `state` is [`READY`], and by one thread if it is [`BUSY`].
pub(crate) struct GlobalMutex<B: GlobalLockBackend> {
    state: Atomic<i8>,
    lock: GlobalLock<B>,
}

impl<B: GlobalLockBackend> GlobalMutex<B> {
    /// Creates a mutex.
    ///
    /// # Safety
    ///
    /// The type `B` must not be used with any other lock.
    pub(crate) const unsafe fn new(value: B::Item) -> Self {
        GlobalMutex {
            state: Atomic::new(NEW),
            // SAFETY: The caller guarantees that the type is not used again. `lock` initializes it.
            lock: unsafe { GlobalLock::new(value) },
        }
    }

    pub(crate) fn lock(&'static self) -> GlobalGuard<B> {
        while self.state.load(Acquire) != READY {
            let turn = self.state.cmpxchg(NEW, BUSY, Relaxed);
            if turn.is_err() {
                fsleep(Delta::from_millis(1));
                continue;
            }
            // SAFETY: Only one thread changes the state from `NEW`, and nothing changes it back.
            unsafe { self.lock.init() };
            self.state.store(READY, Release);
        }
        self.lock.lock()
    }
}

/// Defines a static mutex.
macro_rules! global_mutex {
    ($(#[$meta:meta])* static $name:ident: $type:ty = $value:expr;) => {
        /// The type that stands for the mutex.
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum $name {}

        impl kernel::sync::GlobalLockBackend for $name {
            const NAME: &'static kernel::str::CStr = kernel::c_str!(stringify!($name));
            type Item = $type;
            type Backend = kernel::global_lock_inner!(backend Mutex);

            fn get_lock_class() -> core::pin::Pin<&'static kernel::sync::LockClassKey> {
                kernel::static_lock_class!()
            }
        }

        $(#[$meta])*
        #[allow(unsafe_code)]
        static $name: $crate::linux::GlobalMutex<$name> = {
            let value: $type = $value;
            // SAFETY: The type was made above, for this mutex.
            unsafe { $crate::linux::GlobalMutex::new(value) }
        };
    };
}
pub(crate) use global_mutex;
