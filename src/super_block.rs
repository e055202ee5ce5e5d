// SPDX-License-Identifier: GPL-2.0-only

//! Superblocks: mounting, remounting, and what is shown of a mount.

#![deny(unsafe_code)]

use crate::image::{self, Image, Problem};
use crate::inode;
use crate::linux::block::BlockDevice;
use crate::linux::fs::{
    Context, FileSystem, INodeRef, Identity, NewSuper, Param, Statistics, SuperBlock, SuperKind,
    SuperOperations,
};
use crate::linux::Errno;
use crate::memory::{MappedExtent, Region, Tenure};
use crate::mount::{DaxFs, Mounted, Place, Shared, Verified};
use crate::options::{Check, Checks, Options};
use crate::signature;
use crate::source::{self, Found};
use crate::usage::Usage;
use crate::verify::{self, Failure, Pieces};
use kernel::{new_mutex, page::PAGE_SIZE, prelude::*, seq_file::SeqFile};

/// Return true if the module's parameter demands a signature of every image. It does not change
/// after the module was loaded.
pub(crate) fn signatures_required() -> bool {
    crate::module_parameters::require_signatures.value().ne(&0)
}

/// Number of bytes of the image that are checked at a time.
const CHECK_PIECE: usize = 16384;

/// Number of bytes of a cache line.
const LINE: usize = 64;

/// Log why a mount fails: because of an `error` in the image. Return the error code for it.
fn refuse(error: image::Error, context: &Context) -> Error {
    match error.problem {
        Problem::Catalog(_) => context.error(fmt!(
            "{}: {}; mount.daxfs and 'daxfs mount' find the image to mount in it, or give its \
             place with fsoffset= and fslength=",
            context.source(),
            error
        )),
        _ => context.error(fmt!("{}: {}", context.source(), error)),
    }
    match error.problem {
        Problem::Unreadable => EIO,
        Problem::TooSmall | Problem::Magic => EINVAL,
        Problem::Catalog(_) => EMEDIUMTYPE,
        Problem::Version | Problem::Feature | Problem::BlockSize => Errno::NotSupported.into(),
        Problem::SuperblockChecksum
        | Problem::MetadataChecksum
        | Problem::Digest
        | Problem::Sums
        | Problem::Piece => Errno::BadMessage.into(),
        _ => Errno::Corrupted.into(),
    }
}

/// Log why the digest of an image cannot be verified. Return the error code for it.
fn refuse_digest(failure: Failure, context: &Context) -> Error {
    match failure {
        Failure::Image(error) => refuse(error, context),
        Failure::NoSums => {
            context.error(fmt!(
                "{}: verify=lazy needs an image with the sums of its pieces; \
                 use mkdaxfs --sums, or verify=full",
                context.source()
            ));
            Errno::NotSupported.into()
        }
        Failure::NoMemory => ENOMEM,
        Failure::Interrupted => EINTR,
    }
}

/// Load and validate the superblock of the image in `region`.
fn open_image(region: &Region, context: &Context) -> Result<image::Superblock> {
    let superblock = image::Superblock::load(region).map_err(|error| refuse(error, context))?;
    if (superblock.block_size as usize) < PAGE_SIZE {
        context.error(fmt!(
            "{}: block size {} is smaller than this kernel's pages; use mkdaxfs --block-size {}",
            context.source(),
            superblock.block_size,
            PAGE_SIZE
        ));
        return Err(Errno::NotSupported.into());
    }
    Ok(superblock)
}

