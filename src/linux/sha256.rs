// SPDX-License-Identifier: GPL-2.0-only

//! SHA-256 (`include/crypto/sha2.h`).

use crate::bindings;

/// The state of a SHA-256 computation.
///
/// # Invariants
///
/// The context is initialized.
pub(crate) struct Sha256(bindings::sha256_ctx);

impl Sha256 {
    pub(crate) fn new() -> Self {
        let mut context = pin_init::zeroed();
        // INVARIANT: This initializes the context.
        // SAFETY: The context is valid for writing.
        unsafe { bindings::sha256_init(&mut context) };
        Sha256(context)
    }

    /// Adds bytes to the message.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        // SAFETY: The context is initialized by the type invariant, and the bytes are only read.
        unsafe { bindings::sha256_update(&mut self.0, bytes.as_ptr(), bytes.len()) };
    }

    /// Finishes the computation and returns the digest.
    pub(crate) fn finish(mut self) -> [u8; 32] {
        let mut digest = [0; 32];
        // SAFETY: The context is initialized by the type invariant. A digest has 32 bytes.
        unsafe { bindings::sha256_final(&mut self.0, digest.as_mut_ptr()) };
        digest
    }
}
