// SPDX-License-Identifier: GPL-2.0-only

//! `sign` and `verify`, and what other commands do with a signature.

use crate::support::{available, digest, fixture, place};
use daxfs_reader::layout::SIGNATURE_MAGIC;
use daxfs_reader::signature::Line;
use daxfs_signature::{certificate, sign, verify, Certificate, Error, Key, Signed};
use daxfs_testing::certificate::Owner;
use daxfs_testing::{image_with, options};

/// OBJECT IDENTIFIER of SHA-256, 2.16.840.1.101.3.4.2.1.
const SHA256: &[u8] = &[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
const START: &str = "20000101000000Z";
const END: &str = "20990101000000Z";
/// A time between them, and times outside them.
const NOW: u64 = 1_700_000_000;
const BEFORE: u64 = 946_684_799;
const AFTER: u64 = 4_070_908_801;
const END_SECOND: u64 = 4_070_908_800;

fn certificate(owner: &Owner) -> Certificate {
    certificate::parse(&owner.certificate).unwrap()
}

fn key(owner: &Owner) -> Key {
    Key::parse(&owner.key).unwrap()
}

/// Return a signature of the image with the SHA-256 `[7; 32]`.
fn signed(owner: &Owner, others: &[Certificate]) -> Signed {
    let certificate = certificate(owner);
    sign(&[7; 32], &key(owner), &certificate, others, None, NOW).unwrap()
}

#[test]
fn messages() {
    let (one, other) = (
        Owner::new("one", None, START, END),
        Owner::new("other", None, START, END),
    );
    let cms = signed(&one, &[]);
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
    assert_eq!(until(NOW - 1), Err(Error::Expired));
    let mut short = until(NOW).unwrap();
    let trusted = [certificate(&one)];
    assert_eq!(verify(&short, &[7; 32], &trusted, NOW), Ok(()));
    assert_eq!(
        verify(&short, &[7; 32], &trusted, NOW + 1),
        Err(Error::Expired)
    );
    for expires in [0, NOW - 1, NOW + 1, END_SECOND, u64::MAX] {
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
    let digest = [7; 32];
    let whole = signed(&leaf, &certificates);
    assert_eq!(verify(&whole, &digest, &trusted, NOW), Ok(()));
    let part = signed(&leaf, &[]);
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
    let Signed { expires, cms } = signed(&owner, &[]);
    let trusted = [certificate(&owner)];
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
        let (key, certificate) = (key(&owner), certificate(&owner));
        sign(&[7; 32], &key, &certificate, &others, None, NOW)
    };
    assert!(sign_with(7).is_ok());
    assert_eq!(sign_with(8), Err(Error::TooLarge));
    let long = Owner::new(&"x".repeat(1024), None, START, END);
    let parsed = certificate::parse(&long.certificate);
    assert_eq!(parsed, Err(Error::Certificate));

    let cms = sign_with(0).unwrap();
    let trusted = [certificate(&owner)];
    let places: Vec<_> = (0..cms.cms.len())
        .filter(|&at| cms.cms[at..].starts_with(SHA256))
        .collect();
    // In the list in front, and in the SignerInfo.
    assert_eq!(places.len(), 2);
    let (sha224, sha384) = (4, 2);
    for (changed, hash) in [
        (&places[..1], sha224),
        (&places[1..], sha224),
        (&places[..], sha224),
        // An ECDSA signature has one hash function.
        (&places[..], sha384),
    ] {
        let mut other = cms.clone();
        changed.iter().for_each(|&at| other.cms[at + 10] = hash);
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
    let place = fixture();
    let owner = Owner::new("owner", None, START, END);
    place.write("key.pem", owner.key_pem());
    place.write("cert.pem", owner.certificate_pem());
    place.write("cert.der", &owner.certificate);
    let expired = Owner::new("old", None, START, "20010101000000Z");
    place.write("old.key", expired.key_pem());
    place.write("old.pem", expired.certificate_pem());
    let sum = digest(&place) + "\n";
    place.fails("daxfs verify --cert cert.pem image", "not signed");

    for line in [
        "daxfs sign --key key.pem --cert cert.pem image",
        "daxfs digest image",
        "daxfs verify --cert cert.der image",
    ] {
        assert_eq!(place.ok(line).text(), sum, "{line}");
    }
    let has = |line: &str, part: &str| {
        let run = place.ok(line);
        assert!(run.text().contains(part), "{run:?}");
    };
    has("daxfs info image", "Signature: ");
    has("daxfs fsck image", ": clean, ");

    // Signed elsewhere.
    let bytes = place.read("image");
    let mut windows = bytes.windows(8);
    let at = windows.position(|bytes| bytes == SIGNATURE_MAGIC).unwrap();
    let length = u32::from_le_bytes(bytes[at + 48..at + 52].try_into().unwrap()) as usize;
    place.write("cms", &bytes[at + 56..at + 56 + length]);
    place.ok("daxfs sign --attach cms image");
    assert_eq!(place.read("image"), bytes);
    // The signature covers the end.
    let later = END_SECOND + 1;
    place.ok(format!("daxfs sign --attach cms --expires {later} image"));
    place.fails("daxfs verify --cert cert.pem image", "wrong signature");
    let sign = "daxfs sign --key key.pem --cert cert.pem image --expires";
    place.mistakes(&format!(
        "daxfs sign --attach cert.pem image | 1 | no CMS message
         {sign} {later} | 1 | certificate expires before
         {sign} 1000000000 | 1 | signature has expired
         {sign} '' | 2 | ''
         {sign} x | 2 | 'x'
         {sign} -1 | 2 | '-1'
         {sign} 1e9 | 2 | '1e9'
         {sign} 18446744073709551616 | 2 | '18446744073709551616'
         daxfs sign --key old.key --cert old.pem image | 1 | has expired
         daxfs sign --key old.key --cert cert.pem image | 1 | does not match the certificate
         daxfs sign --key cert.pem --cert cert.pem image | 1 | no private key
         daxfs sign --cert cert.pem image | 2 | --key
         cp image ./-; daxfs sign --attach cms - <image; r=$?; rm ./-; exit $r | 1 | standard input: is not a regular file"
    ));
    place.ok(format!("{sign} 4000000000"));
    place.fails("daxfs verify --cert old.pem image", "somebody else");
    place.ok("daxfs verify --cert cert.pem image");
    has("daxfs info image", ", expires 2096-10-02 07:06:40");

    let mut damaged = bytes;
    damaged[at + 100] ^= 1;
    place.write("image", &damaged);
    place.fails("daxfs verify --cert cert.pem image", "malformed signature");
    let found = place.run("daxfs fsck image");
    let why = "malformed signature";
    assert!(found.status == 4 && found.stderr.contains(why), "{found:?}");
    // An interrupted write leaves the signature of no image, which the next one replaces.
    damaged[at + 8..at + 40].fill(0);
    place.write("image", &damaged);
    place.ok("daxfs sign --key key.pem --cert cert.pem image");
}

/// A signature goes into the padding after the sums. Without room, the file grows. A key may come from a pipe.
#[test]
fn padding() {
    let place = place("mkdir tree");
    let owner = Owner::new("owner", None, START, END);
    place.write("key.pem", owner.key_pem());
    place.write("cert.pem", owner.certificate_pem());
    // A block each for the superblock and the other tables come before the data.
    for (padding, sums, data, grows) in [
        (4 << 10, false, 4 << 10, 4 << 10),
        (4 << 10, true, 4 << 10, 0),
        (2 << 20, false, (2 << 20) - (2 << 12), 2 << 20),
        (2 << 20, true, 1 << 20, 0),
    ] {
        place.write("tree/file", vec![7; data]);
        let mut options = options();
        (options.padding, options.sums, options.huge_threshold) = (padding, sums, 1 << 30);
        image_with(&place.path("tree"), &place.path("image"), &options).unwrap();
        let plain = place.read("image");
        place.ok("daxfs sign --key <(sleep 0.1; cat key.pem) --cert cert.pem image");
        let signed = place.read("image");
        assert_eq!(signed.len() - plain.len(), grows, "{padding} {data}");
        let end = plain.iter().rposition(|&byte| byte != 0).unwrap();
        assert_eq!(signed[..=end], plain[..=end]);
        place.ok("daxfs verify --cert cert.pem image");
        if grows > 0 {
            // Another image that follows stays.
            place.write("both", [&plain[..], &plain].concat());
            let row = "daxfs sign --key key.pem --cert cert.pem both | 1 | sign a copy of";
            place.mistakes(row);
        }
    }
}

/// Every kind of signature that the format has, made by openssl, and some that it does not have.
#[test]
fn algorithms() {
    if !available("openssl") {
        return;
    }
    let place = fixture();
    let sum = digest(&place);
    let bytes = |at| u8::from_str_radix(&sum[at..at + 2], 16).unwrap();
    let expires = 4_000_000_000;
    let line = Line {
        digest: std::array::from_fn(|index| bytes(2 * index)),
        expires,
    };
    place.write("message", line.to_string());
    let sign = |hash: &str| {
        place.shell(format!(
            "openssl cms -sign -binary -noattr -md {hash} -outform DER -in message -signer cert -inkey key -out cms"
        ));
    };
    for (key, hashes) in [
        (
            "RSA -pkeyopt rsa_keygen_bits:2048",
            &["sha256", "sha384", "sha512"][..],
        ),
        ("EC -pkeyopt ec_paramgen_curve:P-256", &["sha256", "sha384"]),
        ("EC -pkeyopt ec_paramgen_curve:P-384", &["sha256", "sha384"]),
    ] {
        place.shell(format!("openssl genpkey -quiet -algorithm {key} -out key"));
        for hash in hashes {
            let make = "openssl req -x509 -new -key key -subj /CN=test -days 9 -out cert";
            place.shell(format!("{make} -{hash}"));
            sign(hash);
            place.ok(format!("daxfs sign --attach cms --expires {expires} image"));
            place.ok("daxfs verify --cert cert image");
        }
        for hash in ["sha1", "sha512"] {
            if !hashes.contains(&hash) {
                sign(hash);
                place.fails("daxfs sign --attach cms image", "no CMS message");
            }
        }
    }
}
