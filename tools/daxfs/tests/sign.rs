// SPDX-License-Identifier: GPL-2.0-only

//! `sign` and `verify`, and how other commands handle signatures.

use crate::support::{certificate, digest, fixture, place, Place, DECADES};
use daxfs_reader::layout::SIGNATURE_MAGIC;
use daxfs_testing::{image_with, options};

const SIGN: &str = "daxfs sign --key owner.key --cert owner.pem image";
const PAST: &str = "20000101000000Z 20010101000000Z";
const VERIFY: &str = "daxfs verify --cert owner.pem image";

/// Creates a place with an image and the owner of a key.
fn owned() -> Place {
    let place = fixture();
    place.shell(certificate("owner", "owner", DECADES));
    place
}

#[test]
fn commands() {
    let place = owned();
    place.shell(certificate("old", "old", PAST));
    let future = "20900101000000Z 20990101000000Z";
    place.shell(certificate("future", "future", future));
    place.shell("openssl x509 -in owner.pem -outform DER -out owner.der");
    let sum = digest(&place) + "\n";
    place.fails(VERIFY, "not signed");

    for line in [
        SIGN,
        "daxfs digest image",
        "daxfs verify --cert old.pem --cert owner.der image",
    ] {
        assert_eq!(place.ok(line).text(), sum, "{line}");
    }
    // The default is the end of the certificate.
    place.prints("daxfs info image", ", expires 2099-01-01 00:00:00");
    place.prints("daxfs fsck image", ": clean, ");

    // Signed by another program.
    let bytes = place.read("image");
    let mut windows = bytes.windows(8);
    let at = windows.position(|bytes| bytes == SIGNATURE_MAGIC).unwrap();
    let length = u32::from_le_bytes(bytes[at + 48..at + 52].try_into().unwrap()) as usize;
    place.write("cms", &bytes[at + 56..at + 56 + length]);
    place.ok("daxfs sign --attach cms --expires 4070908800 image");
    assert_eq!(place.read("image"), bytes);
    place.shell("openssl crl2pkcs7 -nocrl -certfile owner.pem -outform DER -out unsigned; (cat cms; echo x) >trail; cat cms $(yes cms | head -30) >long");
    place.mistakes(&format!(
        "daxfs sign --attach cms image | 2 | --expires
         daxfs sign --attach cms --expires 4070908801 image | 1 | cms: openssl: CMS Verification failure: provider signature failure: ECDSA verify: verification failure: content verify error
         daxfs sign --attach owner.pem --expires 4070908800 image | 1 | owner.pem: openssl: Error reading
         daxfs sign --attach trail --expires 4070908800 image | 1 | trail: the kernel does not take signatures of this form
         daxfs sign --attach unsigned --expires 4070908800 image | 1 | no signers
         daxfs sign --attach long --expires 4070908800 image | 1 | more than 16384
         {SIGN} --expires 4070908801 | 1 | certificate expires before
         {SIGN} --expires 1000000000 | 1 | signature has expired
         {SIGN} --expires '' | 2 | ''
         {SIGN} --expires x | 2 | 'x'
         {SIGN} --expires -1 | 2 | '-1'
         {SIGN} --expires 1e9 | 2 | '1e9'
         {SIGN} --expires 18446744073709551616 | 2 | '18446744073709551616'
         daxfs sign --key old.key --cert old.pem image | 1 | has expired
         daxfs sign --key future.key --cert future.pem image | 1 | certificate is not yet valid
         daxfs sign --key old.key --cert owner.pem image | 1 | owner.pem: openssl: key values mismatch: private key does not match
         daxfs sign --key owner.pem --cert owner.pem image | 1 | owner.pem: openssl: Could not
         daxfs sign --key owner.key --cert owner.key image | 1 | owner.key: openssl: Could not find certificate: unsupported
         daxfs verify --cert none image | 1 | none: cannot open: No such file or directory; check the path
         mkfifo fifo; timeout 10 daxfs verify --cert fifo image; r=$?; rm fifo; exit $r | 1 | fifo: openssl: Could not
         mkfifo fifo; timeout 10 daxfs sign --attach fifo --expires 1 image; r=$?; rm fifo; exit $r | 1 | fifo: openssl:
         daxfs sign --cert owner.pem image | 2 | --key
         cp image ./-; daxfs sign --attach cms --expires 1 - <image; r=$?; rm ./-; exit $r | 1 | standard input: is not a regular file
         PATH=$(dirname $(command -v daxfs)); {VERIFY} | 1 | owner.pem: cannot run openssl: No such file or directory; install the package openssl"
    ));
    assert_eq!(place.read("image"), bytes);
    place.ok(format!("{SIGN} --expires 4000000000"));
    place.fails(
        "daxfs verify --cert old.pem image",
        "self-signed certificate",
    );
    place.ok(VERIFY);
    place.prints("daxfs info image", ", expires 2096-10-02 07:06:40");

    let mut damaged = bytes.clone();
    damaged[at + 100] ^= 1;
    place.write("image", &damaged);
    place.fails(VERIFY, "malformed signature");
    place.says("daxfs fsck image", 4, "malformed signature");
    // An interrupted write leaves the signature of no image, which the next one replaces.
    damaged[at + 8..at + 40].fill(0);
    place.write("image", &damaged);
    place.ok(SIGN);
    // The image is compared, not just the line.
    let mut other = bytes;
    other[8192] ^= 1;
    place.write("image", &other);
    place.fails(VERIFY, "SHA-256 is");
}

