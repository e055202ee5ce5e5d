// SPDX-License-Identifier: GPL-2.0-only

//! Regular files of a mounted image.

#![deny(unsafe_code)]

use crate::image::{self, Memory, Problem};
use crate::inode::{FileData, Object};
use crate::memory::MappedExtent;
use crate::mount::{report, DaxFs};
use crate::support::trace;
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

#[vtable]
impl FileOperations for DaxFs {
    #[inline]
    fn read_iter(file: &INode<Self>, position: u64, to: &mut IovIterDest<'_>) -> Result<usize> {
        let left = file.size().saturating_sub(position);
        let length = left.min(to.len() as u64) as usize;
        let offset = file_data(file)?.data + position;
        let mounted = file.super_block().data();
        let copied = mounted
            .region()
            .copy_to(offset, length, to)
            .map_err(|error| {
                if error != EIO || mounted.region().revoked() {
                    return error;
                }
                let error = image::Error::new(Problem::Unreadable, offset, 0);
                report(file.super_block(), file.ino(), error)
            })?;
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
        file.super_block()
            .data()
            .region()
            .lend(offset, length, pages)
    }

    fn spliced(file: &INode<Self>, bytes: u64) {
        file.super_block().data().count_read(bytes);
    }

    fn read_page(file: &INode<Self>, position: u64, into: &mut [u8]) -> Result {
        let offset = file_data(file)?.data + position;
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
        let result = MappedExtent::fault(fault).unwrap_or_else(|error| {
            report(sb, file.ino(), error);
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
