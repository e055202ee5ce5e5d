// SPDX-License-Identifier: GPL-2.0-only

//! Reads, splices and maps regular files.

use crate::inode::{
    self,
    content,
    failed,
    refuse,
    Object, //
};
use crate::lazy::read_pieces;
use crate::linux::mm::{
    Fault,
    FaultResult,
    Outcome, //
};
use crate::memory::{
    ExtentClaim,
    MappedExtent, //
};
use crate::mount::{
    DaxFs,
    Home, //
};
use crate::prelude::*;
use crate::usage::Event;

/// Reads `length` bytes at `position` of a file in a pack, or in an image whose pieces are verified
/// before their first use. Not inlined, so that all other reads need fewer registers.
#[inline(never)]
fn read_indirect(
    file: &INode<DaxFs>,
    position: u64,
    length: usize,
    to: &mut IovIterDest<'_>,
    wait: bool,
) -> Result<usize> {
    let (data, home) = content(file)?;
    let copied = read_pieces(file, home, (data.data + position, length), to, wait)?;
    home.sb.data().usage.count_read(copied as u64);
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
        let mounted = file.super_block().data();
        let data = match &file.data().object {
            Object::File(data) if mounted.backing.pieces.is_none() => data,
            _ => return read_indirect(file, position, length, to, wait),
        };
        let offset = data.data + position;
        let copied = mounted
            .backing
            .region
            .copy_to(offset, length, to)
            .map_err(|error| failed(file, offset, error))?;
        mounted.usage.count_read(copied as u64);
        Ok(copied)
    }

    fn splice(
        file: &INode<Self>,
        position: u64,
        length: usize,
        splice: impl FnOnce(&File, u64, usize) -> Result<usize>,
    ) -> Option<Result<usize>> {
        let (data, home) = content(file).ok()?;
        let memfd = home.backing.region.file()?;
        let left = file.size().saturating_sub(position);
        let offset = data.data + position;
        let length = match home.usable(offset, left.min(length as u64), true) {
            Ok(length) => length,
            Err(error) => return Some(Err(refuse(file, error))),
        };
        let spliced = splice(&memfd, offset, length as usize);
        let done = spliced.as_ref().map_or(0, |&done| done as u64);
        home.sb.data().usage.count_read(done);
        Some(spliced)
    }

    #[inline]
    fn prepare(file: &INode<Self>) -> Result {
        inode::find_data(file)
    }

    fn map(file: &INode<Self>) -> Result<MappedExtent> {
        let (found, home) = content(file)?;
        let (data, length) = (found.data, found.mappable);
        // All empty files share an extent.
        let owner = if file.size() > 0 { found.owner } else { 0 };
        let tail = file.size().saturating_sub(length);
        let extent = home.backing.region.claim(data, length, tail, owner.into());
        extent.map_err(|error| match error {
            EEXIST => home.report(owner, image::overlap(&home.backing.superblock, owner, data)),
            error => error,
        })
    }

    #[inline]
    fn fault<'a>(file: &INode<Self>, fault: &Fault<'a, ExtentClaim>) -> FaultResult<'a> {
        let sb = file.super_block();
        let home = match &file.data().object {
            Object::File(_) => Home::own(sb),
            _ => match content(file) {
                Ok((_, home)) => home,
                Err(_) => return FaultResult::SIGBUS,
            },
        };
        let result = MappedExtent::fault(fault, &home).unwrap_or_else(|error| {
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
        inode::find_data(file)?;
        let (data, _) = content(file)?;
        let in_pack = matches!(file.data().object, Object::InPack(_));
        Ok(Extent {
            // A pack is stored elsewhere, even if it is on the image's device.
            start: (!in_pack).then_some(data.data),
            length: data.mappable.max(file.size()),
            // If the last page cannot be mapped, other files use the rest of it.
            unaligned: data.mappable < file.size(),
            shared: in_pack || u64::from(data.owner) != file.ino(),
        })
    }
}
