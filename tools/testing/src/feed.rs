// SPDX-License-Identifier: GPL-2.0-only

//! Makes archives and container images from any bytes, and processes them; also for the fuzz
//! target.
//!
//! The bytes are a kind of program that assembles members of all types, damaged here and there, so
//! that even a few bytes lead deep. The first byte selects the result: a tar archive of members or
//! of the raw bytes, or layers.

use daxfs_files::digest::hex;
use daxfs_files::{Error, Output, Silent};
use mkdaxfs::input::{read, Input, Options};
use mkdaxfs::writer::options::{self, Tails};
use mkdaxfs::writer::tree::Tree;
use mkdaxfs::writer::{make, measure};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

const BLOCK: usize = 512;

/// Trees with more content are not made into images, which would take too long.
const CONTENT: u64 = 4 << 20;

/// Reads the archive or image that `input` describes, in `directory`, and makes images of it.
///
/// # Panics
///
/// If there is an invalid image, a message of several lines, or a leftover file.
pub fn feed(input: &[u8], directory: &Path) {
    let Some((&mode, rest)) = input.split_first() else {
        return;
    };
    let path = directory.join("input");
    let raw = |bytes: &[u8]| {
        let mut archive = bytes.to_vec();
        archive.resize(bytes.len().next_multiple_of(BLOCK), 0);
        archive
    };
    let input = match mode % 8 {
        0 | 1 => Input::Any(file(&path, &sealed(assembled(rest)))),
        2 => Input::Tar(file(&path, &assembled(rest))),
        3 => Input::Any(file(&path, &sealed(raw(rest)))),
        4 => Input::Any(file(&path, rest)),
        5 => Input::Oci(layout(&path, rest)),
        _ => Input::Oci(file(&path, &bundled(rest))),
    };
    let options = Options {
        warn: &|warning| one_line(&warning),
        ..Options::new(directory)
    };
    match read(&[input], &options) {
        Ok(tree) => image(&tree, directory),
        Err(error) => complaint(&error),
    }
    let removed = if path.is_dir() {
        fs::remove_dir_all(&path)
    } else {
        fs::remove_file(&path)
    };
    removed.unwrap();
    assert_eq!(directory.read_dir().unwrap().count(), 0);
}

/// Builds an image of a tree, or fails with an error that the user can act on.
fn image(tree: &Tree, directory: &Path) {
    let options = options::Options {
        tails: match tree.nodes.len() % 3 {
            0 => Tails::None,
            1 => Tails::Small,
            _ => Tails::All,
        },
        // Otherwise nearly all images would be padding, and writing and checking it would dominate
        // the run time.
        padding: 4096,
        ..Default::default()
    };
    let made = if tree.content_size() <= CONTENT {
        Output::create(&directory.join("image"))
            .and_then(|output| make(tree, &options, &output, &Silent).map(drop))
    } else {
        measure(tree, &options, &Silent).map(drop)
    };
    if let Err(error) = made {
        assert!(!matches!(error, Error::Image { .. }), "{error}");
        complaint(&error);
    }
}

fn complaint(error: &Error) {
    one_line(&error.to_string());
}

fn one_line(text: &str) {
    assert!(
        !text.is_empty() && !text.contains(char::is_control),
        "{text:?}"
    );
}

fn file(path: &Path, bytes: &[u8]) -> PathBuf {
    fs::write(path, bytes).unwrap();
    path.into()
}

// ---- archives -----------------------------------------------------------------------------------------------------

/// Returns a member of an archive, a header followed by data.
pub fn member(name: &[u8], kind: u8, link: &[u8], mode: u32, data: &[u8]) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name);
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0001750\0");
    put(116, b"0000144\0");
    put(124, format!("{:011o}", data.len()).as_bytes());
    put(136, b"13000000000");
    put(156, &[kind]);
    put(157, link);
    put(257, b"ustar\x0000root");
    put(329, b"0000010\x000000021\0");
    seal(&mut block);
    block.extend(data);
    block.resize(block.len().next_multiple_of(BLOCK), 0);
    block
}

/// Corrects the checksum of a header.
pub fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block[..BLOCK].iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

