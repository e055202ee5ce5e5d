// SPDX-License-Identifier: GPL-2.0-only

//! Superblocks: mounting, remounting, and showing a mount.

use crate::image::{self, Image, Problem};
use crate::linux::block::BlockDevice;
use crate::linux::fs::{
    numbers, refusal, Context, FileSystem, INodeRef, Param, Refusal, Statistics, SuperBlock,
    SuperKind, SuperOperations,
};
use crate::linux::{sysfs::Show, Errno};
use crate::memory::{ExtentClaim, Region, Tenure};
use crate::mount::{DaxFs, Mounted, Place, Shared, Verified};
use crate::options::{Checks, Options, Verify};
use crate::signature;
use crate::source::{self, Found};
use crate::usage::Usage;
use crate::verify::{self, Pieces};
use crate::{dir, inode};
use kernel::{new_mutex, page::PAGE_SIZE, prelude::*, seq_file::SeqFile, str::CString};

/// Return true if the module's parameter demands a signature of every image. It does not change
/// after the module was loaded.
pub(crate) fn signatures_required() -> bool {
    crate::module_parameters::require_signatures.value().ne(&0)
}

/// Number of bytes of the image that are checked at a time.
const CHECK_PIECE: usize = 16384;

/// Number of bytes of a cache line.
const LINE: usize = 64;

/// Make the `checks` of a mount of `image`, except of its signature. Repeat a check that has been
/// made before only if an option asks for it. Return what all checks have shown.
///
/// # Errors
///
/// `EBADMSG` if a check fails, `EIO` if the image cannot be read, `EINTR`, `ENOMEM`.
fn verify(
    image: &Image<'_, Region>,
    checks: &Checks,
    mut verified: Verified,
) -> Result<Verified, Refusal> {
    let superblock = image.superblock();
    let is_whole = checks.compares(Verify::Full);
    // Many images have less metadata than that.
    let length = match is_whole {
        true => CHECK_PIECE,
        false => CHECK_PIECE.min(superblock.data.offset as usize),
    };
    // It is faster to initialize whole lines than bytes.
    let mut piece = KVec::from_elem([0; LINE], length.div_ceil(LINE), GFP_KERNEL)?;
    let piece = piece.as_flattened_mut();
    if checks.metadata.unwrap_or(!verified.metadata) {
        image.verify_metadata(piece, verify::check_signal)?;
        verified.metadata = true;
    }
    if is_whole {
        verify::whole(image, piece)?;
    }
    // All else is compared with this copy of the superblock.
    if let Some(expected) = &checks.digest {
        verify::compare(&superblock.sha256, expected)?;
    }
    verified.digest |= checks.has_digest();
    verified.signature |= checks.signature;
    Ok(verified)
}

/// Make the `checks` of another mount of `sb`. A digest can be compared again only if the first
/// mount had it.
///
/// # Errors
///
/// `EBUSY` if the first mount had no digest, and the errors of [`signature::verify`] and
/// [`verify`].
fn verify_again(sb: &SuperBlock<DaxFs>, checks: &Checks) -> Result<(), Refusal> {
    let mounted = sb.data();
    let image = Image::new(&mounted.region, &mounted.superblock);
    if checks.signature {
        signature::verify(&image, &mounted.keyring)?;
    }
    let before = *mounted.verified.lock();
    // Inodes, names and copies of pages are in caches already.
    if checks.has_digest() && !before.digest {
        return Err(refusal!(
            EBUSY,
            "mounted already without digest= or signature=required"
        )
        .remedy("unmount it everywhere first"));
    }
    if checks.compares(Verify::Lazy) {
        let Some(pieces) = &mounted.pieces else {
            return Err(refusal!(EBUSY, "mounted already without verify=lazy")
                .remedy("unmount it everywhere first, or use verify=full"));
        };
        pieces.verify_metadata(&image)?;
    }
    let verified = verify(&image, checks, before)?;
    *mounted.verified.lock() = verified;
    Ok(())
}

/// Check the image in `region`, and make the data of its superblock, with the number `device`.
fn fill(
    device: u32,
    shared: &Shared,
    region: Region,
    options: &Options,
    found: &Found,
    context: &Context,
) -> Result<Mounted, Refusal> {
    let superblock = image::Superblock::load(&region)?;
    if (superblock.block_size as usize) < PAGE_SIZE {
        let size = superblock.block_size;
        return Err(refusal!(
            Errno::NotSupported,
            "block size {size} is smaller than this kernel's pages; \
                 use mkdaxfs --block-size {PAGE_SIZE}"
        ));
    }
    let image = Image::new(&region, &superblock);
    let checks = options.checks.demanding(signatures_required());
    if checks.signature {
        signature::verify(&image, &shared.keyring)?;
    }
    let verified = verify(&image, &checks, Verified::default())?;
    let pieces = match checks.compares(Verify::Lazy) {
        true => Some(Pieces::new(&image)?),
        false => None,
    };
    image.root()?;
    let place = Place {
        named: options.named(),
        part: found.part.clone(),
    };
    let offset = place.part.as_ref().map_or(0, |part| part.start);
    let usage = Usage::new(context.source(), found.device, offset, &region, &superblock)?;
    let verified = KBox::pin_init(new_mutex!(verified), GFP_KERNEL)?;
    let (major, minor) = numbers(device);
    let name = CString::try_from_fmt(fmt!("{major}:{minor}"))?;
    Ok(Mounted {
        usage: Show::new(usage, &shared.directory, &name)?,
        region,
        superblock,
        pieces,
        place,
        verified,
        keyring: shared.keyring.clone(),
    })
}

