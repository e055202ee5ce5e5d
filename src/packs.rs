// SPDX-License-Identifier: GPL-2.0-only

//! Packs: mounted images that have data of another image's files.
//!
//! An image names its packs by their SHA-256, and the kernel looks for them among the mounted
//! images. If the image was proved, so must its packs be: no other image can pretend to be one. If
//! not, they must be on its device: a SHA-256 that is known gives access to no content. The mount
//! keeps the superblock of each, and so the memory, the verified pieces and the mapped extents. So
//! a page has one owner, whichever image maps it, and each pack may fail alone.

use crate::image::{
    self,
    Image,
    Inode,
    Memory,
    Problem, //
};
use crate::linux::fs::{
    refusal,
    Refusal,
    Registration,
    SuperBlock,
    SuperRef, //
};
use crate::linux::Hex;
use crate::memory::Access;
use crate::mount::{
    report,
    DaxFs,
    Mounted,
    Place, //
};
use crate::options::Checks;
use kernel::prelude::*;

/// Returns the packs of `image`, which is at `place`, in the order of its table.
///
/// # Errors
///
/// `EINVAL` if one is not mounted as it must be; `EUCLEAN` if the table is invalid; `EIO`,
/// `ENOMEM`.
pub(crate) fn join<M: Memory>(
    image: &Image<'_, M>,
    registration: &Registration<DaxFs>,
    place: &Place,
    checks: &Checks,
) -> Result<KVec<SuperRef<DaxFs>>, Refusal> {
    let count = image.superblock().pack_count();
    let mut table = KVVec::with_capacity(count as usize, GFP_KERNEL)?;
    for index in 0..count {
        let pack = image.pack(index)?;
        if table.iter().any(|(other, _)| *other == pack) {
            let offset = image.superblock().packs.offset;
            return Err(image::Error::new(Problem::Packs, offset, index.into()).into());
        }
        table.push((pack, None), GFP_KERNEL)?;
    }
    // Copies that cannot change come first, then those that the owner of the image can change.
    for rank in 0..=2 {
        if table.iter().all(|(_, found)| found.is_some()) {
            break;
        }
        registration.each_super_block(|sb| {
            let mounted = sb.data();
            let is_wanted = mounted.packs.is_empty() && !mounted.region.revoked();
            if !is_wanted || rank_of(mounted, place, checks) != Some(rank) {
                return;
            }
            let mut wanted = table.iter_mut().filter(|(_, found)| found.is_none());
            if let Some((_, found)) = wanted.find(|(pack, _)| mounted.superblock.is_pack(pack)) {
                *found = sb.get();
            }
        });
    }
    let mut packs = KVec::with_capacity(count as usize, GFP_KERNEL)?;
    for (pack, found) in table {
        let sum = Hex(&pack.sha256);
        let found = found.ok_or_else(|| {
            let how = if checks.proof.has_digest() {
                "with digest= or signature=required"
            } else {
                "on the same device; packs elsewhere need digest= for the image and for them"
            };
            refusal!(
                EINVAL,
                "its pack with the SHA-256 {sum} is not mounted {how}"
            )
            .remedy("mount the pack first")
        })?;
        packs.push(found, GFP_KERNEL)?;
    }
    Ok(packs)
}

/// Returns the place of `mounted` in the order in which packs are chosen for an image at `place`,
/// or `None` if it cannot be one of its packs.
fn rank_of(mounted: &Mounted, place: &Place, checks: &Checks) -> Option<u32> {
    let is_beside = mounted.place.is_beside(place);
    if !checks.proof.has_digest() {
        return is_beside.then_some(1);
    }
    mounted
        .checks
        .proof
        .has_digest()
        .then_some(match (mounted.place.is_sealed(), is_beside) {
            (true, _) => 0,
            (_, true) => 1,
            _ => 2,
        })
}

/// Refuses to mount an image again that has lost a pack.
///
/// # Errors
///
/// `EBUSY`: another mounted copy of the pack is not used.
pub(crate) fn still_there(packs: &[SuperRef<DaxFs>]) -> Result<(), Refusal> {
    match packs.iter().find(|pack| pack.data().region.revoked()) {
        None => Ok(()),
        Some(pack) => {
            let sum = Hex(&pack.data().superblock.sha256);
            Err(refusal!(
                EBUSY,
                "mounted already, and the memory of its pack with the SHA-256 {sum} is gone"
            )
            .remedy("unmount the image everywhere first"))
        }
    }
}

/// Returns the superblock of pack `index`, counted from 0.
pub(crate) fn pack(sb: &SuperBlock<DaxFs>, index: u32) -> Result<&SuperBlock<DaxFs>> {
    let found = sb.data().packs.get(index as usize).ok_or(EIO)?;
    Ok(found)
}

/// Returns the superblock of the pack that has the data of `inode`, its inode `original`, and the
/// offset of the data there.
/// Returns `None` if the memory of the pack cannot be read: names and attributes are still there.
pub(crate) fn in_pack<'a>(
    sb: &'a SuperBlock<DaxFs>,
    image: &Image<'_, Access<'_>>,
    inode: &Inode,
    index: u32,
    original: u32,
) -> Result<Option<(&'a SuperBlock<DaxFs>, Inode, u64)>> {
    let home = pack(sb, index)?;
    let region = &home.data().region;
    let found = match region.access() {
        Ok(access) => home.data().image(&access).inode(original),
        Err(_) => return Ok(None),
    };
    let found = match found {
        Ok(found) => found,
        Err(error) if error.problem == Problem::Unreadable => {
            if !region.revoked() {
                report(home, original, error);
            }
            return Ok(None);
        }
        Err(error) if error.problem == Problem::InodeNumber => {
            let error = inode.unsuitable_original(image.superblock());
            return Err(report(sb, inode.ino, error));
        }
        Err(error) => return Err(report(home, original, error)),
    };
    let data = inode
        .check_in_pack(image.superblock(), &found)
        .map_err(|error| report(sb, inode.ino, error))?;
    Ok(Some((home, found, data)))
}
