// SPDX-License-Identifier: GPL-2.0-only

//! `sign` and `verify`, and what other commands do with a signature.

use crate::support::{fail, fixture, run, succeed};
use daxfs_reader::layout::SIGNATURE_MAGIC;
use daxfs_reader::signature::Line;
use daxfs_signature::cms::SHA256;
use daxfs_signature::{sign, verify, Certificate, Error, Key, Signed};
use daxfs_testing::certificate::Owner;
use daxfs_testing::scratch;
use std::fs;
use std::path::Path;
use std::process::Command;

const START: &str = "20000101000000Z";
const END: &str = "20990101000000Z";
/// A time between them, and times outside them.
const NOW: i64 = 1_700_000_000;
const BEFORE: i64 = 946_684_799;
const AFTER: i64 = 4_070_908_801;
const END_SECOND: u64 = 4_070_908_800;

fn certificate(owner: &Owner) -> Certificate {
    Certificate::parse(&owner.certificate).unwrap()
}

fn key(owner: &Owner) -> Key {
    Key::parse(&owner.key).unwrap()
}

fn write(directory: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[test]
fn messages() {
    let (one, other) = (
        Owner::new("one", None, START, END),
        Owner::new("other", None, START, END),
    );
    let cms = sign(&[7; 32], &key(&one), &certificate(&one), &[], None, NOW).unwrap();
    let check = |digest: &[u8; 32], owners: &[&Owner], now| {
        let trusted: Vec<_> = owners.iter().map(|owner| certificate(owner)).collect();
        verify(&cms, digest, &trusted, now)
    };
    assert_eq!(check(&[7; 32], &[&other, &one], NOW), Ok(()));
    assert_eq!(check(&[8; 32], &[&one], NOW), Err(Error::Wrong));
    assert_eq!(check(&[7; 32], &[&other], NOW), Err(Error::Untrusted));
    // The first and the last second of its validity are part of it.
    assert_eq!(check(&[7; 32], &[&one], BEFORE), Err(Error::NotYetValid));
    assert_eq!(check(&[7; 32], &[&one], BEFORE + 1), Ok(()));
    assert_eq!(check(&[7; 32], &[&one], AFTER - 1), Ok(()));
    assert_eq!(check(&[7; 32], &[&one], AFTER), Err(Error::Expired));
    let wrong_key = sign(&[7; 32], &key(&other), &certificate(&one), &[], None, NOW);
    assert_eq!(wrong_key, Err(Error::Pair));
    // The end of the certificate is the default, and the limit.
    assert_eq!(cms.expires, END_SECOND);
    let until = |expires| {
        let expires = Some(expires);
        sign(&[7; 32], &key(&one), &certificate(&one), &[], expires, NOW)
    };
    assert!(until(END_SECOND).is_ok());
    assert_eq!(until(END_SECOND + 1), Err(Error::Outlives));
    assert_eq!(until(u64::MAX), Err(Error::Outlives));
    assert_eq!(until(NOW as u64 - 1), Err(Error::Expired));
    let mut short = until(NOW as u64).unwrap();
    let trusted = [certificate(&one)];
    assert_eq!(verify(&short, &[7; 32], &trusted, NOW), Ok(()));
    assert_eq!(
        verify(&short, &[7; 32], &trusted, NOW + 1),
        Err(Error::Expired)
    );
    for expires in [0, NOW as u64 - 1, NOW as u64 + 1, END_SECOND, u64::MAX] {
        short.expires = expires;
        assert_eq!(verify(&short, &[7; 32], &trusted, NOW), Err(Error::Wrong));
    }
    let late = sign(&[7; 32], &key(&one), &certificate(&one), &[], None, AFTER);
    assert_eq!(late, Err(Error::CertificateExpired));
}

#[test]
fn chains() {
    let root = Owner::new("root", None, START, END);
    let between = Owner::new("between", Some(&root), START, END);
    let leaf = Owner::new("leaf", Some(&between), START, END);
    let certificates = [certificate(&between)];
    let trusted = [certificate(&root)];
    let digest = [1; 32];
    let whole = sign(
        &digest,
        &key(&leaf),
        &certificate(&leaf),
        &certificates,
        None,
        NOW,
    )
    .unwrap();
    assert_eq!(verify(&whole, &digest, &trusted, NOW), Ok(()));
    let part = sign(&digest, &key(&leaf), &certificate(&leaf), &[], None, NOW).unwrap();
    assert_eq!(verify(&part, &digest, &trusted, NOW), Err(Error::Untrusted));
    assert_eq!(verify(&part, &digest, &certificates, NOW), Ok(()));
    // Another authority of the same name.
    let forged = [certificate(&Owner::new("root", None, START, END))];
    assert_eq!(verify(&whole, &digest, &forged, NOW), Err(Error::Untrusted));
}

/// No message that differs in a byte or is cut is accepted, and none makes the parser panic.
#[test]
fn damaged_messages() {
    let owner = Owner::new("owner", None, START, END);
    let cms = sign(&[7; 32], &key(&owner), &certificate(&owner), &[], None, NOW).unwrap();
    let trusted = [certificate(&owner)];
    let expires = cms.expires;
    let cms = cms.cms;
    let accepted = |cms: &[u8]| {
        let cms = cms.to_vec();
        verify(&Signed { expires, cms }, &[7; 32], &trusted, NOW).is_ok()
    };
    assert!(accepted(&cms));
    let mut changed = 0;
    for index in 0..cms.len() {
        assert!(!accepted(&cms[..index]));
        for bit in 0..8 {
            let mut damaged = cms.clone();
            damaged[index] ^= 1 << bit;
            changed += u32::from(accepted(&damaged));
        }
    }
    // The parameters of algorithms are not looked at.
    assert!(changed <= 100, "{changed} changes were accepted");
    assert!(!accepted(&[&cms[..], &[0]].concat()));
}

/// The kernel logs unknown items, so a message has few certificates and known algorithms.
#[test]
fn limits() {
    let owner = Owner::new("owner", None, START, END);
    let sign_with = |count: usize| {
        let others: Vec<_> = (0..count)
            .map(|index| certificate(&Owner::new(&index.to_string(), None, START, END)))
            .collect();
        sign(
            &[7; 32],
            &key(&owner),
            &certificate(&owner),
            &others,
            None,
            NOW,
        )
    };
    assert!(sign_with(7).is_ok());
    assert_eq!(sign_with(8), Err(Error::TooLarge));
    let long = Owner::new(&"x".repeat(1024), None, START, END);
    assert!(matches!(
        Certificate::parse(&long.certificate),
        Err(Error::Certificate)
    ));

    let cms = sign_with(0).unwrap();
    let trusted = [certificate(&owner)];
    let hash = [&[0x06, 0x09][..], SHA256].concat();
    let places: Vec<_> = (0..cms.cms.len())
        .filter(|&at| cms.cms[at..].starts_with(&hash))
        .collect();
    // In the list in front, and in the SignerInfo.
    assert_eq!(places.len(), 2);
    for changed in [&places[..1], &places[1..], &places[..]] {
        let mut other = cms.clone();
        // SHA-224.
        changed.iter().for_each(|&at| other.cms[at + 10] = 4);
        let result = verify(&other, &[7; 32], &trusted, NOW);
        assert_eq!(result, Err(Error::Malformed));
    }
    let at = places[0] - 7;
    assert_eq!(cms.cms[at..at + 3], [0x02, 0x01, 0x01]);
    let mut version = cms.clone();
    version.cms[at + 2] = 3;
    let result = verify(&version, &[7; 32], &trusted, NOW);
    assert_eq!(result, Err(Error::Malformed));
}

#[test]
fn commands() {
    let fixture = fixture();
    let directory = scratch();
    let directory = directory.path();
    let image = fixture.image.display().to_string();
    let owner = Owner::new("owner", None, START, END);
    let key = write(directory, "key.pem", owner.key_pem());
    let cert = write(directory, "cert.pem", owner.certificate_pem());
    let der = write(directory, "cert.der", &owner.certificate);
    let digest = succeed(&["digest", &image]);
    let line = fail(&["verify", "--cert", &cert, &image], 1);
    assert!(line.contains("not signed"), "{line}");

    let signed = succeed(&["sign", "--key", &key, "--cert", &cert, &image]);
    assert_eq!(signed.text(), digest.text());
    assert_eq!(succeed(&["digest", &image]).text(), digest.text());
    let verified = succeed(&["verify", "--cert", &der, &image]);
    assert_eq!(verified.text(), digest.text());
    let json = succeed(&["verify", "--json", "--cert", &der, &image]).json();
    assert_eq!(json, succeed(&["digest", "--json", &image]).json());
    assert!(succeed(&["info", &image]).text().contains("Signature: "));
    assert!(succeed(&["fsck", &image]).text().contains(": clean, "));

    // Signed elsewhere.
    let bytes = fs::read(&image).unwrap();
    let at = bytes
        .windows(8)
        .position(|bytes| bytes == SIGNATURE_MAGIC)
        .unwrap();
    let length = u32::from_le_bytes(bytes[at + 48..at + 52].try_into().unwrap()) as usize;
    let cms = write(directory, "cms", &bytes[at + 56..at + 56 + length]);
    succeed(&["sign", "--attach", &cms, &image]);
    assert_eq!(fs::read(&image).unwrap(), bytes);
    let line = fail(&["sign", "--attach", &cert, &image], 1);
    assert!(line.contains("no CMS message"), "{line}");
    // The signature covers the end.
    let later = (END_SECOND + 1).to_string();
    succeed(&["sign", "--attach", &cms, "--expires", &later, &image]);
    let line = fail(&["verify", "--cert", &cert, &image], 1);
    assert!(line.contains("wrong signature"), "{line}");

    let sign = ["sign", "--key", &key, "--cert", &cert, &image, "--expires"];
    let line = fail(&[&sign[..], &[&later]].concat(), 1);
    assert!(line.contains("certificate expires before"), "{line}");
    let line = fail(&[&sign[..], &["1000000000"]].concat(), 1);
    assert!(line.contains("signature has expired"), "{line}");
    for end in ["", "x", "-1", "1e9", "18446744073709551616"] {
        fail(&[&sign[..], &[end]].concat(), 2);
    }
    succeed(&[&sign[..], &["4000000000"]].concat());
    succeed(&["verify", "--cert", &cert, &image]);
    let info = succeed(&["info", &image]);
    assert!(info.text().contains(", expires 2096-10-02 07:06:40"));

    let expired = Owner::new("old", None, START, "20010101000000Z");
    let old_key = write(directory, "old.key", expired.key_pem());
    let old_cert = write(directory, "old.pem", expired.certificate_pem());
    let line = fail(&["sign", "--key", &old_key, "--cert", &old_cert, &image], 1);
    assert!(line.contains("has expired"), "{line}");
    let line = fail(&["sign", "--key", &old_key, "--cert", &cert, &image], 1);
    assert!(line.contains("does not match the certificate"), "{line}");
    let line = fail(&["sign", "--key", &cert, "--cert", &cert, &image], 1);
    assert!(line.contains("no private key"), "{line}");
    let line = fail(&["verify", "--cert", &old_cert, &image], 1);
    assert!(line.contains("somebody else"), "{line}");
    fail(&["sign", "--cert", &cert, &image], 2);

    let mut damaged = bytes.clone();
    damaged[at + 100] ^= 1;
    fs::write(&image, &damaged).unwrap();
    let line = fail(&["verify", "--cert", &cert, &image], 1);
    assert!(line.contains("malformed signature"), "{line}");
    let found = run(&["fsck", &image]);
    assert_eq!(found.status, 4);
    assert!(found.stderr.contains("malformed signature"), "{found:?}");
}

/// Every kind of signature that the format has, made by openssl, and some that it does not have.
#[test]
fn algorithms() {
    let available = Command::new("openssl").arg("version").output();
    if !available.is_ok_and(|output| output.status.success()) {
        println!("SKIP: no openssl");
        return;
    }
    let fixture = fixture();
    let directory = scratch();
    let directory = directory.path();
    let image = fixture.image.display().to_string();
    let openssl = |words: &str| {
        let mut command = Command::new("openssl");
        let output = command.args(words.split(' ')).current_dir(directory);
        let output = output.output().unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
    };
    let sign = |hash: &str| {
        openssl(&format!(
            "cms -sign -binary -noattr -md {hash} -outform DER -in message -signer cert -inkey key -out cms"
        ));
    };
    let mut digest = [0; 32];
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&fixture.digest[at..at + 2], 16).unwrap();
    }
    let expires = 4_000_000_000;
    let line = Line { digest, expires }.to_string();
    fs::write(directory.join("message"), line).unwrap();
    let cert = directory.join("cert").display().to_string();
    let cms = directory.join("cms").display().to_string();
    for (key, hashes) in [
        (
            "RSA -pkeyopt rsa_keygen_bits:2048",
            &["sha256", "sha384", "sha512"][..],
        ),
        ("EC -pkeyopt ec_paramgen_curve:P-256", &["sha256", "sha384"]),
        ("EC -pkeyopt ec_paramgen_curve:P-384", &["sha256", "sha384"]),
    ] {
        openssl(&format!("genpkey -quiet -algorithm {key} -out key"));
        for hash in hashes {
            openssl(&format!(
                "req -x509 -new -key key -subj /CN=test -{hash} -days 9 -out cert"
            ));
            sign(hash);
            succeed(&["sign", "--attach", &cms, "--expires", "4000000000", &image]);
            succeed(&["verify", "--cert", &cert, &image]);
        }
        for hash in ["sha1", "sha512"] {
            if !hashes.contains(&hash) {
                sign(hash);
                let line = fail(&["sign", "--attach", &cms, &image], 1);
                assert!(line.contains("no CMS message"), "{line}");
            }
        }
    }
}

/// An ECDSA signature has one hash function, though the message names it twice.
#[test]
fn two_hash_functions() {
    let owner = Owner::new("owner", None, START, END);
    let mut cms = sign(&[7; 32], &key(&owner), &certificate(&owner), &[], None, NOW).unwrap();
    let trusted = [certificate(&owner)];
    assert_eq!(verify(&cms, &[7; 32], &trusted, NOW), Ok(()));
    let hash = [&[0x06, 0x09][..], SHA256].concat();
    for at in 0..cms.cms.len() {
        if cms.cms[at..].starts_with(&hash) {
            // SHA-384.
            cms.cms[at + 10] = 2;
        }
    }
    let result = verify(&cms, &[7; 32], &trusted, NOW);
    assert_eq!(result, Err(Error::Malformed));
}
