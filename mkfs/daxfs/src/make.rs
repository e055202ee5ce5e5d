// SPDX-License-Identifier: GPL-2.0

//! The whole way from a tree to an image.

use crate::digest::digest;
use crate::memory::FileMemory;
use crate::plan::Plan;
use crate::tree::Tree;
use crate::write::{metadata, put_superblock, superblock, Options};
use crate::{content, Error, Output, Progress, Result};
use uuid::Uuid;

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
    let plan = Plan::new(tree, options.block_size)?;
    image
        .set_len(plan.total_size)
        .map_err(|error| Error::io(path, "set the size of the image", error))?;

    progress.step("writing", tree.content_size());
    content::check_empty(tree)?;
    let sums = metadata(tree, &plan, image, path)?;
    let fingerprints = content::copy(tree, &plan, image, path, progress)?;
    let mut record = superblock(tree, &plan, options, sums, &fingerprints);
    put_superblock(&mut record, image, path)?;

    progress.step("verifying", plan.total_size);
    let memory = FileMemory::new(image).map_err(|error| Error::io(path, "examine", error))?;
    record.sha256 =
        digest(&memory, plan.total_size, progress).map_err(|error| Error::reader(path, error))?;
    put_superblock(&mut record, image, path)?;
    Ok(Summary {
        total_size: plan.total_size,
        inodes: plan.order.len() as u64,
        uuid: Uuid::from_bytes(record.uuid),
        digest: record.sha256,
    })
}
