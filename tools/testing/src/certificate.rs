// SPDX-License-Identifier: GPL-2.0-only

//! Keys and certificates, made for a test.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use der::asn1::AnyRef;
use der::oid::db::rfc4519::COMMON_NAME;
use der::oid::db::rfc5912::{ECDSA_WITH_SHA_256, ID_EC_PUBLIC_KEY, SECP_256_R_1};
use der::{Encode, Tag};
use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, KeyPair, ECDSA_P256_SHA256_ASN1_SIGNING};

/// Somebody with a key and a certificate.
pub struct Owner {
    name: Vec<u8>,
    /// Private key in PKCS#8.
    pub key: Vec<u8>,
    /// Certificate in DER.
    pub certificate: Vec<u8>,
}

/// Return an element of DER.
fn element(tag: Tag, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    AnyRef::new(tag, &content).unwrap().to_der().unwrap()
}

impl Owner {
    /// Make a key for `name` and a certificate that `issuer`, or the owner, has signed. It is valid
    /// from `start` to `end`, such as `20000101000000Z`.
    pub fn new(name: &str, issuer: Option<&Owner>, start: &str, end: &str) -> Self {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        let key = pkcs8.unwrap().as_ref().to_vec();
        let sequence = |parts: &[&[u8]]| element(Tag::Sequence, parts);
        let [common_name, ecdsa, ec, p256] = [
            COMMON_NAME,
            ECDSA_WITH_SHA_256,
            ID_EC_PUBLIC_KEY,
            SECP_256_R_1,
        ]
        .map(|oid| oid.to_der().unwrap());
        let text = element(Tag::Utf8String, &[name.as_bytes()]);
        let attribute = sequence(&[&common_name, &text]);
        let name = sequence(&[&element(Tag::Set, &[&attribute])]);
        let algorithm = sequence(&[&ecdsa]);
        let public = element(Tag::BitString, &[&[0], pair(&key).public_key().as_ref()]);
        let time = |text: &str| element(Tag::GeneralizedTime, &[text.as_bytes()]);
        let signed = sequence(&[
            // Version 3, serial number 7.
            &[0xa0, 3, 2, 1, 2, 2, 1, 7],
            &algorithm,
            issuer.map_or(&name, |issuer| &issuer.name),
            &sequence(&[&time(start), &time(end)]),
            &name,
            &sequence(&[&sequence(&[&ec, &p256]), &public]),
        ]);
        let by = self::pair(issuer.map_or(&key, |issuer| &issuer.key));
        let value = by.sign(&SystemRandom::new(), &signed).unwrap();
        let value = element(Tag::BitString, &[&[0], value.as_ref()]);
        let certificate = sequence(&[&signed, &algorithm, &value]);
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
