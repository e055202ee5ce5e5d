// SPDX-License-Identifier: GPL-2.0-only

//! Keyrings with certificates, and signatures by their keys
//! (`include/linux/key.h`, `include/linux/verification.h`).

use crate::linux::prelude::*;

owned! {
    /// This module's keyring. Only root of the initial user namespace can add certificates or
    /// restrict the keyring (`keyctl(2)`).
    pub(crate) struct Keyring(key, key_put);
}

impl Keyring {
    /// Creates an empty keyring.
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        // SAFETY: The name is NUL-terminated.
        let key = from_err_ptr(unsafe { bindings::keyring_alloc(name.as_char_ptr()) })?;
        // INVARIANT: keyring_alloc() returns a reference.
        Ok(Keyring(NonNull::new(key).ok_or(ENOMEM)?))
    }

    /// Verifies that `cms`, a CMS message without content, is a signature of `message` by a key
    /// that a certificate in this keyring vouches for, or one in the kernel's builtin and secondary
    /// trusted keyrings. The kernel does not compare the times of certificates with its clock.
    ///
    /// Errors: `ENOKEY` if no keyring vouches for the key, `EKEYREJECTED` if the signature is wrong
    /// or `.blacklist` has the key, `ENOPKG` if the kernel lacks an algorithm, `EBADMSG` if it
    /// cannot parse the message, `EKEYEXPIRED` or `EKEYREVOKED` if the key in the keyring is,
    /// `ENOMEM`. If no keyring vouches for the key, the error of this keyring comes before the
    /// others' errors, except `ENOKEY`.
    pub(crate) fn verify(&self, message: &[u8], cms: &[u8]) -> Result {
        let first = match verify(message, cms, self.0.as_ptr()) {
            Err(error) if error != ENOMEM => error,
            result => return result,
        };
        // A null pointer stands for the trusted keyrings.
        match verify(message, cms, ptr::null_mut()) {
            Err(_) if first != Errno::NoKey.into() => Err(first),
            result => result,
        }
    }
}

/// Verifies a signature with the keys in `keyring`, which is valid, or null for the trusted
/// keyrings.
fn verify(message: &[u8], cms: &[u8], keyring: *mut bindings::key) -> Result {
    let (data, length) = (message.as_ptr().cast(), message.len());
    // SAFETY: The kernel only reads the message and `cms`, and does not keep them. The keyring is
    // valid or null.
    let result = to_result(unsafe {
        bindings::verify_pkcs7(data, length, cms.as_ptr().cast(), cms.len(), keyring)
    });
    result.map_err(|error| {
        // The kernel's parsers have several errors for a malformed message.
        if error == EINVAL || error == EMSGSIZE {
            return Errno::BadMessage.into();
        }
        // The kernel lacks the signature's algorithm.
        if error == ENOENT {
            return Errno::NoPackage.into();
        }
        error
    })
}

/// Returns the time of the system's clock, in seconds since 1970.
pub(crate) fn now() -> i64 {
    // SAFETY: This may be called in any context.
    unsafe { bindings::ktime_get_real_seconds() }
}
