// SPDX-License-Identifier: GPL-2.0-only

//! Kinds of keys and signatures.

use crate::error::{Error, Result};
use der::asn1::{Any, AnyRef, ObjectIdentifier};
use der::oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ID_EC_PUBLIC_KEY, ID_SHA_256, ID_SHA_384, ID_SHA_512,
    RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1, SHA_256_WITH_RSA_ENCRYPTION,
    SHA_384_WITH_RSA_ENCRYPTION, SHA_512_WITH_RSA_ENCRYPTION,
};
use ring::signature::{self, EcdsaSigningAlgorithm, UnparsedPublicKey, VerificationAlgorithm};
use x509_cert::{AlgorithmIdentifier, SubjectPublicKeyInfo};

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
    /// Return the kind of a key.
    pub fn of_key(key: &SubjectPublicKeyInfo) -> Option<Self> {
        let curve = key.algorithm.parameters.as_ref();
        match key.algorithm.oid {
            RSA_ENCRYPTION => Some(Kind::Rsa),
            ID_EC_PUBLIC_KEY => match curve?.decode_as().ok()? {
                SECP_256_R_1 => Some(Kind::P256),
                SECP_384_R_1 => Some(Kind::P384),
                _ => None,
            },
            _ => None,
        }
    }

    /// Return the hash function and the algorithm of the signatures in CMS messages that such a key
    /// makes here.
    pub fn cms(self) -> (AlgorithmIdentifier, AlgorithmIdentifier) {
        let (hash, signature) = match self {
            // RFC 3370, 3.2: the key's algorithm.
            Kind::Rsa => (ID_SHA_256, RSA_ENCRYPTION),
            Kind::P256 => (ID_SHA_256, ECDSA_WITH_SHA_256),
            Kind::P384 => (ID_SHA_384, ECDSA_WITH_SHA_384),
        };
        let null = (self == Kind::Rsa).then(|| Any::from(AnyRef::NULL));
        let identifier = |oid, parameters| AlgorithmIdentifier { oid, parameters };
        (identifier(hash, None), identifier(signature, null))
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

/// Return the hash function of a certificate's signature by a key of this kind.
pub fn hash(key: Kind, signature: ObjectIdentifier) -> Option<ObjectIdentifier> {
    match (key, signature) {
        (Kind::Rsa, SHA_256_WITH_RSA_ENCRYPTION) => Some(ID_SHA_256),
        (Kind::Rsa, SHA_384_WITH_RSA_ENCRYPTION) => Some(ID_SHA_384),
        (Kind::Rsa, SHA_512_WITH_RSA_ENCRYPTION) => Some(ID_SHA_512),
        (Kind::P256 | Kind::P384, ECDSA_WITH_SHA_256) => Some(ID_SHA_256),
        (Kind::P256 | Kind::P384, ECDSA_WITH_SHA_384) => Some(ID_SHA_384),
        _ => None,
    }
}

/// Verify that `value` is a signature of `message` by `key`, with this `hash` function.
pub fn verify(
    key: &SubjectPublicKeyInfo,
    hash: ObjectIdentifier,
    message: &[u8],
    value: &[u8],
) -> Result<()> {
    let kind = Kind::of_key(key).ok_or(Error::Algorithm)?;
    let algorithm: &dyn VerificationAlgorithm = match (kind, hash) {
        (Kind::Rsa, ID_SHA_256) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (Kind::Rsa, ID_SHA_384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (Kind::Rsa, ID_SHA_512) => &signature::RSA_PKCS1_2048_8192_SHA512,
        (Kind::P256, ID_SHA_256) => &signature::ECDSA_P256_SHA256_ASN1,
        (Kind::P256, ID_SHA_384) => &signature::ECDSA_P256_SHA384_ASN1,
        (Kind::P384, ID_SHA_256) => &signature::ECDSA_P384_SHA256_ASN1,
        (Kind::P384, ID_SHA_384) => &signature::ECDSA_P384_SHA384_ASN1,
        _ => return Err(Error::Algorithm),
    };
    UnparsedPublicKey::new(algorithm, key.subject_public_key.raw_bytes())
        .verify(message, value)
        .map_err(|_| Error::Wrong)
}
