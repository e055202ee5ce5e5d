// SPDX-License-Identifier: GPL-2.0-only

//! Superblocks: mounting, remounting, and what is shown of a mount.

#![deny(unsafe_code)]

use crate::image::{self, Image, Problem};
use crate::inode;
use crate::memory::{MappedExtent, Region, Tenure};
use crate::mount::{DaxFs, Mounted, Shared, Verified};
use crate::options::{Check, Checks, Options};
use crate::source;
use crate::support::{Errno, Sha256};
use crate::usage::Usage;
use crate::vfs::{
    BlockDevice, Context, FileSystem, INodeRef, Identity, NewSuper, Param, Statistics, SuperBlock,
    SuperKind, SuperOperations,
};
use kernel::{new_mutex, page::PAGE_SIZE, prelude::*, seq_file::SeqFile};

/// Number of bytes of the image that are checked at a time.
const CHECK_PIECE: usize = 16384;

/// Log why a mount fails: because of an `error` in the image. Return the error code for it.
fn refuse(error: image::Error, context: &Context) -> Error {
    context.error(fmt!("{}: {}", context.source(), error));
    match error.problem {
        Problem::Unreadable => EIO,
        Problem::TooSmall | Problem::Magic => EINVAL,
        Problem::Version | Problem::Feature | Problem::BlockSize => Errno::NotSupported.into(),
        Problem::SuperblockChecksum | Problem::MetadataChecksum | Problem::Digest => {
            Errno::BadMessage.into()
        }
        _ => Errno::Corrupted.into(),
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
    let mut piece = KVec::from_elem(0, CHECK_PIECE, GFP_KERNEL)?;
    let metadata = match checks.check {
        Some(Check::Metadata) => true,
        Some(Check::None) => false,
        None => !verified.metadata,
    };
    if metadata {
        image
            .verify_metadata(&mut piece)
            .map_err(|error| refuse(error, context))?;
        verified.metadata = true;
    }
    if let Some(expected) = &checks.digest {
        verify_digest(&image, &mut piece, expected).map_err(|error| match error {
            DigestError::Image(error) => refuse(error, context),
            DigestError::Interrupted => EINTR,
        })?;
        verified.digest = Some(*expected);
    }
    Ok(verified)
}

/// Make the `checks` of another mount of `sb`.
fn verify_again(sb: &SuperBlock<DaxFs>, checks: &Checks, context: &Context) -> Result {
    let mounted = sb.data();
    let before = *mounted.verified().lock();
    let (region, superblock) = (mounted.region(), mounted.superblock());
    let verified = verify(region, superblock, checks, before, context)?;
    *mounted.verified().lock() = verified;
    Ok(())
}

/// Reasons why the digest of an image cannot be verified.
enum DigestError {
    /// The digest is another one, or the image cannot be read.
    Image(image::Error),
    /// A signal is pending.
    Interrupted,
}

impl From<image::Error> for DigestError {
    fn from(error: image::Error) -> Self {
        DigestError::Image(error)
    }
}

/// Compare the SHA-256 of the image with the `expected` one.
fn verify_digest(
    image: &Image<'_, Region>,
    buffer: &mut [u8],
    expected: &[u8; 32],
) -> Result<(), DigestError> {
    let mut whole = Sha256::new();
    for index in 0..image.superblock().pieces() {
        let mut hash = Sha256::new();
        image.piece(index, buffer, |bytes| {
            hash.update(bytes);
            if kernel::current!().signal_pending() {
                return Err(DigestError::Interrupted);
            }
            Ok(())
        })?;
        whole.update(&hash.finish());
    }
    let digest = whole.finish();
    if digest != *expected {
        let [a, b, c, d, e, f, g, h, ..] = digest;
        let start = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        return Err(image::Error::new(Problem::Digest, 0, start).into());
    }
    Ok(())
}

#[vtable]
impl FileSystem for DaxFs {
    const NAME: &'static CStr = c"daxfs";
    const INODE_CACHE: &'static CStr = c"daxfs_inode";

    type Shared = Shared;
    type Options = Options;
    type Super = Mounted;
    type Resources = Tenure;
    type INode = inode::Data;
    type Mapping = MappedExtent;

    fn parse_param(options: &mut Options, param: &Param<'_>, context: &Context) -> Result {
        options.parse(param, context)
    }

    fn super_kind(options: &Options, context: &Context) -> Result<SuperKind> {
        source::super_kind(options, context)
    }

    fn fill_super(
        sb: &NewSuper<'_>,
        shared: &Shared,
        bdev: Option<&BlockDevice>,
        options: &mut Options,
        tenure: &mut Option<Tenure>,
        context: &Context,
    ) -> Result<(Mounted, Identity)> {
        let tenure = &*tenure.insert(shared.memory.start()?);
        let phys = options.phys_range();
        let region = source::open(bdev, options, tenure, context)?;
        let superblock = open_image(&region, context)?;
        let nothing = Verified::default();
        let verified = verify(&region, &superblock, &options.checks, nothing, context)?;
        Image::new(&region, &superblock)
            .root()
            .map_err(|error| refuse(error, context))?;
        let identity = Identity {
            magic: image::layout::STATFS_MAGIC,
            uuid: superblock.uuid,
        };
        let usage = Usage::new(context.source(), &region, &superblock)?;
        let verified = KBox::pin_init(new_mutex!(verified), GFP_KERNEL)?;
        let usage = usage.show(&shared.directory, &sb.number()?)?;
        let mounted = Mounted::new(usage, region, superblock, phys, verified);
        Ok((mounted, identity))
    }

    fn root(sb: &SuperBlock<Self>) -> Result<INodeRef<Self>> {
        let access = sb.data().region().access()?;
        let root = sb.data().superblock().root;
        inode::get(sb, &sb.data().image(&access), root)
    }

    fn reuse(sb: &SuperBlock<Self>, options: &mut Options, context: &Context) -> Result {
        let mounted = sb.data();
        match image::Superblock::load(mounted.region()) {
            Ok(current) if current == *mounted.superblock() => {
                verify_again(sb, &options.checks, context)
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

    fn reconfigure(sb: &SuperBlock<Self>, options: &mut Options, context: &Context) -> Result {
        if !sb.data().is_same_source(options) {
            context.error(fmt!("a remount cannot change the image's memory"));
            return Err(EINVAL);
        }
        let checks = Checks {
            // Make no check that no option asks for.
            check: Some(options.checks.check.unwrap_or(Check::None)),
            digest: options.checks.digest,
        };
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
        mounted.region().show(seq);
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
