// SPDX-License-Identifier: GPL-2.0-only

//! X.509 certificates (RFC 5280).

use crate::algorithm::{hash, verify, Kind};
use crate::error::{Error, Result};
use crate::pem;
use der::{Decode, Encode};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::name::Name;

/// Largest size of the name in a certificate, in bytes.
const NAME_MAX: u32 = 1024;

/// Largest number of attributes of such a name.
const ATTRIBUTES_MAX: usize = 16;

/// A certificate. It is encoded again as it was.
pub type Certificate = CertificateInner<Raw>;

/// Parse the content of a file, in PEM or DER.
pub fn parse(file: &[u8]) -> Result<Certificate> {
    let der = pem::decode(file, &["CERTIFICATE"]).unwrap_or_else(|| file.to_vec());
    let certificate = Certificate::from_der(&der).map_err(|_| Error::Certificate)?;
    match certificate.to_der() {
        Ok(again) if again == der && has_short_names(&certificate) => Ok(certificate),
        _ => Err(Error::Certificate),
    }
}

/// Return true if the names have sizes that CMS messages may have. The kernel logs each attribute
/// that it does not know, so their number has a limit.
pub fn has_short_names(certificate: &Certificate) -> bool {
    let names = certificate.tbs_certificate();
    [names.issuer(), names.subject()]
        .iter()
        .all(|name: &&Name| {
            let size = name.encoded_len();
            size.is_ok_and(|size| u32::from(size) <= NAME_MAX)
                && (1..=ATTRIBUTES_MAX).contains(&name.iter().count())
        })
}

/// Return the first and the last second of the certificate's validity, since 1970.
pub fn times(certificate: &Certificate) -> (u64, u64) {
    let validity = certificate.tbs_certificate().validity();
    (
        validity.not_before.to_unix_duration().as_secs(),
        validity.not_after.to_unix_duration().as_secs(),
    )
}

/// Check that the certificate is valid at `now`, in seconds since 1970.
pub fn check_times(certificate: &Certificate, now: u64) -> Result<()> {
    let (first, last) = times(certificate);
    if now > last {
        return Err(Error::CertificateExpired);
    }
    match now < first {
        true => Err(Error::NotYetValid),
        false => Ok(()),
    }
}

/// Return the second until which all of `certificates` are valid, since 1970.
pub fn end(certificates: &[Certificate]) -> u64 {
    let ends = certificates.iter().map(|certificate| times(certificate).1);
    ends.min().unwrap_or(0)
}

/// Return true if the owner of `issuer` signed `certificate`.
pub fn issued(issuer: &Certificate, certificate: &Certificate) -> bool {
    let (issuer, signed) = (issuer.tbs_certificate(), certificate.tbs_certificate());
    let key = issuer.subject_public_key_info();
    let hash = Kind::of_key(key)
        .and_then(|kind| hash(kind, certificate.signature_algorithm().oid))
        .filter(|_| issuer.subject() == signed.issuer());
    let (Some(hash), Ok(signed)) = (hash, signed.to_der()) else {
        return false;
    };
    verify(key, hash, &signed, certificate.signature().raw_bytes()).is_ok()
}
