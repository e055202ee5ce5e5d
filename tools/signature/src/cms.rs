// SPDX-License-Identifier: GPL-2.0-only

//! CMS messages (RFC 5652) of the form that Documentation/format.rst describes.
//!
//! The kernel's parser accepts more, but reads the same from messages that this one accepts.

use crate::algorithm::Kind;
use crate::certificate::{has_short_names, Certificate};
use crate::error::{Error, Result};
use der::asn1::{ObjectIdentifier, OctetString, SetOfVec};
use der::oid::db::rfc5911::{ID_DATA, ID_SIGNED_DATA};
use der::oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ID_SHA_256, ID_SHA_384, ID_SHA_512, RSA_ENCRYPTION,
};
use der::{Decode, Encode, Sequence, ValueOrd};
use x509_cert::certificate::Raw;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::AlgorithmIdentifier;

/// Largest number of certificates in a message.
pub const CERTIFICATES_MAX: usize = 8;

/// A message.
#[derive(Sequence)]
struct ContentInfo {
    content_type: ObjectIdentifier,
    #[asn1(context_specific = "0")]
    content: SignedData,
}

/// SignedData without CRLs.
#[derive(Sequence)]
struct SignedData {
    version: u8,
    hashes: SetOfVec<AlgorithmIdentifier>,
    /// The type of the content, which is not part of the message.
    content: Vec<ObjectIdentifier>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    certificates: SetOfVec<Certificate>,
    signers: SetOfVec<SignerInfo>,
}

/// SignerInfo without attributes.
#[derive(Clone, Sequence, ValueOrd)]
struct SignerInfo {
    version: u8,
    name: IssuerAndSerialNumber,
    hash: AlgorithmIdentifier,
    algorithm: AlgorithmIdentifier,
    value: OctetString,
}

#[derive(Clone, PartialEq, Sequence, ValueOrd)]
struct IssuerAndSerialNumber {
    issuer: Name,
    serial: SerialNumber<Raw>,
}

impl IssuerAndSerialNumber {
    fn of(certificate: &Certificate) -> Self {
        let signed = certificate.tbs_certificate();
        IssuerAndSerialNumber {
            issuer: signed.issuer().clone(),
            serial: signed.serial_number().clone(),
        }
    }
}

/// A CMS message with one signature.
pub struct Message {
    /// Certificate of the key that signed.
    pub signer: Certificate,
    /// Hash function.
    pub hash: ObjectIdentifier,
    /// Signature algorithm.
    pub algorithm: ObjectIdentifier,
    /// The signature itself.
    pub value: Vec<u8>,
    /// All certificates in the message.
    pub certificates: Vec<Certificate>,
}

impl Message {
    /// Parse a CMS message: SignedData without content and attributes, with at most
    /// [`CERTIFICATES_MAX`] certificates, and one SignerInfo that names one of them by issuer and
    /// serial number. `None` if it is anything else, or has other algorithms than the format.
    ///
    /// The kernel verifies such a message with the key of that certificate and no other.
    pub fn parse(cms: &[u8]) -> Option<Self> {
        let message = ContentInfo::from_der(cms).ok()?;
        // The decoder sorts sets. The kernel uses the first certificate that has the name.
        if message.to_der().ok()? != cms {
            return None;
        }
        let data = message.content;
        let ([listed], [info]) = (data.hashes.as_slice(), data.signers.as_slice()) else {
            return None;
        };
        let (hash, algorithm) = (info.hash.oid, info.algorithm.oid);
        let hashes: &[_] = match algorithm {
            RSA_ENCRYPTION => &[ID_SHA_256, ID_SHA_384, ID_SHA_512],
            ECDSA_WITH_SHA_256 => &[ID_SHA_256],
            ECDSA_WITH_SHA_384 => &[ID_SHA_384],
            _ => &[],
        };
        let certificates = data.certificates.into_vec();
        // The kernel logs each algorithm that it does not know.
        let is_valid = message.content_type == ID_SIGNED_DATA
            && data.content == [ID_DATA]
            && (data.version, info.version) == (1, 1)
            && listed.oid == hash
            && hashes.contains(&hash)
            && certificates.len() <= CERTIFICATES_MAX
            && certificates.iter().all(has_short_names);
        if !is_valid {
            return None;
        }
        let mut all = certificates.iter();
        let signer = all.find(|certificate| IssuerAndSerialNumber::of(certificate) == info.name)?;
        Some(Message {
            signer: signer.clone(),
            hash,
            algorithm,
            value: info.value.as_bytes().to_vec(),
            certificates,
        })
    }
}

/// Return the message with the signature `value` by the owner of the first of `certificates`, whose
/// key is of this kind.
pub fn message(certificates: &[Certificate], key: Kind, value: Vec<u8>) -> Result<Vec<u8>> {
    let [signer, ..] = certificates else {
        return Err(Error::Certificate);
    };
    let (hash, algorithm) = key.cms();
    let encode = || {
        let info = SignerInfo {
            version: 1,
            name: IssuerAndSerialNumber::of(signer),
            hash: hash.clone(),
            algorithm,
            value: OctetString::new(value)?,
        };
        let mut all: Vec<Certificate> = Vec::new();
        for certificate in certificates {
            if !all.contains(certificate) {
                all.push(certificate.clone());
            }
        }
        ContentInfo {
            content_type: ID_SIGNED_DATA,
            content: SignedData {
                version: 1,
                hashes: [hash].try_into()?,
                content: vec![ID_DATA],
                certificates: all.try_into()?,
                signers: [info].try_into()?,
            },
        }
        .to_der()
    };
    encode().map_err(|_: der::Error| Error::TooLarge)
}
