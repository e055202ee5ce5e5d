// SPDX-License-Identifier: GPL-2.0-only

//! Reads signatures that may hold anything, as the kernel module and the tools do, also for the
//! fuzz target.

use crate::specimen::unpadded;
use daxfs_reader::layout::SIGNATURE_MAX;
use daxfs_reader::signature::{Line, Section};
use daxfs_reader::{Image, Memory, Problem, Superblock};
use daxfs_signature::certificate::{self, check_times, Certificate};
use daxfs_signature::cms::{Message, CERTIFICATES_MAX};
use daxfs_signature::{attach, verify, Signed};
use der::Encode;
use std::sync::LazyLock;
use zerocopy::IntoBytes;

/// An image without a signature, up to where the signature starts.
static UNSIGNED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut image = unpadded();
    let superblock = Superblock::load(&image.as_slice()).unwrap();
    image.truncate(superblock.signature_offset() as usize);
    image
});

/// Time at which the signature of [`read`] expires.
const EXPIRES: u64 = 4_000_000_000;

fn signed_by(cms: &[u8]) -> Signed {
    Signed {
        expires: EXPIRES,
        cms: cms.to_vec(),
    }
}

/// Parse `cms`, and read it as the signature of an image.
///
/// # Panics
///
/// If one of the parsers has a bug.
pub fn read(cms: &[u8]) {
    let valid = parse(cms);
    let superblock = Superblock::load(&UNSIGNED.as_slice()).unwrap();
    let line = Line {
        digest: superblock.sha256,
        expires: EXPIRES,
    };
    let header = Section::header::<&[u8]>(&line, cms);
    let signed = [&UNSIGNED, header.as_bytes(), cms].concat();
    let signed = signed.as_slice();
    match attach::load(&Image::new(&signed, &superblock)) {
        Ok(loaded) => assert!(valid && loaded == Some(signed_by(cms))),
        Err(error) => {
            assert_eq!(error.problem, Problem::Signature);
            assert!(!valid || cms.len() > SIGNATURE_MAX as usize);
        }
    }
    // Its last byte is missing.
    if let Some((_, cut)) = signed.split_last().filter(|_| !cms.is_empty()) {
        assert!(Section::find(&cut, &superblock).is_err());
    }
}

/// Read the signature of `image`, if it has one.
pub fn attached<M: Memory>(image: &Image<'_, M>) {
    let found = Section::find(image.memory(), image.superblock());
    if let Ok(Some(section)) = found {
        assert!((1..=SIGNATURE_MAX.into()).contains(&section.table.length));
        assert!(section.table.end() <= image.memory().size());
    }
    let loaded = attach::load(image);
    match (found, &loaded) {
        (Ok(None), loaded) => assert_eq!(*loaded, Ok(None)),
        (Err(error), loaded) => assert_eq!(*loaded, Err(error)),
        (Ok(Some(section)), Ok(Some(signed))) => {
            assert_eq!(section.table.length, signed.cms.len() as u64);
            assert_eq!(section.line().expires, signed.expires);
            assert!(Message::parse(&signed.cms).is_some());
        }
        (Ok(Some(_)), loaded) => assert!(loaded.is_err()),
    }
    let stored = attach::stored_size(image);
    assert!(stored >= image.superblock().stored_size());
}

/// Parse `cms` and use its content. Return false if it is malformed.
fn parse(cms: &[u8]) -> bool {
    let Some(signature) = Message::parse(cms) else {
        assert_eq!(
            verify(&signed_by(cms), &[0; 32], &[], 0),
            Err(daxfs_signature::Error::Malformed)
        );
        return false;
    };
    let certificates = &signature.certificates;
    assert!((1..=CERTIFICATES_MAX).contains(&certificates.len()));
    assert!(certificates.contains(&signature.signer));
    for certificate in certificates {
        times(certificate);
        // As the tools read one from a file.
        let parsed = certificate::parse(&certificate.to_der().unwrap());
        assert_eq!(parsed.as_ref(), Ok(certificate));
    }
    for trusted in [&certificates[..], &certificates[..1], &[]] {
        let (now, _) = certificate::times(&signature.signer);
        let _ = verify(&signed_by(cms), &[0; 32], trusted, now);
    }
    true
}

/// Check the times of a certificate around the limits.
fn times(certificate: &Certificate) {
    let (first, last) = certificate::times(certificate);
    for now in [0, first.saturating_sub(1), first, last, last + 1, u64::MAX] {
        let expected = (first..=last).contains(&now);
        assert_eq!(check_times(certificate, now).is_ok(), expected);
    }
}
