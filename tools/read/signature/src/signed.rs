// SPDX-License-Identifier: GPL-2.0-only

//! Signatures, and who makes them.

use crate::algorithm::{Algorithm, Kind};
use crate::cms::{self, Certificate as Parsed, Message};
use crate::error::{Error, Result};
use crate::{encode, pem};
use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use daxfs_reader::layout::SIGNATURE_MAX;
use daxfs_reader::signature::Line;
use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, KeyPair, RsaKeyPair};
use std::fmt;
use std::str::FromStr;
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
        let expires = expires.unwrap_or_else(|| message.end());
        Some(Signed { expires, cms })
    }
}

/// One line of text: the second, a space, and the message in base64.
impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.expires, STANDARD.encode(&self.cms))
    }
}

impl FromStr for Signed {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (expires, cms) = text.split_once(' ').ok_or(Error::Malformed)?;
        Ok(Signed {
            expires: expires.parse().map_err(|_| Error::Malformed)?,
            cms: STANDARD.decode(cms).map_err(|_| Error::Malformed)?,
        })
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
        match pem::is_key(&der) {
            true => Err(Error::Algorithm),
            false => Err(Error::Key),
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

/// A certificate.
#[derive(Clone, Debug)]
pub struct Certificate(Vec<u8>);

impl Certificate {
    /// Parse the content of a file, in PEM or DER.
    pub fn parse(file: &[u8]) -> Result<Self> {
        let der = match pem::decode(file, &["CERTIFICATE"]) {
            Some(der) => der,
            None => file.to_vec(),
        };
        match Parsed::parse(&der) {
            Some(_) => Ok(Certificate(der)),
            None => Err(Error::Certificate),
        }
    }

    /// Return the certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    fn parsed(&self) -> Result<Parsed<'_>> {
        Parsed::parse(&self.0).ok_or(Error::Certificate)
    }
}

/// Return the time of the clock, in seconds since 1970.
pub fn now() -> i64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map_or(0, |time| time.as_secs() as i64)
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
    now: i64,
) -> Result<Signed> {
    let parsed = certificate.parsed()?;
    let mut all = vec![parsed];
    for other in others {
        all.push(other.parsed()?);
    }
    all.iter().try_for_each(|one| one.check_times(now))?;
    let end = cms::end(all.into_iter());
    let expires = expires.unwrap_or(end);
    if expires > end {
        return Err(Error::Outlives);
    }
    check_end(expires, now)?;
    if parsed.key != key.public() {
        return Err(Error::Pair);
    }
    let value = key.sign(&line(digest, expires))?;
    let others: Vec<&[u8]> = others.iter().map(Certificate::der).collect();
    let cms = encode::message(&parsed, &others, key.kind(), &value);
    Signed::new(cms, Some(expires)).ok_or(Error::TooLarge)
}

/// Verify that `signed` is a signature of the image with this SHA-256 that counts at the time `now`,
/// and that a chain of certificates leads from its signer to one that is `trusted`. All certificates
/// in it must be valid then, and so must the trusted one. The kernel does not look at their times.
pub fn verify(signed: &Signed, digest: &[u8; 32], trusted: &[Certificate], now: i64) -> Result<()> {
    let signature = Message::parse(&signed.cms).ok_or(Error::Malformed)?;
    let signer = &signature.signer;
    let kind = Kind::of_key(signer.key_algorithm).ok_or(Error::Algorithm)?;
    // The key is of the kind that the message says.
    if (kind == Kind::Rsa) != (signature.algorithm == Kind::Rsa.cms()) {
        return Err(Error::Malformed);
    }
    Algorithm(kind, signature.digest_algorithm).verify(
        signer.key,
        &line(digest, signed.expires),
        signature.value,
    )?;
    check_end(signed.expires, now)?;
    signature.check_times(now)?;
    let trusted = trusted
        .iter()
        .map(Certificate::parsed)
        .collect::<Result<Vec<_>>>()?;
    let mut unused: Vec<_> = signature.certificates().collect();
    let mut last = signature.signer;
    loop {
        // No certificate is used twice.
        unused.retain(|other| other.whole != last.whole);
        let same = trusted.iter().find(|other| other.whole == last.whole);
        if let Some(root) = same.or_else(|| trusted.iter().find(|other| issued(other, &last))) {
            return root.check_times(now);
        }
        match unused.iter().find(|other| issued(other, &last)) {
            Some(issuer) => last = *issuer,
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
fn check_end(expires: u64, now: i64) -> Result<()> {
    match now as u64 > expires {
        true => Err(Error::Expired),
        false => Ok(()),
    }
}

/// Return true if the owner of `issuer` signed `certificate`.
fn issued(issuer: &Parsed<'_>, certificate: &Parsed<'_>) -> bool {
    if issuer.subject != certificate.issuer {
        return false;
    }
    let algorithm = Algorithm::of_signature(issuer.key_algorithm, certificate.algorithm);
    algorithm.is_some_and(|algorithm| {
        algorithm
            .verify(issuer.key, certificate.signed, certificate.value)
            .is_ok()
    })
}
