// SPDX-License-Identifier: GPL-2.0-only

//! Packs: mounted images that have data of another image's files.
//!
//! A mount names its packs by descriptors of files on them. Each must be an image with the SHA-256
//! and the size that the table of packs has. The mount keeps its superblock, and so the memory, the
//! verified pieces and the mapped extents. So a page has one owner, whichever image maps it, and
//! each pack may fail alone.

use crate::image::{self, layout, Image, Memory, Problem};
use crate::linux::fs::{refusal, Refusal, SuperBlock, SuperRef};
use crate::linux::Hex;
use crate::mount::DaxFs;
use crate::options::Checks;
use kernel::{prelude::*, seq_file::SeqFile};

/// Returns true if the image in `sb` is the pack that the record names, and its memory is not gone.
fn is(sb: &SuperBlock<DaxFs>, wanted: &layout::Pack) -> bool {
    sb.data().superblock.is_pack(wanted) && !sb.data().region.revoked()
}

/// Returns the packs of `image`, in the order of its table. `given` are those that a mount names,
/// in any order, and `checks` what it demands of the image.
///
/// # Errors
///
/// `EINVAL` if one is missing, is not in the table, or has packs itself, or if it was mounted
/// without the proof that the image has; `EUCLEAN` if the table is invalid; `EIO`, `ENOMEM`.
pub(crate) fn join<M: Memory>(
    image: &Image<'_, M>,
    given: &[SuperRef<DaxFs>],
    checks: &Checks,
) -> Result<KVec<SuperRef<DaxFs>>, Refusal> {
    let count = image.superblock().pack_count();
    let mut packs: KVec<SuperRef<DaxFs>> = KVec::with_capacity(count as usize, GFP_KERNEL)?;
    for index in 0..count {
        let wanted = image.pack(index)?;
        if packs.iter().any(|pack| is(pack, &wanted)) {
            let offset = image.superblock().packs.offset;
            return Err(image::Error::new(Problem::Packs, offset, index.into()).into());
        }
        // mount.daxfs names them in the order of the table.
        let likely = given.get(index as usize).filter(|pack| is(pack, &wanted));
        let found = likely.or_else(|| given.iter().find(|pack| is(pack, &wanted)));
        let sum = Hex(&wanted.sha256);
        let Some(pack) = found else {
            return Err(
                refusal!(EINVAL, "the pack with the SHA-256 {sum} is not given")
                    .remedy("mount it, and name it with pack="),
            );
        };
        if !pack.data().packs.is_empty() {
            return Err(refusal!(
                EINVAL,
                "the pack with the SHA-256 {sum} has packs itself"
            ));
        }
        if checks.proof.has_digest() && !pack.data().checks.proof.has_digest() {
            return Err(refusal!(
                EINVAL,
                "the pack with the SHA-256 {sum} is mounted without digest= or signature=required"
            )
            .remedy("unmount it everywhere first, and mount it with digest="));
        }
        packs.push(pack.clone(), GFP_KERNEL)?;
    }
    refuse_others(&packs, given)?;
    Ok(packs)
}

/// Refuses packs in `given` that are not among the `packs` of an image. Another mount of a mounted
/// image may name copies of its packs, which are not used.
///
/// # Errors
///
/// `EINVAL`; `EBUSY` if the memory of a pack is gone, and another copy would have to be used.
pub(crate) fn refuse_others(
    packs: &[SuperRef<DaxFs>],
    given: &[SuperRef<DaxFs>],
) -> Result<(), Refusal> {
    for (index, other) in given.iter().enumerate() {
        let wanted = &other.data().superblock.sha256;
        let same = |pack: &&SuperRef<DaxFs>| pack.data().superblock.sha256 == *wanted;
        let likely = packs.get(index).filter(same);
        let sum = Hex(wanted);
        match likely.or_else(|| packs.iter().find(same)) {
            None => {
                return Err(refusal!(
                    EINVAL,
                    "the image has no pack with the SHA-256 {sum}"
                ))
            }
            Some(pack) if pack.data().region.revoked() => {
                return Err(refusal!(
                    EBUSY,
                    "mounted already, and the memory of its pack with the SHA-256 {sum} is gone"
                )
                .remedy("unmount it everywhere first"))
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Checks that a remount repeats packs as [`show`] shows them.
///
/// # Errors
///
/// `EINVAL` if one is not a pack of the image.
pub(crate) fn repeated(packs: &[SuperRef<DaxFs>], shown: &[(u32, u32)]) -> Result<(), Refusal> {
    for (major, minor) in shown {
        if !packs.iter().any(|pack| pack.device() == (*major, *minor)) {
            return Err(refusal!(
                EINVAL,
                "a remount cannot change the image's packs"
            ));
        }
    }
    Ok(())
}

/// Shows the device numbers of packs as mount options.
pub(crate) fn show(seq: &SeqFile, packs: &[SuperRef<DaxFs>]) {
    for pack in packs {
        let (major, minor) = pack.device();
        kernel::seq_print!(seq, ",pack={}:{}", major, minor);
    }
}
