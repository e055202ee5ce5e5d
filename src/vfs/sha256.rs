// SPDX-License-Identifier: GPL-2.0

//! SHA-256, as the kernel computes it.
//!
//! C header: `include/crypto/sha2.h`.

use crate::bindings;
use core::mem::MaybeUninit;

/// A digest in the making.
///
/// # Invariants
///
/// The context is initialised.
pub(crate) struct Sha256(bindings::sha256_ctx);

impl Sha256 {
    /// The digest of nothing so far.
    pub(crate) fn new() -> Self {
        let mut context = MaybeUninit::uninit();
        // SAFETY: Initialises the context, which is valid for writing.
        unsafe { bindings::sha256_init(context.as_mut_ptr()) };
        // SAFETY: Initialised just now.
        Sha256(unsafe { context.assume_init() })
    }

    /// Takes in `bytes`.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        // SAFETY: By the invariant; reads the slice.
        unsafe { bindings::daxfs_helper_sha256_update(&mut self.0, bytes.as_ptr(), bytes.len()) };
    }

    /// The digest.
    pub(crate) fn finish(mut self) -> [u8; 32] {
        let mut digest = [0; 32];
        // SAFETY: By the invariant; writes 32 bytes.
        unsafe { bindings::sha256_final(&mut self.0, digest.as_mut_ptr()) };
        digest
    }
}
