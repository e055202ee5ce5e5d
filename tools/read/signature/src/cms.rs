// SPDX-License-Identifier: GPL-2.0-only

//! CMS messages (RFC 5652) of the form that Documentation/format.rst describes, and the X.509
//! certificates in them (RFC 5280).
//!
//! The kernel's parser accepts more, but reads the same from messages that this one accepts.

use crate::der::{Reader, CONTEXT_0, INTEGER, OBJECT, OCTET_STRING, SEQUENCE, SET};
use crate::error::{Error, Result};

/// Largest number of certificates in a message.
pub const CERTIFICATES_MAX: usize = 8;

/// Largest size of the name in a certificate, in bytes.
const NAME_MAX: usize = 1024;

/// Largest number of attributes of such a name.
const ATTRIBUTES_MAX: usize = 16;

/// A CMS message with one signature.
pub struct Message<'a> {
    /// Certificate of the key that signed.
    pub signer: Certificate<'a>,
    /// OBJECT IDENTIFIER of the hash function.
    pub digest_algorithm: &'a [u8],
    /// OBJECT IDENTIFIER of the signature algorithm.
    pub algorithm: &'a [u8],
    /// The signature itself.
    pub value: &'a [u8],
    certificates: &'a [u8],
}

impl<'a> Message<'a> {
    /// Parse a CMS message: SignedData without content and attributes, with at most
    /// [`CERTIFICATES_MAX`] certificates, and one SignerInfo that names one of them by issuer and
    /// serial number. `None` if it is anything else, or has other algorithms than [`HASHES`] and
    /// [`ALGORITHMS`].
    ///
    /// The kernel verifies such a message with the key of that certificate and no other.
    pub fn parse(cms: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(cms);
        let message = reader.next(SEQUENCE)?;
        let mut message = reader.end(message)?.inside();
        if message.next(OBJECT)?.content != SIGNED_DATA {
            return None;
        }
        let content = message.next(CONTEXT_0)?;
        let mut explicit = message.end(content)?.inside();
        let data = explicit.next(SEQUENCE)?;
        let mut data = explicit.end(data)?.inside();
        data.version()?;
        let algorithms = data.next(SET)?;
        let mut algorithms = algorithms.inside();
        let listed = algorithms.algorithm()?;
        algorithms.end(())?;
        let mut content = data.next(SEQUENCE)?.inside();
        let object = content.next(OBJECT)?;
        if content.end(object)?.content != DATA {
            return None;
        }
        let certificates = data.next(CONTEXT_0)?.content;
        let infos = data.next(SET)?;
        let mut infos = data.end(infos)?.inside();
        let info = infos.next(SEQUENCE)?;
        let mut info = infos.end(info)?.inside();
        info.version()?;
        let mut sid = info.next(SEQUENCE)?.inside();
        let issuer = name(&mut sid)?;
        let serial = sid.next(INTEGER)?;
        let serial = sid.end(serial)?.content;
        let digest_algorithm = info.algorithm()?;
        let algorithm = info.algorithm()?;
        // The kernel logs each algorithm that it does not know.
        if digest_algorithm != listed
            || !HASHES.contains(&digest_algorithm)
            || !ALGORITHMS.contains(&algorithm)
            || (algorithm == ECDSA_SHA256 && digest_algorithm != SHA256)
            || (algorithm == ECDSA_SHA384 && digest_algorithm != SHA384)
        {
            return None;
        }
        let value = info.next(OCTET_STRING)?;
        let value = info.end(value)?.content;
        let mut signer = None;
        for (index, certificate) in all(certificates).enumerate() {
            if index >= CERTIFICATES_MAX {
                return None;
            }
            let certificate = certificate?;
            if certificate.issuer == issuer && certificate.serial == serial {
                // The kernel uses the first one.
                signer = signer.or(Some(certificate));
            }
        }
        Some(Message {
            signer: signer?,
            digest_algorithm,
            algorithm,
            value,
            certificates,
        })
    }

    /// Return the certificates in the message. All of them are valid DER.
    pub fn certificates(&self) -> impl Iterator<Item = Certificate<'a>> {
        all(self.certificates).flatten()
    }

    /// Check that all certificates are valid at `now`, in seconds since 1970.
    pub fn check_times(&self, now: i64) -> Result<()> {
        self.certificates()
            .try_for_each(|certificate| certificate.check_times(now))
    }

    /// Return the second until which all certificates are valid, since 1970.
    pub fn end(&self) -> u64 {
        end(self.certificates())
    }
}

impl Reader<'_> {
    /// Read the version of a structure, 1.
    fn version(&mut self) -> Option<()> {
        (self.next(INTEGER)?.content == [1]).then_some(())
    }
}

