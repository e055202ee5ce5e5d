// SPDX-License-Identifier: GPL-2.0-only

//! Regular files of a mounted image.

use crate::event::Event;
use crate::image::{
    self,
    Memory, //
};
use crate::inode::{
    self,
    failed,
    file_data,
    refuse,
    FileData, //
};
use crate::lazy::read_pieces;
use crate::linux::fs::{
    Extent,
    FileOperations,
    INode,
    INodeRef,
    SuperBlock, //
};
use crate::linux::mm::{
    Fault,
    FaultResult,
    Outcome, //
};
use crate::memory::{
    ExtentClaim,
    Gate,
    MappedExtent, //
};
use crate::mount::{
    report,
    DaxFs, //
};
use kernel::{
    iov::IovIterDest,
    prelude::*, //
};

/// Returns the superblock of the image that has the data of `file`, of a mount with packs.
#[cold]
fn home(file: &INode<DaxFs>) -> Result<&SuperBlock<DaxFs>> {
    file_data(file)?.home(file)
}

/// Reads `length` bytes at `offset` of the image that has the data of `file`: a pack, or an image
/// with pieces that are verified before their first use. Not inlined, so that all other reads need
/// fewer registers.
#[inline(never)]
fn read_indirect(
    file: &INode<DaxFs>,
    offset: u64,
    length: usize,
    to: &mut IovIterDest<'_>,
    wait: bool,
) -> Result<usize> {
    let home = file_data(file)?.home(file)?.data();
    let copied = if home.pieces.is_some() {
        read_pieces(file, home, (offset, length), to, wait)?
    } else {
        let copied = home.region.copy_to(offset, length, to);
        copied.map_err(|error| failed(file, offset, error))?
    };
    file.super_block().data().usage.count_read(copied as u64);
    Ok(copied)
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
        if !mounted.is_direct {
            return read_indirect(file, offset, length, to, wait);
        }
        let copied = mounted
            .region
            .copy_to(offset, length, to)
            .map_err(|error| failed(file, offset, error))?;
        mounted.usage.count_read(copied as u64);
        Ok(copied)
    }

    fn read_page(file: &INode<Self>, position: u64, into: &mut [u8]) -> Result {
        let data = file_data(file)?;
        let home = data.home(file)?;
        let (offset, length) = (data.data + position, into.len() as u64);
        // Content starts at any byte, so there may be two pieces.
        Gate::open(home.data(), offset, length).map_err(|error| refuse(file, error))?;
        let access = home.data().region.access()?;
        access
            .read(offset, into)
            .map_err(|error| report(home, data.owner, error))
    }

    fn map(file: &INode<Self>) -> Result<MappedExtent> {
        let found = file_data(file)?;
        let &FileData {
            data,
            mappable,
            owner,
            ..
        } = found;
        let home = found.home(file)?;
        let tail = file.size().saturating_sub(mappable);
        let extent = home.data().region.claim(data, mappable, tail, owner.into());
        extent.map_err(|error| match error {
            EEXIST => {
                let error = image::overlap(&home.data().superblock, owner, data);
                report(home, owner, error)
            }
            error => error,
        })
    }

    fn page_cache(file: &INode<Self>) -> Result<Option<INodeRef<Self>>> {
        inode::page_cache(file, file_data(file)?)
    }

    #[inline]
    fn fault<'a>(file: &INode<Self>, fault: &Fault<'a, ExtentClaim>) -> FaultResult<'a> {
        let sb = file.super_block();
        let home = if sb.data().packs.is_empty() {
            sb
        } else if let Ok(home) = home(file) {
            home
        } else {
            return FaultResult::SIGBUS;
        };
        let result = MappedExtent::fault(fault, home.data()).unwrap_or_else(|error| {
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
            shared: data.pack != 0 || u64::from(data.owner) != file.ino(),
        })
    }
}
