// SPDX-License-Identifier: GPL-2.0-only

//! Regular files of a mounted image.

#![deny(unsafe_code)]

use crate::image::{self, layout, Memory, Problem};
use crate::inode::{FileData, Object};
use crate::memory::{Gate, MappedExtent};
use crate::mount::{report, DaxFs};
use crate::support::{self, trace};
use crate::usage::Event;
use crate::vfs::{Extent, Fault, FaultResult, FileOperations, INode, Outcome, PipePages};
use kernel::{iov::IovIterDest, page::PAGE_SHIFT, prelude::*};

#[inline]
fn file_data(file: &INode<DaxFs>) -> Result<&FileData> {
    match &file.data().object {
        Object::File(data) => Ok(data),
        _ => Err(EIO),
    }
}

/// Make bytes usable, see [`Mounted::usable`](crate::mount::Mounted::usable). Report an error.
#[cold]
fn usable(file: &INode<DaxFs>, offset: u64, length: u64, wait: bool) -> Result<u64> {
    let mounted = file.super_block().data();
    mounted
        .usable(offset, length, wait)
        .map_err(|error| refuse(file, error))
}

/// Report an `error` of the content of `file`, unless its memory goes away. Return the error code.
#[cold]
fn refuse(file: &INode<DaxFs>, error: image::Error) -> Error {
    let sb = file.super_block();
    match error.problem {
        Problem::Unreadable if sb.data().region().revoked() => EIO,
        _ => report(sb, file.ino(), error),
    }
}

/// Copy `length` bytes at `offset` of the image to `to`. Return how many were copied. Report an
/// error.
#[inline]
fn copy(
    file: &INode<DaxFs>,
    offset: u64,
    length: usize,
    to: &mut IovIterDest<'_>,
) -> Result<usize> {
    let region = file.super_block().data().region();
    region.copy_to(offset, length, to).map_err(|error| {
        if error != EIO || region.revoked() {
            return error;
        }
        let error = image::Error::new(Problem::Unreadable, offset, 0);
        report(file.super_block(), file.ino(), error)
    })
}

/// As [`copy`], but verify each piece before it is copied. `wait` is that of
/// [`FileOperations::read_iter`].
#[cold]
fn verify_and_copy(
    file: &INode<DaxFs>,
    offset: u64,
    length: usize,
    to: &mut IovIterDest<'_>,
    wait: bool,
) -> Result<usize> {
    let mut done = 0;
    while done < length && (done == 0 || !support::fatal_signal_pending()) {
        let at = offset + done as u64;
        let in_piece = layout::DIGEST_PIECE - at % layout::DIGEST_PIECE;
        let part = in_piece.min((length - done) as u64);
        let copied = match usable(file, at, part, wait) {
            Ok(0) => Err(EAGAIN),
            Ok(part) => copy(file, at, part as usize, to),
            Err(error) => Err(error),
        };
        match copied {
            Ok(copied) => {
                done += copied;
                if copied as u64 != part {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

#[vtable]
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
        let copied = match mounted.is_open(offset, length as u64) {
            true => copy(file, offset, length, to)?,
            false => verify_and_copy(file, offset, length, to, wait)?,
        };
        mounted.count_read(copied as u64);
        Ok(copied)
    }

    fn splice_read(
        file: &INode<Self>,
        position: u64,
        length: u64,
        pages: &mut PipePages,
    ) -> Result<bool> {
        let offset = file_data(file)?.data + position;
        let length = usable(file, offset, length, true)?;
        let mounted = file.super_block().data();
        mounted.region().lend(offset, length, pages)
    }

    fn spliced(file: &INode<Self>, bytes: u64) {
        file.super_block().data().count_read(bytes);
    }

    fn read_page(file: &INode<Self>, position: u64, into: &mut [u8]) -> Result {
        let offset = file_data(file)?.data + position;
        let length = into.len() as u64;
        // Content starts at any byte, so there may be two pieces.
        Gate::open(file.super_block().data(), offset, length)
            .map_err(|error| refuse(file, error))?;
        let access = file.super_block().data().region().access()?;
        access
            .read(offset, into)
            .map_err(|error| report(file.super_block(), file.ino(), error))
    }

    fn map(file: &INode<Self>) -> Result<Option<MappedExtent>> {
        let &FileData {
            data,
            mappable,
            owner,
        } = file_data(file)?;
        if mappable == 0 {
            return Ok(None);
        }
        let mounted = file.super_block().data();
        let tail = file.size().saturating_sub(mappable);
        let extent = mounted.region().claim(data, mappable, tail, owner.into())?;
        if extent.is_none() {
            let error = image::overlap(mounted.superblock(), file.ino() as u32, data);
            return Err(report(file.super_block(), file.ino(), error));
        }
        Ok(extent)
    }

    #[inline]
    fn fault<'a>(file: &INode<Self>, fault: &Fault<'a, MappedExtent>) -> FaultResult<'a> {
        let sb = file.super_block();
        let result = MappedExtent::fault(fault, sb.data()).unwrap_or_else(|error| {
            refuse(file, error);
            FaultResult::SIGBUS
        });
        trace::fault(|| trace::Fault {
            device: sb.device(),
            ino: file.ino(),
            offset: fault.page() << PAGE_SHIFT,
            order: fault.order(),
            address: fault.address(),
            result: result.into_raw(),
        });
        if let Some(outcome) = fault.outcome(result) {
            sb.data().count(match outcome {
                Outcome::Page => Event::PteFault,
                Outcome::Around => Event::AroundFault,
                Outcome::Pmd => Event::PmdFault,
                Outcome::Pud => Event::PudFault,
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