/// Return all bytes of the next element, a name that is not empty. The kernel logs each attribute
/// that it does not know, so their number has a limit.
fn name<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let name = reader.next(SEQUENCE)?;
    if name.whole.len() > NAME_MAX {
        return None;
    }
    let mut sets = name.inside();
    let mut attributes = 0;
    while !sets.is_empty() {
        let mut set = sets.next(SET)?.inside();
        while !set.is_empty() {
            let mut attribute = set.next(SEQUENCE)?.inside();
            attribute.next(OBJECT)?;
            attribute.any()?;
            attribute.end(())?;
            attributes += 1;
        }
    }
    (1..=ATTRIBUTES_MAX)
        .contains(&attributes)
        .then_some(name.whole)
}

/// Return the certificates in the content of a set; `None` for an invalid one, which is the last.
fn all(certificates: &[u8]) -> impl Iterator<Item = Option<Certificate<'_>>> {
    let mut reader = Reader::new(certificates);
    let mut failed = false;
    core::iter::from_fn(move || {
        if failed || reader.is_empty() {
            return None;
        }
        let certificate = reader
            .any()
            .and_then(|element| Certificate::parse(element.whole));
        failed = certificate.is_none();
        Some(certificate)
    })
}

/// An X.509 certificate.
#[derive(Clone, Copy)]
pub struct Certificate<'a> {
    /// All bytes.
    pub whole: &'a [u8],
    /// The bytes that the issuer signed.
    pub signed: &'a [u8],
    /// Name of the issuer.
    pub issuer: &'a [u8],
    /// Name of the owner.
    pub subject: &'a [u8],
    /// Number that the issuer gave it.
    pub serial: &'a [u8],
    /// First second of its validity, since 1970.
    pub not_before: i64,
    /// Last second of its validity, since 1970.
    pub not_after: i64,
    /// AlgorithmIdentifier of the key.
    pub key_algorithm: &'a [u8],
    /// The public key.
    pub key: &'a [u8],
    /// OBJECT IDENTIFIER of the issuer's signature algorithm.
    pub algorithm: &'a [u8],
    /// The issuer's signature.
    pub value: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Parse a certificate in DER.
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(der);
        let certificate = reader.next(SEQUENCE)?;
        let mut certificate = reader.end(certificate)?.inside();
        let signed = certificate.next(SEQUENCE)?;
        let algorithm = certificate.algorithm()?;
        let value = certificate.bits()?;
        certificate.end(())?;
        let mut fields = signed.inside();
        // The version.
        fields.optional(CONTEXT_0);
        let serial = fields.next(INTEGER)?.content;
        if serial.is_empty() {
            return None;
        }
        fields.algorithm()?;
        let issuer = name(&mut fields)?;
        let mut validity = fields.next(SEQUENCE)?.inside();
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        validity.end(())?;
        let subject = name(&mut fields)?;
        let mut key = fields.next(SEQUENCE)?.inside();
        let key_algorithm = key.next(SEQUENCE)?.content;
        let bits = key.bits()?;
        Some(Certificate {
            whole: der,
            signed: signed.whole,
            issuer,
            subject,
            serial,
            not_before,
            not_after,
            key_algorithm,
            key: key.end(bits)?,
            algorithm,
            value,
        })
    }

    /// Check that the certificate is valid at `now`, in seconds since 1970.
    pub fn check_times(&self, now: i64) -> Result<()> {
        if now > self.not_after {
            return Err(Error::CertificateExpired);
        }
        match now < self.not_before {
            true => Err(Error::NotYetValid),
            false => Ok(()),
        }
    }
}

/// Return the second until which all of `certificates` are valid, since 1970.
pub fn end<'a>(certificates: impl Iterator<Item = Certificate<'a>>) -> u64 {
    let ends = certificates.map(|certificate| certificate.not_after.max(0) as u64);
    ends.min().unwrap_or(0)
}

/// OBJECT IDENTIFIER of the content type `id-signedData`, 1.2.840.113549.1.7.2.
pub const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];

/// OBJECT IDENTIFIER of the content type `id-data`, 1.2.840.113549.1.7.1.
pub const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];

/// OBJECT IDENTIFIER of SHA-256, 2.16.840.1.101.3.4.2.1.
pub const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

/// OBJECT IDENTIFIER of SHA-384, 2.16.840.1.101.3.4.2.2.
pub const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];

/// OBJECT IDENTIFIER of SHA-512, 2.16.840.1.101.3.4.2.3.
pub const SHA512: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03];

/// Hash functions of a signature.
pub const HASHES: &[&[u8]] = &[SHA256, SHA384, SHA512];

/// OBJECT IDENTIFIER `rsaEncryption`, 1.2.840.113549.1.1.1.
pub const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// OBJECT IDENTIFIER `ecdsa-with-SHA256`, 1.2.840.10045.4.3.2.
pub const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// OBJECT IDENTIFIER `ecdsa-with-SHA384`, 1.2.840.10045.4.3.3.
pub const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];

/// Algorithms of a signature.
pub const ALGORITHMS: &[&[u8]] = &[RSA, ECDSA_SHA256, ECDSA_SHA384];
