// SPDX-License-Identifier: GPL-2.0-only

//! Valid images with a few bytes changed, and what the reader and the checker report.

use daxfs_check::{check_with_packs, Finding};
use daxfs_reader::hash::name_hash;
use daxfs_reader::layout::Dirent;
use daxfs_reader::{self as image, Image, Problem};
use daxfs_testing::builder::{seal, specimen, superblock};
use daxfs_testing::reader::read_everything;
use std::mem::{offset_of, size_of};
use std::ops::ControlFlow;
use zerocopy::{Immutable, IntoBytes};

/// Offset of a field of the superblock.
macro_rules! sb {
    ($($field:ident).+) => {
        offset_of!(Superblock, $($field).+) as u64
    };
}

/// Offset of a field of an inode.
macro_rules! inode {
    ($ino:expr, $field:ident) => {
        superblock(&specimen()).inodes.offset.get()
            + u64::from($ino - 1) * size_of::<Inode>() as u64
            + offset_of!(Inode, $field) as u64
    };
}

/// Offset of a field of an entry of the root.
macro_rules! dirent {
    ($name:expr, $field:ident) => {
        superblock(&specimen()).dirents.offset.get()
            + u64::from(position($name)) * size_of::<Dirent>() as u64
            + offset_of!(Dirent, $field) as u64
    };
}

const NAMES: [&str; 7] = ["dir", "file", "empty", "link", "device", "fifo", "other"];

/// Returns the index of the root's entry `name`.
pub fn position(name: &str) -> u32 {
    let hash = name_hash(name.as_bytes());
    NAMES
        .iter()
        .filter(|other| name_hash(other.as_bytes()) < hash)
        .count() as u32
}

pub fn name_offset(name: &str) -> u64 {
    let image = specimen();
    let at = dirent!(name, name_low) as usize;
    let low = u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
    superblock(&image).names.offset.get() + u64::from(low)
}

pub fn xattrs() -> u64 {
    superblock(&specimen()).xattrs.offset.get()
}

/// Returns a valid image with `bytes` at `offset` and matching checksums.
pub fn with(changes: &[(u64, &[u8])]) -> Vec<u8> {
    let mut image = specimen();
    for (offset, bytes) in changes {
        let offset = *offset as usize;
        image[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
    seal(&mut image);
    image
}

/// Returns the checker's findings in `image`, without packs.
pub fn findings(image: &[u8]) -> Vec<Finding> {
    findings_with(image, None)
}

/// Returns the checker's findings in `image` with the pack `pack`.
pub fn findings_with(image: &[u8], pack: Option<&[u8]>) -> Vec<Finding> {
    let superblock = pack.map(|pack| image::Superblock::load(&pack).unwrap());
    let pack = pack.as_ref().zip(superblock.as_ref());
    let packs = pack.map(|(pack, superblock)| Some(Image::new(pack, superblock)));
    let mut findings = Vec::new();
    check_with_packs(&image, packs.as_slice(), &mut |finding| {
        findings.push(finding);
        ControlFlow::Continue(())
    });
    findings
}

/// Checks that reader and checker find `problem` at `offset` in `image` with the pack `pack`.
#[track_caller]
pub fn has_problem(image: &[u8], pack: Option<&[u8]>, problem: Problem, offset: u64) {
    let matches = |error: &image::Error| (error.problem, error.offset) == (problem, offset);
    let errors = read_everything(&image);
    let is_read = errors.iter().any(matches);
    assert!(is_read, "{problem:?} at {offset:#x} not in {errors:?}");
    let found = findings_with(image, pack);
    let matches = |finding: &Finding| matches!(finding, Finding::Reader(error) if matches(error));
    let is_found = found.iter().any(matches);
    assert!(is_found, "{problem:?} at {offset:#x} not in {found:?}");
}

/// Checks that the checker finds a violation of `what` at `offset` in `image` with `pack`.
#[track_caller]
pub fn breaks_rule(image: &[u8], pack: Option<&[u8]>, what: &str, offset: u64) {
    let found = findings_with(image, pack);
    let expected = |finding: &Finding| matches!(finding, Finding::Rule { what: is, offset: at, .. } if *is == what && *at == offset);
    let is_found = found.iter().any(expected);
    assert!(is_found, "{what} at {offset:#x} not in {found:?}");
}

/// Checks that the reader and the checker find `problem` at `offset`.
pub fn refused(changes: &[(u64, &[u8])], problem: Problem, offset: u64) {
    has_problem(&with(changes), None, problem, offset);
}

/// Checks that reader and checker find `problem` at `offset` if the field there is one of `values`.
pub fn wrong<T: IntoBytes + Immutable>(
    offset: u64,
    problem: Problem,
    values: impl IntoIterator<Item = T>,
) {
    for value in values {
        refused(&[(offset, value.as_bytes())], problem, offset);
    }
}

/// Checks that the checker finds a violation of `what` at `offset`, but the reader accepts it.
pub fn violated(changes: &[(u64, &[u8])], what: &str, offset: u64) {
    assert_eq!(read_everything(&with(changes).as_slice()), []);
    checked(changes, what, offset);
}

/// Checks that the checker finds a violation of the rule `what` at `offset`.
pub fn checked(changes: &[(u64, &[u8])], what: &str, offset: u64) {
    breaks_rule(&with(changes), None, what, offset);
}
