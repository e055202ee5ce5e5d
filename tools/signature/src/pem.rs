// SPDX-License-Identifier: GPL-2.0-only

//! Keys and certificates in PEM (RFC 7468).

use base64::engine::general_purpose::STANDARD;
use base64::Engine;

/// Return true if `file` is in PEM.
pub fn is_pem(file: &[u8]) -> bool {
    std::str::from_utf8(file).is_ok_and(|text| text.contains("-----BEGIN "))
}

/// Return true if `file` has a section with this `label`.
pub fn contains(file: &[u8], label: &str) -> bool {
    std::str::from_utf8(file).is_ok_and(|text| text.contains(&format!("-----BEGIN {label}-----")))
}

/// Return the content of the first section of `file` with one of these `labels`.
pub fn decode(file: &[u8], labels: &[&str]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(file).ok()?;
    labels.iter().find_map(|label| {
        let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
        let (body, _) = rest.split_once("-----END ")?;
        let body: String = body.split_ascii_whitespace().collect();
        STANDARD.decode(body).ok()
    })
}
