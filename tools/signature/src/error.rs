// SPDX-License-Identifier: GPL-2.0-only

//! Errors of signing and verifying.

use thiserror::Error;

/// Why signing or verifying failed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// Not a private key.
    #[error("no private key in PKCS#8; make one with openssl genpkey, or convert it with openssl pkcs8 -topk8 -nocrypt")]
    Key,
    /// A private key that needs a password.
    #[error("the private key is encrypted; decrypt it with openssl pkcs8")]
    Encrypted,
    /// A kind of key that the kernel or this crate does not know.
    #[error("keys of this kind cannot be used; use RSA of 2048 to 4096 bits, or ECDSA on the curve P-256 or P-384")]
    Algorithm,
    /// Not a certificate.
    #[error("no X.509 certificate")]
    Certificate,
    /// There are too many certificates.
    #[error(
        "a signature has at most 8 certificates and 16 KiB; use fewer or shorter certificates"
    )]
    TooLarge,
    /// The private key belongs to another certificate.
    #[error("the private key does not match the certificate")]
    Pair,
    /// The signature has expired, or would be when it is made.
    #[error("the signature has expired; sign the image again, with a later end")]
    Expired,
    /// The signature would count after a certificate has expired.
    #[error("the certificate expires before the signature would; choose an earlier end")]
    Outlives,
    /// A certificate has expired.
    #[error("the certificate has expired; renew it and sign again")]
    CertificateExpired,
    /// A certificate is not valid yet.
    #[error("the certificate is not valid yet; wait, or correct the clock")]
    NotYetValid,
    /// The message is malformed.
    #[error("malformed signature; sign the image again")]
    Malformed,
    /// The signature does not match the image and the certificate in it.
    #[error("wrong signature; sign the image again")]
    Wrong,
    /// No trusted certificate vouches for the signature.
    #[error("signed by somebody else than the owners of these certificates")]
    Untrusted,
}

/// The result of signing or verifying.
pub type Result<T> = std::result::Result<T, Error>;