/// Corrects the checksums of all headers that can be distinguished from data.
fn sealed(mut archive: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while at + BLOCK <= archive.len() {
        let header = &mut archive[at..at + BLOCK];
        if header.iter().any(|&byte| byte != 0) {
            seal(header);
        }
        let digits = header[124..136]
            .iter()
            .take_while(|byte| (b'0'..b'8').contains(byte));
        let size = digits.fold(0, |size, digit| size * 8 + u64::from(digit - b'0'));
        let size = size.min(archive.len() as u64) as usize;
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
    archive
}

/// Returns the records of a pax header, which are the data of a member of type `x` or `g`.
pub fn records(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in pairs {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length += 1;
        }
        bytes.extend(format!("{length} {key}=").as_bytes());
        bytes.extend_from_slice(value);
        bytes.push(b'\n');
    }
    bytes
}

/// Returns a sparse member in old GNU tar's format, with its map in two blocks.
fn gnu_sparse() -> Vec<u8> {
    let mut bytes = member(b"old-sparse", b'S', b"", 0o644, &[7; 1024]);
    for (at, text) in [(386, 0), (398, 512), (410, 8192), (422, 512)] {
        bytes[at..at + 11].copy_from_slice(format!("{text:011o}").as_bytes());
    }
    bytes[482] = 1;
    bytes[483..494].copy_from_slice(format!("{:011o}", 10_000).as_bytes());
    let mut more = vec![0; BLOCK];
    more[..11].copy_from_slice(format!("{:011o}", 10_000).as_bytes());
    more[12..23].copy_from_slice(b"00000000000");
    bytes.splice(BLOCK..BLOCK, more);
    seal(&mut bytes);
    bytes
}

fn members() -> Vec<Vec<u8>> {
    let pax = |kind, text: &str| {
        let pairs = text.split(' ').map(|pair| pair.split_once('=').unwrap());
        let pairs: Vec<_> = pairs.map(|(key, value)| (key, value.as_bytes())).collect();
        member(b"pax", kind, b"", 0o644, &records(&pairs))
    };
    let long = |kind, letter, count| {
        let name = [&b"dir/"[..], &vec![letter; count], b"\0"].concat();
        member(b"././@LongLink", kind, b"", 0, &name)
    };
    let file = |name: &[u8], data: &[u8]| member(name, b'0', b"", 0o4755, data);
    let mut sparse_map = b"2\n0\n5\n9000\n5\n".to_vec();
    sparse_map.resize(BLOCK, 0);
    sparse_map.extend(b"firstlast.");
    vec![
        member(b"./", b'5', b"", 0o755, b""),
        member(b"dir/", b'5', b"", 0o700, b""),
        file(b"dir/file", b"content"),
        file(b"dir/more", &[b'x'; 5000]),
        file(b"dir/same", &[b'x'; 5000]),
        member(b"hard", b'1', b"dir/file", 0o644, b""),
        member(b"link", b'2', b"dir", 0o777, b""),
        file(b"link/through", b"a link"),
        member(b"up", b'2', b"../../up/./link", 0o777, b""),
        member(b"dev", b'3', b"", 0o600, b""),
        member(b"disk", b'4', b"", 0o600, b""),
        member(b"fifo", b'6', b"", 0o600, b""),
        long(b'L', b'n', 200),
        long(b'K', b't', 300),
        gnu_sparse(),
        pax(
            b'x',
            "path=dir/pax mtime=1600000000.123456789 size=7 uid=4000000000",
        ),
        pax(b'x', "SCHILY.xattr.user.name=value\n linkpath=hard"),
        pax(
            b'x',
            "SCHILY.acl.access=user::rw-,user:7:r--,group::r--,mask::r--,other::--- \
             SCHILY.acl.default=user::rwx,group::---,other::---",
        ),
        pax(
            b'x',
            "GNU.sparse.major=1 GNU.sparse.minor=0 GNU.sparse.name=new GNU.sparse.realsize=9005",
        ),
        file(b"GNUSparseFile.0/new", &sparse_map),
        pax(
            b'x',
            "GNU.sparse.size=20000 GNU.sparse.map=0,3,10000,4 GNU.sparse.name=mapped",
        ),
        pax(
            b'x',
            "GNU.sparse.size=200 GNU.sparse.numblocks=1 GNU.sparse.offset=20 GNU.sparse.numbytes=7",
        ),
        pax(b'g', "mtime=-1.5 comment=all"),
        file(b"dir/.wh.file", b""),
        file(b"dir/.wh..wh..opq", b""),
        file(b".wh.dir", b""),
        vec![0; 2 * BLOCK],
        vec![0; BLOCK],
    ]
}

