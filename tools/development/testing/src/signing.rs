// SPDX-License-Identifier: GPL-2.0-only

//! Reads signatures that may hold anything, as the kernel module and the tools do, also for the
//! fuzz target.

use crate::certificate::element;
use crate::random::Random;
use crate::specimen::unpadded;
use daxfs_reader::layout::SIGNATURE_MAX;
use daxfs_reader::signature::{Line, Section};
use daxfs_reader::{Image, Memory, Problem, Superblock};
use daxfs_signature::cms::{Certificate, Message, ALGORITHMS, CERTIFICATES_MAX, HASHES};
use daxfs_signature::der::{
    Reader, BIT_STRING, CONTEXT_0, GENERALIZED_TIME, INTEGER, OBJECT, OCTET_STRING, SEQUENCE, SET,
    UTC_TIME,
};
use daxfs_signature::{attach, verify, Signed};
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
            assert_eq!(signed.to_string().parse().as_ref(), Ok(signed));
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
    let certificates: Vec<_> = signature.certificates().collect();
    assert!((1..=CERTIFICATES_MAX).contains(&certificates.len()));
    assert!(certificates
        .iter()
        .any(|certificate| certificate.whole == signature.signer.whole));
    let mut trusted = Vec::new();
    for certificate in &certificates {
        times(&signature, certificate);
        // As the tools read one from a file.
        trusted.push(daxfs_signature::Certificate::parse(certificate.whole).unwrap());
    }
    for trusted in [&trusted[..], &trusted[..1], &[]] {
        let now = signature.signer.not_before;
        let _ = verify(&signed_by(cms), &[0; 32], trusted, now);
    }
    true
}

/// Check the times of a certificate, and of the whole `signature`, around the limits.
fn times(signature: &Message<'_>, certificate: &Certificate<'_>) {
    let (first, last) = (certificate.not_before, certificate.not_after);
    for now in [i64::MIN, first - 1, first, last, last + 1, i64::MAX] {
        let is_valid = |certificate: &Certificate<'_>| {
            let expected = (certificate.not_before..=certificate.not_after).contains(&now);
            assert_eq!(certificate.check_times(now).is_ok(), expected);
            expected
        };
        let all = signature
            .certificates()
            .all(|certificate| is_valid(&certificate));
        assert_eq!(signature.check_times(now).is_ok(), all);
    }
}

/// An element of DER.
#[derive(Clone)]
struct Node {
    tag: u8,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Elements(Vec<Node>),
    Bytes(Vec<u8>),
}

/// Return the elements in `bytes`; `None` if they are malformed.
fn nodes(bytes: &[u8]) -> Option<Vec<Node>> {
    let mut reader = Reader::new(bytes);
    let mut nodes = Vec::new();
    while !reader.is_empty() {
        let element = reader.any()?;
        // Bit 5 says that an element contains others.
        let inside = match element.tag & 0x20 {
            0 => None,
            _ => self::nodes(element.content),
        };
        nodes.push(Node {
            tag: element.tag,
            content: match inside {
                Some(inside) => Content::Elements(inside),
                None => Content::Bytes(element.content.to_vec()),
            },
        });
    }
    Some(nodes)
}

fn encode(nodes: &[Node]) -> Vec<u8> {
    let encode_one = |node: &Node| match &node.content {
        Content::Elements(inside) => element(node.tag, &[&encode(inside)]),
        Content::Bytes(bytes) => element(node.tag, &[bytes]),
    };
    nodes.iter().flat_map(encode_one).collect()
}

/// Return each list of elements that is not empty, in an element and in the message.
fn lists(nodes: &[Node], paths: &mut Vec<Vec<usize>>, path: &mut Vec<usize>) {
    if !nodes.is_empty() {
        paths.push(path.clone());
    }
    for (number, node) in nodes.iter().enumerate() {
        if let Content::Elements(inside) = &node.content {
            path.push(number);
            lists(inside, paths, path);
            path.pop();
        }
    }
}

/// Change an element of the first `size` bytes of `data`, a message in DER, and return the new size.
/// The lengths of those that contain it are corrected.
pub fn mutate(data: &mut [u8], size: usize, seed: u32) -> usize {
    let mut random = Random(seed.into());
    let Some(mut message) = nodes(&data[..size]).filter(|nodes| !nodes.is_empty()) else {
        return size;
    };
    let mut paths = Vec::new();
    lists(&message, &mut paths, &mut Vec::new());
    let [from, to] = [(); 2].map(|()| random.one_of(&paths));
    let other = random.one_of(list(&mut message, &from));
    let list = list(&mut message, &to);
    let number = random.below(list.len());
    match random.below(8) {
        0 => drop(list.remove(number)),
        1 => list.insert(number, other),
        2 => list[number] = other,
        3 => {
            let with = random.below(list.len());
            list.swap(number, with);
        }
        4 => {
            list[number].tag = random.one_of(&[
                INTEGER,
                BIT_STRING,
                OCTET_STRING,
                OBJECT,
                SEQUENCE,
                SET,
                UTC_TIME,
                GENERALIZED_TIME,
                CONTEXT_0,
            ])
        }
        _ => change(&mut list[number], &mut random),
    }
    let bytes = encode(&message);
    match data.get_mut(..bytes.len()) {
        Some(place) => place.copy_from_slice(&bytes),
        None => return size,
    }
    bytes.len()
}

/// Return the list of elements at `path`.
fn list<'a>(nodes: &'a mut Vec<Node>, path: &[usize]) -> &'a mut Vec<Node> {
    path.iter().fold(nodes, |nodes, &number| {
        let Content::Elements(inside) = &mut nodes[number].content else {
            unreachable!("the path leads to elements");
        };
        inside
    })
}

/// Change the content of an element.
fn change(node: &mut Node, random: &mut Random) {
    let Content::Bytes(bytes) = &mut node.content else {
        // The content can be changed too, by another choice.
        node.content = Content::Elements(Vec::new());
        return;
    };
    match node.tag {
        OBJECT => *bytes = random.one_of(&[HASHES, ALGORITHMS].concat()).to_vec(),
        UTC_TIME | GENERALIZED_TIME if random.below(2) == 0 => {
            let times: &[&[u8]] = &[
                b"491231235959Z",
                b"500101000000Z",
                b"000229000000Z",
                b"00000101000000Z",
                b"99991231235959Z",
                b"21000229000000Z",
                b"20000101000000+0000",
            ];
            *bytes = random.one_of(times).to_vec();
        }
        _ => match random.below(4) {
            0 => bytes.push(random.next() as u8),
            1 => drop(bytes.pop()),
            2 => bytes.resize(random.one_of(&[0, 1, 127, 128, 255, 256, 1024]), 0),
            _ if bytes.is_empty() => (),
            _ => {
                let place = random.below(bytes.len());
                bytes[place] = random.one_of(&[0, 1, b'0', b'9', 0x7f, 0x80, 0xff]);
            }
        },
    }
}