/// Make the `checks` of a mount. Repeat a check that has been made before only if an option asks
/// for it. Return what all checks have shown.
///
/// # Errors
///
/// `EBADMSG` if a check fails, `EIO` if the image cannot be read, `EINTR`, `ENOMEM`.
fn verify(
    region: &Region,
    superblock: &image::Superblock,
    checks: &Checks,
    mut verified: Verified,
    context: &Context,
) -> Result<Verified> {
    let image = Image::new(region, superblock);
    // Many images have less metadata than that.
    let length = match checks.full() {
        Some(_) => CHECK_PIECE,
        None => CHECK_PIECE.min(superblock.data.offset as usize),
    };
    // It is faster to initialize whole lines than bytes.
    let mut piece = KVec::from_elem([0; LINE], length.div_ceil(LINE), GFP_KERNEL)?;
    let piece = piece.as_flattened_mut();
    let metadata = match checks.check {
        Some(Check::Metadata) => true,
        Some(Check::None) => false,
        None => !verified.metadata,
    };
    if metadata {
        image
            .verify_metadata(piece)
            .map_err(|error| refuse(error, context))?;
        verified.metadata = true;
    }
    if let Some(expected) = checks.full() {
        verify::whole(&image, piece, expected)
            .map_err(|failure| refuse_digest(failure, context))?;
        verified.digest = Some(*expected);
    }
    Ok(verified)
}

/// Make the `checks` of another mount of `sb`. A digest can be compared again only if the first
/// mount had it.
///
/// # Errors
///
/// `EBUSY` if the first mount had no digest, and those of [`signature::resolve`] and [`verify`].
fn verify_again(sb: &SuperBlock<DaxFs>, checks: &Checks, context: &Context) -> Result {
    let mounted = sb.data();
    let (region, superblock) = (mounted.region(), mounted.superblock());
    let image = Image::new(region, superblock);
    let checks = &signature::resolve(checks, &image, mounted.keyring(), context)?;
    let before = *mounted.verified().lock();
    // Inodes, names and copies of pages are in caches already.
    if checks.digest.is_some() && before.digest.is_none() {
        context.error(fmt!(
            "{}: mounted already without digest= or signature=required; \
             unmount it everywhere first",
            context.source()
        ));
        return Err(EBUSY);
    }
    if let Some(digest) = checks.lazy() {
        let Some(pieces) = mounted.pieces() else {
            context.error(fmt!(
                "{}: mounted already without verify=lazy; unmount it everywhere first, \
                 or use verify=full",
                context.source()
            ));
            return Err(EBUSY);
        };
        pieces
            .verify_again(&image, digest)
            .map_err(|failure| refuse_digest(failure, context))?;
    }
    let mut verified = verify(region, superblock, checks, before, context)?;
    verified.signature |= checks.signature;
    *mounted.verified().lock() = verified;
    Ok(())
}

#[vtable]
impl FileSystem for DaxFs {
    const NAME: &'static CStr = c"daxfs";
    const INODE_CACHE: &'static CStr = c"daxfs_inode";

    type Shared = Shared;
    type Options = Options;
    type Found = Found;
    type Super = Mounted;
    type Resources = Tenure;
    type INode = inode::Data;
    type Mapping = MappedExtent;

    fn parse_param(options: &mut Options, param: &Param<'_>, context: &Context) -> Result {
        options.parse(param, context)
    }

    fn super_kind(options: &Options, context: &Context) -> Result<(SuperKind, Found)> {
        let checks = options.checks.demanding(signatures_required());
        checks.validate(context)?;
        source::super_kind(options, context)
    }