/// Nothing remains of openssl's input.
#[test]
fn killed() {
    let place = owned();
    place.ok(SIGN);
    place.shell(
        "mkdir bin tmp; printf '#!/bin/sh\nkill -9 $PPID\n' >bin/openssl; chmod +x bin/openssl",
    );
    for line in [SIGN, VERIFY] {
        let run = place.run(format!("PATH=$PWD/bin:$PATH TMPDIR=$PWD/tmp {line}"));
        assert_eq!(run.status, -9, "{run:?}");
        assert_eq!(place.names("tmp"), [""; 0]);
    }
}

/// Signatures that another program can make, but daxfs cannot.
#[test]
fn times() {
    let place = owned();
    place.shell(certificate("old", "old", PAST));
    let sum = digest(&place);
    for (owner, expires, why) in [
        ("owner", 1_000_000_000, "the signature has expired"),
        ("old", 4_000_000_000_u64, "certificate has expired"),
    ] {
        place.shell(format!(
            "echo daxfs sha256 {sum} expires {expires} | openssl cms -sign -binary -noattr -md sha256 -outform DER \
               -signer {owner}.pem -inkey {owner}.key -out cms"
        ));
        place.ok(format!("daxfs sign --attach cms --expires {expires} image"));
        place.fails(format!("daxfs verify --cert {owner}.pem image"), why);
    }
}

#[test]
fn chains() {
    let place = owned();
    for (name, issuer) in [("root", "root"), ("between", "root"), ("leaf", "between")] {
        place.shell(certificate(name, issuer, DECADES));
    }
    place.shell("mkdir forged; openssl x509 -in between.pem -outform DER -out between.der");
    // Another authority with the same name.
    let forged = certificate("root", "root", DECADES);
    place.shell(format!("cd forged; {forged}"));
    let signed = "daxfs sign --key leaf.key --cert leaf.pem image";
    place.ok(format!("{signed} --chain between.der"));
    for trusted in ["root", "between", "leaf"] {
        place.ok(format!("daxfs verify --cert {trusted}.pem image"));
    }
    let why = "certificate verify error";
    place.fails("daxfs verify --cert forged/root.pem image", why);
    // The machine's own authorities do not count.
    place.shell(
        "mkdir authorities; cp root.pem between.pem authorities; openssl rehash authorities",
    );
    let machine = "SSL_CERT_DIR=$PWD/authorities SSL_CERT_FILE=$PWD/root.pem";
    place.fails(format!("export {machine}; {VERIFY}"), why);
    place.ok(signed);
    place.fails("daxfs verify --cert root.pem image", why);
    place.ok("daxfs verify --cert between.pem image");
}

/// A signature goes into the padding after the sums, or else the file grows. Keys may come from
/// pipes.
#[test]
fn padding() {
    let place = place("mkdir tree");
    place.shell(certificate("owner", "owner", DECADES));
    // The superblock and the other tables, one block each, precede the data.
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
        place.ok(
            "daxfs sign --key <(sleep 0.1; cat owner.key) --cert <(sleep 0.1; cat owner.pem) image",
        );
        let signed = place.read("image");
        assert_eq!(signed.len() - plain.len(), grows, "{padding} {data}");
        let end = plain.iter().rposition(|&byte| byte != 0).unwrap();
        assert_eq!(signed[..=end], plain[..=end]);
        place.ok(VERIFY);
        if grows > 0 {
            // Another image behind it stays intact.
            place.write("both", [&plain[..], &plain].concat());
            place.mistakes("daxfs sign --key owner.key --cert owner.pem both | 1 | sign a copy of");
        }
    }
}

/// Every kind of key in the format.
#[test]
fn keys() {
    let place = fixture();
    for key in [
        "RSA -pkeyopt rsa_keygen_bits:2048",
        "EC -pkeyopt ec_paramgen_curve:P-256",
        "EC -pkeyopt ec_paramgen_curve:P-384",
    ] {
        place.shell(format!(
            "openssl genpkey -quiet -algorithm {key} -out owner.key
             openssl req -x509 -new -key owner.key -subj /CN=test -days 9 -out owner.pem"
        ));
        place.ok(SIGN);
        place.ok(VERIFY);
    }
}
