// SPDX-License-Identifier: GPL-2.0-only

//! Kinds of keys and signatures, and their OBJECT IDENTIFIERs.

use crate::cms::{ECDSA_SHA256, ECDSA_SHA384, RSA, SHA256, SHA384, SHA512};
use crate::der::{Reader, OBJECT};
use crate::error::{Error, Result};
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

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RSA.
    Rsa,
    /// ECDSA on the curve P-256.
    P256,
    /// ECDSA on the curve P-384.
    P384,
}

impl Kind {
    /// Return the kind of a key, from the content of its AlgorithmIdentifier.
    pub fn of_key(algorithm: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(algorithm);
        match reader.next(OBJECT)?.content {
            RSA => Some(Kind::Rsa),
            EC => match reader.next(OBJECT)?.content {
                P256 => Some(Kind::P256),
                P384 => Some(Kind::P384),
                _ => None,
            },
            _ => None,
        }
    }

    /// Return the hash function that signatures by such a key are made with here.
    pub const fn usual_hash(self) -> &'static [u8] {
        match self {
            Kind::Rsa | Kind::P256 => SHA256,
            Kind::P384 => SHA384,
        }
    }

    /// Return the OBJECT IDENTIFIER of such a signature in a CMS message.
    pub const fn cms(self) -> &'static [u8] {
        match self {
            // RFC 3370, 3.2: the key's algorithm.
            Kind::Rsa => RSA,
            Kind::P256 => ECDSA_SHA256,
            Kind::P384 => ECDSA_SHA384,
        }
    }

    /// Return true if its identifier in a CMS message has parameters: NULL.
    pub const fn has_null(self) -> bool {
        matches!(self, Kind::Rsa)
    }

    /// Return how to sign with an ECDSA key.
    pub fn signing(self) -> Option<&'static EcdsaSigningAlgorithm> {
        match self {
            Kind::P256 => Some(&signature::ECDSA_P256_SHA256_ASN1_SIGNING),
            Kind::P384 => Some(&signature::ECDSA_P384_SHA384_ASN1_SIGNING),
            Kind::Rsa => None,
        }
    }
}

/// A kind of signature: the kind of its key, and the OBJECT IDENTIFIER of its hash function.
#[derive(Clone, Copy)]
pub struct Algorithm<'a>(pub Kind, pub &'a [u8]);

impl Algorithm<'_> {
    /// Return the kind of a certificate's signature, from the algorithm of its issuer's key and its
    /// own.
    pub fn of_signature(key: &[u8], signature: &[u8]) -> Option<Self> {
        let key = Kind::of_key(key)?;
        let hash = match (key, signature) {
            (Kind::Rsa, RSA_SHA256) | (Kind::P256 | Kind::P384, ECDSA_SHA256) => SHA256,
            (Kind::Rsa, RSA_SHA384) | (Kind::P256 | Kind::P384, ECDSA_SHA384) => SHA384,
            (Kind::Rsa, RSA_SHA512) => SHA512,
            _ => return None,
        };
        Some(Algorithm(key, hash))
    }

    /// Verify that `value` is a signature of `message` by `key`.
    pub fn verify(self, key: &[u8], message: &[u8], value: &[u8]) -> Result<()> {
        let algorithm: &dyn VerificationAlgorithm = match (self.0, self.1) {
            (Kind::Rsa, SHA256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Kind::Rsa, SHA384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Kind::Rsa, SHA512) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (Kind::P256, SHA256) => &signature::ECDSA_P256_SHA256_ASN1,
            (Kind::P256, SHA384) => &signature::ECDSA_P256_SHA384_ASN1,
            (Kind::P384, SHA256) => &signature::ECDSA_P384_SHA256_ASN1,
            (Kind::P384, SHA384) => &signature::ECDSA_P384_SHA384_ASN1,
            _ => return Err(Error::Algorithm),
        };
        UnparsedPublicKey::new(algorithm, key)
            .verify(message, value)
            .map_err(|_| Error::Wrong)
    }
}