    fn fill_super(
        sb: &NewSuper<'_>,
        shared: &Shared,
        bdev: Option<&BlockDevice>,
        options: &Options,
        found: &Found,
        tenure: &mut Option<Tenure>,
        context: &Context,
    ) -> Result<(Mounted, Identity)> {
        let tenure = &*tenure.insert(shared.memory.start()?);
        let region = source::open(bdev, options, found, tenure, context)?;
        let superblock = open_image(&region, context)?;
        let image = Image::new(&region, &superblock);
        let checks = options.checks.demanding(signatures_required());
        let checks = signature::resolve(&checks, &image, &shared.keyring, context)?;
        let nothing = Verified::default();
        let mut verified = verify(&region, &superblock, &checks, nothing, context)?;
        verified.signature = checks.signature;
        let pieces = match checks.lazy() {
            Some(digest) => {
                let pieces = Pieces::new(&image, digest)
                    .map_err(|failure| refuse_digest(failure, context))?;
                verified.digest = Some(*digest);
                Some(pieces)
            }
            None => None,
        };
        image.root().map_err(|error| refuse(error, context))?;
        let identity = Identity {
            magic: image::layout::STATFS_MAGIC,
            uuid: superblock.uuid,
        };
        let part = found.part.clone();
        let offset = part.as_ref().map_or(0, |part| part.start);
        let device = found.device;
        let usage = Usage::new(context.source(), device, offset, &region, &superblock)?;
        let verified = KBox::pin_init(new_mutex!(verified), GFP_KERNEL)?;
        let usage = usage.show(&shared.directory, &sb.number()?)?;
        let keyring = shared.keyring.clone();
        let phys = options.phys_range();
        let place = Place { phys, part };
        let mounted = Mounted::new(usage, region, superblock, pieces, place, verified, keyring);
        Ok((mounted, identity))
    }

    fn root(sb: &SuperBlock<Self>) -> Result<INodeRef<Self>> {
        let access = sb.data().region().access()?;
        let root = sb.data().superblock().root;
        inode::get(sb, &sb.data().image(&access), root)
    }

    fn is_gone(sb: &SuperBlock<Self>) -> bool {
        sb.data().region().revoked()
    }

    fn reuse(sb: &SuperBlock<Self>, options: &Options, context: &Context) -> Result {
        let mounted = sb.data();
        match image::Superblock::load(mounted.region()) {
            Ok(current) if current == *mounted.superblock() => {
                let checks = options.checks.demanding(signatures_required());
                verify_again(sb, &checks, context)
            }
            Err(error) if error.problem == Problem::Unreadable => {
                context.error(fmt!("{}: {}", context.source(), error));
                Err(EIO)
            }
            _ => {
                context.error(fmt!(
                    "{}: the image was replaced while it is mounted; unmount it everywhere first",
                    context.source()
                ));
                Err(Errno::Stale.into())
            }
        }
    }

    fn reconfigure(sb: &SuperBlock<Self>, options: &Options, context: &Context) -> Result {
        if !sb.data().is_same_source(options) {
            context.error(fmt!("a remount cannot change the image's memory"));
            return Err(EINVAL);
        }
        let checks = Checks {
            // Make no check that no option asks for.
            check: Some(options.checks.check.unwrap_or(Check::None)),
            ..options.checks
        };
        checks.validate(context)?;
        verify_again(sb, &checks, context)
    }
}

#[vtable]
impl SuperOperations for DaxFs {
    fn statfs(sb: &SuperBlock<Self>) -> Statistics {
        let superblock = sb.data().superblock();
        Statistics {
            pages: superblock.total_size / PAGE_SIZE as u64,
            inodes: superblock.inode_count(),
            name_max: image::layout::NAME_MAX as u32,
        }
    }

    fn show_options(sb: &SuperBlock<Self>, seq: &SeqFile) {
        let mounted = sb.data();
        mounted.region().show(seq, mounted.part());
        let verified = *mounted.verified().lock();
        if !verified.metadata {
            kernel::seq_print!(seq, ",check=none");
        }
        if let Some(digest) = &verified.digest {
            kernel::seq_print!(seq, ",digest=");
            for byte in digest {
                kernel::seq_print!(seq, "{:02x}", byte);
            }
        }
        if mounted.pieces().is_some() {
            kernel::seq_print!(seq, ",verify=lazy");
        }
        if verified.signature {
            kernel::seq_print!(seq, ",signature=required");
        }
    }

    fn shutdown(sb: &SuperBlock<Self>) {
        sb.data().region().revoke();
    }

    fn retire(sb: &SuperBlock<Self>) {
        // Its name is the device number.
        sb.data().hide_usage();
    }

    fn label(sb: &SuperBlock<Self>) -> &[u8] {
        let label = &sb.data().superblock().label;
        label.split(|&byte| byte == 0).next().unwrap_or(label)
    }
}
