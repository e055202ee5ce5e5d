// SPDX-License-Identifier: GPL-2.0-only

//! Writes and verifies an image of a tree.

use crate::writer::content;
use crate::writer::duplicates::Duplicates;
use crate::writer::options::Options;
use crate::writer::plan::Plan;
use crate::writer::tree::Tree;
use crate::writer::write::{metadata, superblock};
use daxfs_check as check;
use daxfs_files::digest::{in_order, is_hole, Fingerprint, Sum, BUFFER};
use daxfs_files::region::Region;
use daxfs_files::{Error, Output, Progress, Result};
use daxfs_reader::memory::parts;
use daxfs_reader::{self as image, layout, Memory};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;
use zerocopy::IntoBytes;

/// Facts about a finished image.
#[derive(Debug)]
pub struct Summary {
    /// Bytes of the output.
    pub total_size: u64,
    /// Number of inodes.
    pub inodes: u64,
    /// UUID.
    pub uuid: Uuid,
    /// SHA-256 of the image.
    pub digest: [u8; 32],
}

/// Writes an image of `tree` to `output`, and verifies and syncs it if `options` say so.
pub fn make(
    tree: &Tree,
    options: &Options,
    output: &Output,
    progress: &dyn Progress,
) -> Result<Summary> {
    let (image, path) = (output.file(), output.written_path());
    let duplicates = duplicates(tree, options, progress)?;
    let plan = Plan::new(tree, &duplicates, options)?;
    output.reserve(plan.output_size)?;

    let content = plan.extents.iter().map(|extent| extent.size).sum();
    progress.step("writing", content);
    content::check_empty(tree)?;
    let crc = metadata(tree, &plan, image, path)?;
    let pieces = content::copy(tree, &plan, image, path, progress)?;
    let (record, sums) = superblock(tree, &plan, options, crc, &pieces);
    let failed = |error| Error::output(path, "write the image", error);
    image.write_all_at(record.as_bytes(), 0).map_err(failed)?;
    let sums = if options.sums {
        sums.concat()
    } else {
        Vec::new()
    };
    image.write_all_at(&sums, plan.total_size).map_err(failed)?;

    if options.verify {
        progress.step("verifying", plan.total_size);
        let written = Written {
            plan: &plan,
            fingerprints: pieces.fingerprints(&record),
            sums,
        };
        written.verify(output, progress)?;
    }
    Ok(Summary {
        total_size: plan.output_size,
        inodes: plan.order.len() as u64,
        uuid: Uuid::from_bytes(record.uuid),
        digest: record.sha256,
    })
}

/// Returns the size and the number of inodes that an image of `tree` would have.
pub fn measure(tree: &Tree, options: &Options, progress: &dyn Progress) -> Result<(u64, u64)> {
    let plan = Plan::new(tree, &duplicates(tree, options, progress)?, options)?;
    Ok((plan.output_size, plan.order.len() as u64))
}

fn duplicates(tree: &Tree, options: &Options, progress: &dyn Progress) -> Result<Duplicates> {
    if options.dedupe {
        Duplicates::find(tree, progress)
    } else {
        Ok(Duplicates::default())
    }
}

/// The expected image.
struct Written<'a> {
    plan: &'a Plan,
    /// Fingerprints of its pieces.
    fingerprints: Vec<Fingerprint>,
    /// The table of sums after the image.
    sums: Vec<u8>,
}

impl Written<'_> {
    /// Reads the whole image back once. Meanwhile, checks its metadata against the rules of the
    /// format, and syncs it.
    fn verify(&self, output: &Output, progress: &dyn Progress) -> Result<()> {
        let path = output.path();
        let memory =
            Region::of(output.file()).map_err(|error| Error::output(path, "examine", error))?;
        thread::scope(|scope| {
            let reader = scope.spawn(|| check::first(&memory));
            let writer = scope.spawn(|| output.sync());
            let bytes = self.bytes(&memory, path, progress);
            match (reader.join(), writer.join()) {
                (Ok(finding), Ok(written)) => {
                    written?;
                    match finding {
                        Some(finding) => Err(Error::image(path, finding)),
                        None => bytes,
                    }
                }
                (Err(panic), _) | (_, Err(panic)) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn bytes(&self, memory: &Region, path: &Path, progress: &dyn Progress) -> Result<()> {
        let count = self.fingerprints.len() as u64;
        let buffer = || vec![0; BUFFER];
        in_order(0..count, buffer, |buffer, index| {
            let piece = layout::piece(index, self.plan.total_size);
            let length = piece.end - piece.start;
            let found =
                fingerprint(memory, &piece, buffer).map_err(|error| Error::image(path, error))?;
            if found != self.fingerprints[index as usize] {
                let (start, last) = (piece.start, piece.end - 1);
                let what = format!(
                    "bytes {start} to {last} read back differently; the disk or the memory may be faulty"
                );
                return Err(Error::image(path, what));
            }
            progress.advance(length);
            Ok(())
        })?;
        let mut found = vec![0; self.sums.len()];
        Memory::read(memory, self.plan.total_size, &mut found)
            .map_err(|error| Error::image(path, error))?;
        if found != self.sums {
            let what = "the sums read back differently; the disk or the memory may be faulty";
            return Err(Error::image(path, what));
        }
        Ok(())
    }
}

/// Returns the fingerprint of a `piece` of an image.
fn fingerprint(
    memory: &Region,
    piece: &Range<u64>,
    buffer: &mut [u8],
) -> image::Result<Fingerprint> {
    if is_hole(memory, piece)? {
        return Ok(Sum::zeros().fingerprint);
    }
    let mut hash = Xxh3::new();
    parts(memory, piece.clone(), buffer, |part| -> image::Result<()> {
        hash.update(part);
        Ok(())
    })?;
    Ok(hash.digest128())
}
