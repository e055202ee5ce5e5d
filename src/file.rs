// SPDX-License-Identifier: GPL-2.0-only

//! Regular files of a mounted image.

use crate::event::Event;
use crate::image::{self, Memory};
use crate::inode::{FileData, Object};
use crate::lazy::read_pieces;
use crate::linux::fs::{Extent, FileOperations, INode};
use crate::linux::mm::{Fault, FaultResult, Outcome};
use crate::memory::{ExtentClaim, Gate, MappedExtent};
use crate::mount::{failed, refuse, report, DaxFs};
use kernel::{iov::IovIterDest, prelude::*};

#[inline]
fn file_data(file: &INode<DaxFs>) -> Result<&FileData> {
    match &file.data().object {
        Object::File(data) => Ok(data),
        _ => Err(EIO),
    }
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
