// SPDX-License-Identifier: GPL-2.0-only

//! Signatures, and who makes them.

use crate::algorithm::{self, Kind};
use crate::certificate::{check_times, end, issued, Certificate};
use crate::cms::{self, Message};
use crate::error::{Error, Result};
use crate::pem;
use daxfs_reader::layout::SIGNATURE_MAX;
use daxfs_reader::signature::Line;
use der::asn1::AnyRef;
use der::oid::db::rfc5912::RSA_ENCRYPTION;
use der::{Decode, Tag, Tagged};
use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, KeyPair, RsaKeyPair};
use std::time::{SystemTime, UNIX_EPOCH};

/// A signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Last second in which it counts, since 1970.
    pub expires: u64,
    /// A CMS message.
    pub cms: Vec<u8>,
}

impl Signed {
    /// Make a signature of a CMS message. It expires at the end of its certificates unless another
    /// second is named. `None` if the message is too long or malformed.
    pub fn new(cms: Vec<u8>, expires: Option<u64>) -> Option<Self> {
        let message = Message::parse(&cms).filter(|_| cms.len() <= SIGNATURE_MAX as usize)?;
        let expires = expires.unwrap_or_else(|| end(&message.certificates));
        Some(Signed { expires, cms })
    }
}

/// A private key.
pub struct Key(Pair);

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(EcdsaKeyPair, Kind),
}

impl Key {
    /// Parse the content of a file: PKCS#8 in PEM or DER, or the older form for RSA.
    pub fn parse(file: &[u8]) -> Result<Self> {
        let der = match pem::decode(file, &["PRIVATE KEY", "RSA PRIVATE KEY"]) {
            Some(der) => der,
            None if pem::contains(file, "ENCRYPTED PRIVATE KEY") => return Err(Error::Encrypted),
            None if pem::is_pem(file) => return Err(Error::Key),
            None => file.to_vec(),
        };
        let rsa = RsaKeyPair::from_pkcs8(&der).or_else(|_| RsaKeyPair::from_der(&der));
        if let Ok(pair) = rsa {
            return Ok(Key(Pair::Rsa(Box::new(pair))));
        }
        for kind in [Kind::P256, Kind::P384] {
            let scheme = kind.signing().ok_or(Error::Algorithm)?;
            if let Ok(pair) = EcdsaKeyPair::from_pkcs8(scheme, &der, &SystemRandom::new()) {
                return Ok(Key(Pair::Ecdsa(pair, kind)));
            }
        }
        match AnyRef::from_der(&der) {
            // All keys are sequences.
            Ok(key) if key.tag() == Tag::Sequence => Err(Error::Algorithm),
            _ => Err(Error::Key),
        }
    }

    fn kind(&self) -> Kind {
        match &self.0 {
            Pair::Rsa(_) => Kind::Rsa,
            Pair::Ecdsa(_, kind) => *kind,
        }
    }

    fn public(&self) -> &[u8] {
        match &self.0 {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ecdsa(pair, _) => pair.public_key().as_ref(),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.0 {
            Pair::Rsa(pair) => {
                let mut value = vec![0; pair.public().modulus_len()];
                pair.sign(
                    &ring::signature::RSA_PKCS1_SHA256,
                    &random,
                    message,
                    &mut value,
                )
                .map_err(|_| Error::Algorithm)?;
                Ok(value)
            }
            Pair::Ecdsa(pair, _) => match pair.sign(&random, message) {
                Ok(value) => Ok(value.as_ref().to_vec()),
                Err(_) => Err(Error::Algorithm),
            },
        }
    }
}

/// Return the time of the clock, in seconds since 1970.
pub fn now() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map_or(0, |time| time.as_secs())
}

/// Return a signature of the image with this SHA-256, made at the time `now`. It contains the
/// `certificate` of the key, and the `others` that lead from it to one that verifiers trust. It
/// counts until the second `expires`, or until the first of the certificates expires.
pub fn sign(
    digest: &[u8; 32],
    key: &Key,
    certificate: &Certificate,
    others: &[Certificate],
    expires: Option<u64>,
    now: u64,
) -> Result<Signed> {
    let all = [std::slice::from_ref(certificate), others].concat();
    all.iter().try_for_each(|one| check_times(one, now))?;
    let end = end(&all);
    let expires = expires.unwrap_or(end);
    if expires > end {
        return Err(Error::Outlives);
    }
    check_end(expires, now)?;
    let public = certificate.tbs_certificate().subject_public_key_info();
    if public.subject_public_key.raw_bytes() != key.public() {
        return Err(Error::Pair);
    }
    let value = key.sign(&line(digest, expires))?;
    let cms = cms::message(&all, key.kind(), value)?;
    Signed::new(cms, Some(expires)).ok_or(Error::TooLarge)
}

/// Verify that `signed` is a signature of the image with this SHA-256 that counts at the time `now`,
/// and that a chain of certificates leads from its signer to one that is `trusted`. All certificates
/// in it must be valid then, and so must the trusted one. The kernel does not look at their times.
pub fn verify(signed: &Signed, digest: &[u8; 32], trusted: &[Certificate], now: u64) -> Result<()> {
    let message = Message::parse(&signed.cms).ok_or(Error::Malformed)?;
    let key = message.signer.tbs_certificate().subject_public_key_info();
    let kind = Kind::of_key(key).ok_or(Error::Algorithm)?;
    // The key is of the kind that the message says.
    if (kind == Kind::Rsa) != (message.algorithm == RSA_ENCRYPTION) {
        return Err(Error::Malformed);
    }
    let line = line(digest, signed.expires);
    algorithm::verify(key, message.hash, &line, &message.value)?;
    check_end(signed.expires, now)?;
    let mut unused = message.certificates;
    unused.iter().try_for_each(|one| check_times(one, now))?;
    let mut last = message.signer;
    loop {
        // No certificate is used twice.
        unused.retain(|other| *other != last);
        let same = trusted.iter().find(|other| **other == last);
        if let Some(root) = same.or_else(|| trusted.iter().find(|other| issued(other, &last))) {
            return check_times(root, now);
        }
        match unused.iter().find(|other| issued(other, &last)) {
            Some(issuer) => last = issuer.clone(),
            None => return Err(Error::Untrusted),
        }
    }
}

/// Return the bytes that are signed.
fn line(digest: &[u8; 32], expires: u64) -> Vec<u8> {
    let digest = *digest;
    Line { digest, expires }.to_string().into_bytes()
}

/// Check that a signature that `expires` counts at the time `now`.
fn check_end(expires: u64, now: u64) -> Result<()> {
    match now > expires {
        true => Err(Error::Expired),
        false => Ok(()),
    }
}