impl FileSystem for DaxFs {
    const NAME: &'static CStr = c"daxfs";
    const INODE_CACHE: &'static CStr = c"daxfs_inode";
    const MAGIC: u32 = image::layout::STATFS_MAGIC;

    type Shared = Shared;
    type Options = Options;
    type Found = Found;
    type Super = Mounted;
    type Resources = Tenure;
    type INode = inode::Data;
    type Claim = ExtentClaim;

    fn parse_param(
        options: &mut Options,
        param: &Param<'_>,
        context: &Context,
    ) -> Result<(), Refusal> {
        options.parse(param, context.is_remount())
    }

    fn super_kind(options: &Options, context: &Context) -> Result<(SuperKind, Found), Refusal> {
        options.checks.demanding(signatures_required()).validate()?;
        source::super_kind(options, context)
    }

    fn fill_super(
        device: u32,
        shared: &Shared,
        bdev: Option<&BlockDevice>,
        options: &Options,
        found: &Found,
        tenure: &mut Option<Tenure>,
        context: &Context,
    ) -> Result<Mounted, Refusal> {
        let tenure = &*tenure.insert(shared.memory.start()?);
        let region = source::open(bdev, options, found, tenure, context)?;
        fill(device, shared, region, options, found, context)
            .map_err(|refusal| refusal.of(fmt!("{}", context.source())))
    }

    fn root(sb: &SuperBlock<Self>) -> Result<INodeRef<Self>> {
        let access = sb.data().region.access()?;
        let root = sb.data().superblock.root;
        let inode = inode::get(sb, &sb.data().image(&access), root)?;
        // It may have changed since it was validated.
        match dir::directory(&inode)?.is_root() {
            true => Ok(inode),
            false => Err(Errno::Corrupted.into()),
        }
    }

    fn is_gone(sb: &SuperBlock<Self>) -> bool {
        sb.data().region.revoked()
    }

    fn reuse(sb: &SuperBlock<Self>, options: &Options, context: &Context) -> Result<(), Refusal> {
        let mounted = sb.data();
        let again = match image::Superblock::load(&mounted.region) {
            Ok(current) if current == mounted.superblock => {
                verify_again(sb, &options.checks.demanding(signatures_required()))
            }
            Err(error) if error.problem == Problem::Unreadable => Err(error.into()),
            _ => Err(
                refusal!(Errno::Stale, "the image was replaced while it is mounted")
                    .remedy("unmount it everywhere first"),
            ),
        };
        again.map_err(|refusal| refusal.of(fmt!("{}", context.source())))
    }

    fn reconfigure(
        sb: &SuperBlock<Self>,
        options: &Options,
        context: &Context,
    ) -> Result<(), Refusal> {
        if !sb.data().is_same_source(options) {
            return Err(refusal!(
                EINVAL,
                "a remount cannot change the image's memory"
            ));
        }
        let checks = Checks {
            // Make no check that no option asks for.
            metadata: Some(options.checks.metadata.unwrap_or(false)),
            ..options.checks
        };
        checks.validate()?;
        verify_again(sb, &checks).map_err(|refusal| refusal.of(fmt!("{}", context.source())))
    }
}

impl SuperOperations for DaxFs {
    fn statfs(sb: &SuperBlock<Self>) -> Statistics {
        let superblock = &sb.data().superblock;
        Statistics {
            pages: superblock.total_size / PAGE_SIZE as u64,
            inodes: superblock.inode_count(),
        }
    }

    fn show_options(sb: &SuperBlock<Self>, seq: &SeqFile) {
        let mounted = sb.data();
        mounted.place.show(seq);
        let verified = *mounted.verified.lock();
        if !verified.metadata {
            kernel::seq_print!(seq, ",check=none");
        }
        if verified.digest {
            kernel::seq_print!(seq, ",digest=");
            for byte in &mounted.superblock.sha256 {
                kernel::seq_print!(seq, "{:02x}", byte);
            }
        }
        if mounted.pieces.is_some() {
            kernel::seq_print!(seq, ",verify=lazy");
        }
        if verified.signature {
            kernel::seq_print!(seq, ",signature=required");
        }
    }

    fn shutdown(sb: &SuperBlock<Self>) {
        sb.data().region.revoke();
    }

    fn retire(sb: &SuperBlock<Self>) {
        // The name of the directory is the device number.
        sb.data().usage.remove();
    }

    fn label(sb: &SuperBlock<Self>) -> &[u8] {
        let label = &sb.data().superblock.label;
        label.split(|&byte| byte == 0).next().unwrap_or(label)
    }

    fn uuid(sb: &SuperBlock<Self>) -> &[u8; 16] {
        &sb.data().superblock.uuid
    }
}
