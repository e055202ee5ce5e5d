// SPDX-License-Identifier: GPL-2.0-only

//! Reads signatures that may hold anything, as the kernel module and the tools do, also for the
//! fuzz target.

use crate::random::Random;
use crate::specimen::unpadded;
use daxfs_reader::layout::SIGNATURE_MAX;
use daxfs_reader::signature::{Line, Section};
use daxfs_reader::{Image, Memory, Problem, Superblock};
use daxfs_signature::certificate::{self, check_times, Certificate};
use daxfs_signature::cms::{Message, CERTIFICATES_MAX};
use daxfs_signature::{attach, verify, Signed};
use der::asn1::Any;
use der::oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ID_SHA_256, ID_SHA_384, ID_SHA_512, RSA_ENCRYPTION,
};
use der::{Encode, Reader, SliceReader, Tag, TagNumber, Tagged};
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

/// Change an element of the first `size` bytes of `data`, a message in DER, and return the new size.
/// The lengths of those that contain it are corrected.
pub fn mutate(data: &mut [u8], size: usize, seed: u32) -> usize {
    let changed = change_one(&data[..size], &mut Random(seed.into())).unwrap_or_default();
    match data.get_mut(..changed.len()) {
        Some(place) if !changed.is_empty() => place.copy_from_slice(&changed),
        _ => return size,
    }
    changed.len()
}

/// Change one of the elements in `bytes`, or what it contains. `None` if they are malformed.
fn change_one(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut reader = SliceReader::new(bytes).ok()?;
    let mut list: Vec<Any> = Vec::new();
    while !reader.is_finished() {
        list.push(reader.decode().ok()?);
    }
    if list.is_empty() {
        return None;
    }
    let number = random.below(list.len());
    let (tag, value) = (list[number].tag(), list[number].value());
    let inside = match tag.is_constructed() && random.below(8) != 0 {
        true => change_one(value, random),
        false => None,
    };
    let other = random.one_of(&list);
    match (inside, random.below(8)) {
        (Some(inside), _) => list[number] = Any::new(tag, inside).ok()?,
        (None, 0) => drop(list.remove(number)),
        (None, 1) => list.insert(number, other),
        (None, 2) => list[number] = other,
        (None, 3) => {
            let with = random.below(list.len());
            list.swap(number, with);
        }
        (None, 4) => {
            let context = Tag::ContextSpecific {
                constructed: true,
                number: TagNumber(0),
            };
            let tag = random.one_of(&[
                context,
                Tag::Integer,
                Tag::BitString,
                Tag::OctetString,
                Tag::ObjectIdentifier,
                Tag::Sequence,
                Tag::Set,
                Tag::UtcTime,
                Tag::GeneralizedTime,
            ]);
            list[number] = Any::new(tag, value).ok()?;
        }
        _ => list[number] = Any::new(tag, changed(tag, value.to_vec(), random)).ok()?,
    }
    Some(
        list.iter()
            .flat_map(|element| element.to_der().unwrap())
            .collect(),
    )
}

/// Return the content of an element, changed.
fn changed(tag: Tag, mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    match tag {
        Tag::ObjectIdentifier => {
            let known = [
                ID_SHA_256,
                ID_SHA_384,
                ID_SHA_512,
                RSA_ENCRYPTION,
                ECDSA_WITH_SHA_256,
                ECDSA_WITH_SHA_384,
            ];
            return random.one_of(&known).as_bytes().to_vec();
        }
        Tag::UtcTime | Tag::GeneralizedTime if random.below(2) == 0 => {
            let times: &[&[u8]] = &[
                b"491231235959Z",
                b"500101000000Z",
                b"000229000000Z",
                b"00000101000000Z",
                b"99991231235959Z",
                b"21000229000000Z",
                b"20000101000000+0000",
            ];
            return random.one_of(times).to_vec();
        }
        _ => (),
    }
    match random.below(4) {
        0 => bytes.push(random.next() as u8),
        1 => drop(bytes.pop()),
        2 => bytes.resize(random.one_of(&[0, 1, 127, 128, 255, 256, 1024]), 0),
        _ if bytes.is_empty() => (),
        _ => {
            let place = random.below(bytes.len());
            bytes[place] = random.one_of(&[0, 1, b'0', b'9', 0x7f, 0x80, 0xff]);
        }
    }
    bytes
}
