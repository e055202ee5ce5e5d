// SPDX-License-Identifier: GPL-2.0-only

//! Writing the CMS message of a signature (RFC 5652), in DER.

use crate::algorithm::Kind;
use crate::cms::{Certificate, DATA, SIGNED_DATA};
use crate::der::{CONTEXT_0, INTEGER, OBJECT, OCTET_STRING, SEQUENCE, SET};

/// Tag of NULL.
const NULL: u8 = 0x05;

/// Return an element.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = vec![tag];
    match length {
        0..0x80 => bytes.push(length as u8),
        _ => {
            let digits = length.to_be_bytes();
            let zeros = digits.iter().take_while(|&&digit| digit == 0).count();
            bytes.push(0x80 | (digits.len() - zeros) as u8);
            bytes.extend(&digits[zeros..]);
        }
    }
    for part in parts {
        bytes.extend(*part);
    }
    bytes
}

/// Return an AlgorithmIdentifier.
fn identifier(object: &[u8], has_null: bool) -> Vec<u8> {
    let object = element(OBJECT, &[object]);
    let parameters = if has_null { element(NULL, &[]) } else { vec![] };
    element(SEQUENCE, &[&object, &parameters])
}

/// Return the message with the signature `value` by the owner of `signer`, and with the
/// certificates of `signer` and `others`.
pub fn message(signer: &Certificate<'_>, others: &[&[u8]], key: Kind, value: &[u8]) -> Vec<u8> {
    let version = element(INTEGER, &[&[1]]);
    let hash = identifier(key.usual_hash(), false);
    let name = element(
        SEQUENCE,
        &[signer.issuer, &element(INTEGER, &[signer.serial])],
    );
    let info = element(
        SEQUENCE,
        &[
            &version,
            &name,
            &hash,
            &identifier(key.cms(), key.has_null()),
            &element(OCTET_STRING, &[value]),
        ],
    );
    // The elements of a set are sorted.
    let mut certificates = vec![signer.whole];
    certificates.extend(others);
    certificates.sort_unstable();
    certificates.dedup();
    let data = element(
        SEQUENCE,
        &[
            &version,
            &element(SET, &[&hash]),
            &element(SEQUENCE, &[&element(OBJECT, &[DATA])]),
            &element(CONTEXT_0, &certificates),
            &element(SET, &[&info]),
        ],
    );
    element(
        SEQUENCE,
        &[
            &element(OBJECT, &[SIGNED_DATA]),
            &element(CONTEXT_0, &[&data]),
        ],
    )
}
