// SPDX-License-Identifier: GPL-2.0-only

//! Regular files of a mounted image.

use crate::image::{self, Memory, Problem};
use crate::inode::{FileData, Object};
use crate::linux;
use crate::linux::fs::{Extent, FileOperations, INode};
use crate::linux::mm::{Fault, FaultResult, Outcome};
use crate::memory::{ExtentClaim, Gate, MappedExtent};
use crate::mount::{report, DaxFs};
use crate::usage::Event;
use kernel::{iov::IovIterDest, prelude::*};

#[inline]
fn file_data(file: &INode<DaxFs>) -> Result<&FileData> {
    match &file.data().object {
        Object::File(data) => Ok(data),
        _ => Err(EIO),
    }
}

/// Reports an `error` of the content of `file`, unless its memory goes away. Returns the error
/// code.
#[cold]
fn refuse(file: &INode<DaxFs>, error: image::Error) -> Error {
    let sb = file.super_block();
    match error.problem {
        Problem::Unreadable if sb.data().region.revoked() => EIO,
        _ => report(sb, file.ino(), error),
    }
}

/// Reports that content at `offset` cannot be read with `error`, unless its memory goes away or the
/// destination is bad. Returns the error code.
#[cold]
fn failed(file: &INode<DaxFs>, offset: u64, error: Error) -> Error {
    if error != EIO {
        return error;
    }
    refuse(file, image::Error::new(Problem::Unreadable, offset, 0))
}

/// Verifies the piece at `at`. Returns how many of `length` bytes there are in the piece. `done`
/// bytes of the read were copied before; `wait` is as for [`FileOperations::read_iter`].
///
/// # Errors
///
/// `EAGAIN`, `EIO`; `EINTR` if a signal kills the process.
#[cold]
#[inline(never)]
fn verify_next(
    file: &INode<DaxFs>,
    at: u64,
    length: usize,
    done: usize,
    wait: bool,
) -> Result<usize> {
    if done > 0 && linux::fatal_signal_pending() {
        return Err(EINTR);
    }
    let mounted = file.super_block().data();
    match mounted.usable(at, length as u64, wait) {
        Ok(0) => Err(EAGAIN),
        Ok(part) => Ok(part as usize),
        Err(error) => Err(refuse(file, error)),
    }
}

/// Reads `length` bytes at `offset` of an image whose pieces are verified before their first use.
/// Not inlined, so that all other reads need fewer registers.
#[inline(never)]
fn read_pieces(
    file: &INode<DaxFs>,
    offset: u64,
    length: usize,
    to: &mut IovIterDest<'_>,
    wait: bool,
) -> Result<usize> {
    let mounted = file.super_block().data();
    let mut done = 0;
    let result = loop {
        let (at, mut part) = (offset + done as u64, length - done);
        if !mounted.is_open(at, part as u64) {
            part = match verify_next(file, at, part, done, wait) {
                Ok(part) => part,
                Err(error) => break Err(error),
            };
        }
        match mounted.region.copy_to(at, part, to) {
            Ok(copied) => {
                done += copied;
                if copied < part || done == length {
                    break Ok(());
                }
            }
            Err(error) => break Err(failed(file, at, error)),
        }
    };
    if done == 0 {
        result?;
    }
    mounted.usage.count_read(done as u64);
    Ok(done)
}

impl FileOperations for DaxFs {
    #[inline]
    fn read_iter(
        file: &INode<Self>,
        position: u64,
        to: &mut IovIterDest<'_>,
        wait: bool,
    ) -> Result<usize> {
        let left = file.size().saturating_sub(position);
        let length = left.min(to.len() as u64) as usize;
        let offset = file_data(file)?.data + position;
        let mounted = file.super_block().data();
        if mounted.pieces.is_some() {
            return read_pieces(file, offset, length, to, wait);
        }
        let copied = mounted
            .region
            .copy_to(offset, length, to)
            .map_err(|error| failed(file, offset, error))?;
        mounted.usage.count_read(copied as u64);
        Ok(copied)
    }

    fn read_page(file: &INode<Self>, position: u64, into: &mut [u8]) -> Result {
        let offset = file_data(file)?.data + position;
        let length = into.len() as u64;
        // Content starts at any byte, so there may be two pieces.
        Gate::open(file.super_block().data(), offset, length)
            .map_err(|error| refuse(file, error))?;
        let access = file.super_block().data().region.access()?;
        access
            .read(offset, into)
            .map_err(|error| report(file.super_block(), file.ino(), error))
    }

    fn map(file: &INode<Self>) -> Result<MappedExtent> {
        let &FileData {
            data,
            mappable,
            owner,
        } = file_data(file)?;
        let mounted = file.super_block().data();
        let tail = file.size().saturating_sub(mappable);
        let extent = mounted.region.claim(data, mappable, tail, owner.into());
        extent.map_err(|error| match error {
            EEXIST => {
                let error = image::overlap(&mounted.superblock, file.ino() as u32, data);
                report(file.super_block(), file.ino(), error)
            }
            error => error,
        })
    }

    #[inline]
    fn fault<'a>(file: &INode<Self>, fault: &Fault<'a, ExtentClaim>) -> FaultResult<'a> {
        let sb = file.super_block();
        let result = MappedExtent::fault(fault, sb.data()).unwrap_or_else(|error| {
            refuse(file, error);
            FaultResult::SIGBUS
        });
        if let Some(outcome) = fault.outcome(result) {
            sb.data().usage.count(match outcome {
                Outcome::Page => Event::PteFault,
                Outcome::Around => Event::AroundFault,
                Outcome::Pmd => Event::PmdFault,
                Outcome::Failed => Event::FailedFault,
                Outcome::Poisoned => Event::PoisonedFault,
            });
        }
        result
    }

    fn extent(file: &INode<Self>) -> Result<Extent> {
        let data = file_data(file)?;
        // Other files use the rest of the last page, if it cannot be mapped.
        let unaligned = data.mappable < file.size();
        Ok(Extent {
            start: data.data,
            length: data.mappable.max(file.size()),
            unaligned,
            shared: u64::from(data.owner) != file.ino(),
        })
    }
}
