// SPDX-License-Identifier: GPL-2.0-only

//! Keys and certificates, made for a test.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use daxfs_signature::der::{
    BIT_STRING, CONTEXT_0, GENERALIZED_TIME, INTEGER, OBJECT, SEQUENCE, SET,
};
use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, KeyPair, ECDSA_P256_SHA256_ASN1_SIGNING};

/// ecdsa-with-SHA256, 1.2.840.10045.4.3.2.
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// id-ecPublicKey, 1.2.840.10045.2.1.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// prime256v1, 1.2.840.10045.3.1.7.
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// commonName, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// Tag of a UTF8String.
const UTF8_STRING: u8 = 0x0c;

/// Somebody with a key and a certificate.
pub struct Owner {
    name: Vec<u8>,
    /// Private key in PKCS#8.
    pub key: Vec<u8>,
    /// Certificate in DER.
    pub certificate: Vec<u8>,
}

/// Return an element of DER.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    bytes.extend(parts.concat());
    bytes
}

impl Owner {
    /// Make a key for `name` and a certificate that `issuer`, or the owner, has signed. It is valid
    /// from `start` to `end`, such as `20000101000000Z`.
    pub fn new(name: &str, issuer: Option<&Owner>, start: &str, end: &str) -> Self {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        let key = pkcs8.unwrap().as_ref().to_vec();
        let text = element(UTF8_STRING, &[name.as_bytes()]);
        let attribute = element(SEQUENCE, &[&element(OBJECT, &[COMMON_NAME]), &text]);
        let name = element(SEQUENCE, &[&element(SET, &[&attribute])]);
        let algorithm = element(SEQUENCE, &[&element(OBJECT, &[ECDSA_SHA256])]);
        let kind = element(
            SEQUENCE,
            &[&element(OBJECT, &[EC]), &element(OBJECT, &[P256])],
        );
        let pair = pair(&key);
        let public = element(BIT_STRING, &[&[0], pair.public_key().as_ref()]);
        let time = |text: &str| element(GENERALIZED_TIME, &[text.as_bytes()]);
        let signed = element(
            SEQUENCE,
            &[
                &element(CONTEXT_0, &[&element(INTEGER, &[&[2]])]),
                &element(INTEGER, &[&[7]]),
                &algorithm,
                issuer.map_or(&name, |issuer| &issuer.name),
                &element(SEQUENCE, &[&time(start), &time(end)]),
                &name,
                &element(SEQUENCE, &[&kind, &public]),
            ],
        );
        let by = self::pair(issuer.map_or(&key, |issuer| &issuer.key));
        let value = by.sign(&SystemRandom::new(), &signed).unwrap();
        let value = element(BIT_STRING, &[&[0], value.as_ref()]);
        let certificate = element(SEQUENCE, &[&signed, &algorithm, &value]);
        Owner {
            name,
            key,
            certificate,
        }
    }

    /// Return the key in PEM.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }

    /// Return the certificate in PEM.
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }
}

fn pair(key: &[u8]) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key, &random).unwrap()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}