struct Program<'a>(&'a [u8]);

impl Program<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    fn damage(&mut self, bytes: &mut [u8]) {
        for _ in 0..self.byte() % 4 {
            let at = (usize::from(self.byte()) << 8) | usize::from(self.byte());
            let with = self.byte();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= with;
            }
        }
    }

    /// Returns an archive of the next members, up to the byte that ends the archive.
    fn archive(&mut self) -> Vec<u8> {
        let members = members();
        let mut archive = Vec::new();
        while !self.0.is_empty() {
            let number = self.byte();
            if number == 255 {
                break;
            }
            let mut member = members[usize::from(number) % members.len()].clone();
            self.damage(&mut member);
            archive.extend(member);
        }
        archive
    }

    fn text(&mut self, text: String) -> Vec<u8> {
        let mut bytes = text.into_bytes();
        self.damage(&mut bytes);
        bytes
    }
}

fn assembled(program: &[u8]) -> Vec<u8> {
    Program(program).archive()
}

// ---- container images ---------------------------------------------------------------------------------------------

/// Returns the blobs of a layout, each with its digest, and its index.
fn blobs(program: &[u8]) -> (Vec<(String, Vec<u8>)>, Vec<u8>) {
    let mut program = Program(program);
    let mut blobs = Vec::new();
    let mut blob = |kind: &str, bytes: Vec<u8>| {
        let digest = hex(&Sha256::digest(&bytes));
        let media = format!("application/vnd.oci.image.{kind}");
        let size = bytes.len();
        let text = format!(r#"{{"mediaType":"{media}","digest":"sha256:{digest}","size":{size}}}"#);
        blobs.push((digest, bytes));
        text
    };
    // Texts come first, so that a short program reaches them.
    let mut damages: Vec<Vec<u8>> = Vec::new();
    for _ in 0..2 {
        let count = usize::from(program.byte() % 4) * 3;
        let (these, rest) = program.0.split_at(count.min(program.0.len()));
        damages.push([&[(these.len() / 3) as u8][..], these].concat());
        program.0 = rest;
    }
    let mut layers = Vec::new();
    while !program.0.is_empty() && layers.len() < 4 {
        layers.push(blob("layer.v1.tar", sealed(program.archive())));
    }
    let config = blob("config.v1+json", b"{}".to_vec());
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{config},"layers":[{}]}}"#,
        layers.join(",")
    );
    let manifest = blob("manifest.v1+json", Program(&damages[0]).text(manifest));
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{manifest}]}}"#);
    (blobs, Program(&damages[1]).text(index))
}

fn layout(path: &Path, program: &[u8]) -> PathBuf {
    let (blobs, index) = blobs(program);
    fs::create_dir_all(path.join("blobs/sha256")).unwrap();
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(path.join("index.json"), index).unwrap();
    for (digest, bytes) in blobs {
        fs::write(path.join("blobs/sha256").join(digest), bytes).unwrap();
    }
    path.into()
}

fn bundled(program: &[u8]) -> Vec<u8> {
    let (blobs, index) = blobs(program);
    let mut archive = member(
        b"oci-layout",
        b'0',
        b"",
        0o644,
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    );
    archive.extend(member(b"index.json", b'0', b"", 0o644, &index));
    for (digest, bytes) in blobs {
        let name = format!("blobs/sha256/{digest}");
        archive.extend(member(name.as_bytes(), b'0', b"", 0o644, &bytes));
    }
    archive.extend([0; 2 * BLOCK]);
    archive
}
