// SPDX-License-Identifier: GPL-2.0

//! The whole way from a tree to an image.

use crate::cached::Cached;
use crate::check;
use crate::compare::{compare, contents, FileAt};
use crate::content::{self, Fingerprint};
use crate::digest::pass;
use crate::duplicates::Duplicates;
use crate::image::{layout, memory, Image, Superblock};
use crate::memory::FileMemory;
use crate::plan::Plan;
use crate::tree::Tree;
use crate::write::{metadata, put_superblock, superblock, Options};
use crate::{Error, Output, Progress, Result};
use std::thread;
use uuid::Uuid;
use zerocopy::IntoBytes;

/// What was made.
pub struct Summary {
    /// Bytes of the image.
    pub total_size: u64,
    /// Number of inodes.
    pub inodes: u64,
    /// UUID.
    pub uuid: Uuid,
    /// SHA-256 of the image.
    pub digest: [u8; 32],
}

/// Writes an image of `tree` to `output` and verifies it.
///
/// # Errors
///
/// Whatever went wrong; `output` then is not fit to be committed.
pub fn make(
    tree: &Tree,
    options: &Options,
    output: &Output,
    progress: &dyn Progress,
) -> Result<Summary> {
    let (image, path) = (output.file(), output.path());
    let duplicates = duplicates(tree, options, progress)?;
    let plan = Plan::new(tree, &duplicates, options)?;
    output.reserve(plan.total_size)?;

    let content = plan.extents.iter().map(|extent| extent.size).sum();
    progress.step("writing", content);
    content::check_empty(tree)?;
    let sums = metadata(tree, &plan, image, path)?;
    let fingerprints = content::copy(tree, &plan, &duplicates, image, path, progress)?;
    let mut record = superblock(tree, &plan, options, sums, &fingerprints);
    put_superblock(&mut record, image, path)?;

    progress.step("verifying", plan.total_size);
    record.sha256 = verify(tree, &plan, &fingerprints, output, progress)?;
    put_superblock(&mut record, image, path)?;
    verify_superblock(&record, output)?;
    Ok(Summary {
        total_size: plan.total_size,
        inodes: plan.order.len() as u64,
        uuid: Uuid::from_bytes(record.uuid),
        digest: record.sha256,
    })
}

/// How many bytes and inodes an image of `tree` would have.
///
/// # Errors
///
/// As [`make`], as far as that can be told without reading all content of files.
pub fn measure(tree: &Tree, options: &Options, progress: &dyn Progress) -> Result<(u64, u64)> {
    let plan = Plan::new(tree, &duplicates(tree, options, progress)?, options)?;
    Ok((plan.total_size, plan.order.len() as u64))
}

fn duplicates(tree: &Tree, options: &Options, progress: &dyn Progress) -> Result<Duplicates> {
    match options.dedupe {
        true => Duplicates::find(tree, progress),
        false => Ok(Duplicates::default()),
    }
}

/// Reads the whole image back, once, for its digest, which is returned, and the fingerprints of what it holds.
/// At the same time its metadata are held against the rules of the format and against the tree, through the
/// reader, and the system writes it out.
fn verify(
    tree: &Tree,
    plan: &Plan,
    fingerprints: &[Fingerprint],
    output: &Output,
    progress: &dyn Progress,
) -> Result<[u8; 32]> {
    let path = output.path();
    let memory =
        FileMemory::new(output.file()).map_err(|error| Error::output(path, "examine", error))?;
    let read_back = || -> Result<Vec<FileAt>> {
        let memory = Cached::new(&memory, plan.data.offset);
        if let Some(finding) = check::first(&memory) {
            return Err(Error::image(path, finding.to_string()));
        }
        let superblock = Superblock::load(&memory).map_err(|error| Error::reader(path, error))?;
        compare(&Image::new(&memory, &superblock), tree).map_err(|what| Error::image(path, what))
    };
    thread::scope(|scope| {
        let reader = scope.spawn(read_back);
        let writer = scope.spawn(|| output.file().sync_all());
        let size = memory::Memory::size(&memory);
        let passed = pass(&memory, size, &plan.extents, progress)
            .map_err(|error| Error::reader(path, error));
        match (reader.join(), writer.join()) {
            (Ok(read), Ok(written)) => {
                written.map_err(|error| Error::output(path, "write the image", error))?;
                let (files, (digest, found)) = (read?, passed?);
                contents(tree, &files, &plan.extents, &found, fingerprints)
                    .map_err(|what| Error::image(path, what))?;
                Ok(digest)
            }
            (Err(panic), _) | (_, Err(panic)) => std::panic::resume_unwind(panic),
        }
    })
}

/// The superblock is the last that is written.
fn verify_superblock(record: &layout::Superblock, output: &Output) -> Result<()> {
    let path = output.path();
    let memory =
        FileMemory::new(output.file()).map_err(|error| Error::output(path, "examine", error))?;
    Superblock::load(&memory).map_err(|error| Error::reader(path, error))?;
    let written: layout::Superblock =
        memory::load(&memory, 0).map_err(|error| Error::reader(path, error))?;
    if written.as_bytes() != record.as_bytes() {
        return Err(Error::image(path, "the superblock reads back differently"));
    }
    Ok(())
}
