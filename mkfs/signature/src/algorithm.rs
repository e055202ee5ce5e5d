// SPDX-License-Identifier: GPL-2.0-only

//! Kinds of keys and signatures, and their OBJECT IDENTIFIERs.

use crate::{Error, Result};
use daxfs_reader::der::{Reader, OBJECT};
use daxfs_reader::signature::{ECDSA_SHA256, ECDSA_SHA384, RSA, SHA256, SHA384};
use ring::signature::{self, EcdsaSigningAlgorithm, UnparsedPublicKey, VerificationAlgorithm};

/// sha256WithRSAEncryption to sha512WithRSAEncryption, 1.2.840.113549.1.1.11 to 13.
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];
/// id-ecPublicKey, 1.2.840.10045.2.1.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// prime256v1, 1.2.840.10045.3.1.7.
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// secp384r1, 1.3.132.0.34.
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

/// A kind of signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA, PKCS#1 version 1.5, with SHA-256.
    Rsa,
    /// The same with SHA-384; only of certificates.
    RsaSha384,
    /// The same with SHA-512; only of certificates.
    RsaSha512,
    /// ECDSA on the curve P-256 with SHA-256.
    P256,
    /// ECDSA on the curve P-384 with SHA-384.
    P384,
    /// The same with SHA-256; only of certificates.
    P384Sha256,
}

impl Algorithm {
    /// Return the kind of signature of an image that a key makes, from the content of its
    /// AlgorithmIdentifier.
    pub fn of_key(algorithm: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(algorithm);
        match reader.next(OBJECT)?.content {
            RSA => Some(Algorithm::Rsa),
            EC => match reader.next(OBJECT)?.content {
                P256 => Some(Algorithm::P256),
                P384 => Some(Algorithm::P384),
                _ => None,
            },
            _ => None,
        }
    }

    /// Return the kind of a certificate's signature, from the algorithm of its issuer's key and its
    /// own.
    pub fn of_signature(key: &[u8], signature: &[u8]) -> Option<Self> {
        match (Self::of_key(key)?, signature) {
            (Algorithm::Rsa, RSA_SHA256) => Some(Algorithm::Rsa),
            (Algorithm::Rsa, RSA_SHA384) => Some(Algorithm::RsaSha384),
            (Algorithm::Rsa, RSA_SHA512) => Some(Algorithm::RsaSha512),
            (Algorithm::P256, ECDSA_SHA256) => Some(Algorithm::P256),
            (Algorithm::P384, ECDSA_SHA384) => Some(Algorithm::P384),
            (Algorithm::P384, ECDSA_SHA256) => Some(Algorithm::P384Sha256),
            _ => None,
        }
    }

    /// Return the OBJECT IDENTIFIER of the signature in a CMS message.
    pub const fn cms(self) -> &'static [u8] {
        match self {
            // RFC 3370, 3.2: that of the key.
            Algorithm::Rsa | Algorithm::RsaSha384 | Algorithm::RsaSha512 => RSA,
            Algorithm::P256 | Algorithm::P384Sha256 => ECDSA_SHA256,
            Algorithm::P384 => ECDSA_SHA384,
        }
    }

    /// Return the OBJECT IDENTIFIER of the hash function in a CMS message.
    pub const fn hash(self) -> &'static [u8] {
        match self {
            Algorithm::P384 => SHA384,
            _ => SHA256,
        }
    }

    /// Return true if its identifier in a CMS message has parameters: NULL.
    pub const fn has_null(self) -> bool {
        matches!(self, Algorithm::Rsa)
    }

    /// Return how to sign with an ECDSA key.
    pub fn signing(self) -> Option<&'static EcdsaSigningAlgorithm> {
        match self {
            Algorithm::P256 => Some(&signature::ECDSA_P256_SHA256_ASN1_SIGNING),
            Algorithm::P384 => Some(&signature::ECDSA_P384_SHA384_ASN1_SIGNING),
            _ => None,
        }
    }

    /// Verify that `value` is a signature of `message`.
    ///
    /// # Errors
    ///
    /// [`Error::Wrong`].
    pub fn verify(self, key: &[u8], message: &[u8], value: &[u8]) -> Result<()> {
        let algorithm: &dyn VerificationAlgorithm = match self {
            Algorithm::Rsa => &signature::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::RsaSha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Algorithm::RsaSha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Algorithm::P256 => &signature::ECDSA_P256_SHA256_ASN1,
            Algorithm::P384 => &signature::ECDSA_P384_SHA384_ASN1,
            Algorithm::P384Sha256 => &signature::ECDSA_P384_SHA256_ASN1,
        };
        UnparsedPublicKey::new(algorithm, key)
            .verify(message, value)
            .map_err(|_| Error::Wrong)
    }
}
