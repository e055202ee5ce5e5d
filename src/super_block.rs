// SPDX-License-Identifier: GPL-2.0-only

//! Superblocks: mounting, remounting, and showing a mount.

use crate::image::{self, Image, Problem};
use crate::linux::block::{BlockDevice, OpenBlockDevice};
use crate::linux::fs::{
    numbers, refusal, Context, FileSystem, INodeRef, Param, Refusal, Statistics, SuperBlock,
    SuperKind, SuperOperations,
};
use crate::linux::{sysfs::Show, Errno, Keyring};
use crate::memory::{ExtentClaim, Region};
use crate::mount::{DaxFs, Mounted, Place, Shared};
use crate::options::{Checks, Options, Verify};
use crate::signature;
use crate::source::{self, Found};
use crate::usage::Usage;
use crate::verify::{self, Pieces};
use crate::{dir, inode};
use kernel::{page::PAGE_SIZE, prelude::*, seq_file::SeqFile, str::CString};

/// Returns true if the module's parameter demands a signature of every image. It does not change
/// after the module was loaded.
pub(crate) fn signatures_required() -> bool {
    crate::module_parameters::require_signatures.value().ne(&0)
}

/// Number of bytes of the image that are checked at a time.
const CHECK_PIECE: usize = 16384;

/// Number of bytes of a cache line.
const LINE: usize = 64;

/// Makes the `checks` of a mount of `image`, of its metadata only if they are to be compared.
///
/// # Errors
///
/// `EBADMSG` if a check fails, `EIO` if the image cannot be read, the errors of
/// [`signature::verify`], `EINTR`, `ENOMEM`.
fn prove(
    image: &Image<'_, Region>,
    keyring: &Keyring,
    checks: &Checks,
    metadata: bool,
) -> Result<(), Refusal> {
    if checks.signature {
        signature::verify(image, keyring)?;
    }
    let superblock = image.superblock();
    let is_whole = checks.compares(Verify::Full);
    // Many images have less metadata than that.
    let length = if is_whole {
        CHECK_PIECE
    } else {
        CHECK_PIECE.min(superblock.data.offset as usize)
    };
    // It is faster to initialize whole lines than bytes.
    let mut piece = KVec::from_elem([0; LINE], length.div_ceil(LINE), GFP_KERNEL)?;
    let piece = piece.as_flattened_mut();
    if metadata {
        image.verify_metadata(piece, verify::check_signal)?;
    }
    if is_whole {
        verify::whole(image, piece)?;
    }
    compare(checks, superblock)
}

/// Compares `digest=`, if it is given, with this copy of the superblock, which a mount uses.
fn compare(checks: &Checks, superblock: &image::Superblock) -> Result<(), Refusal> {
    match &checks.digest {
        Some(expected) => verify::compare(&superblock.sha256, expected),
        None => Ok(()),
    }
}

/// Checks that the first mount of `mounted` has proved what can be proved only then.
///
/// # Errors
///
/// `EBUSY` if not.
fn has_proved(mounted: &Mounted, checks: &Checks) -> Result<(), Refusal> {
    // Inodes, names and copies of pages are in caches already.
    if checks.has_digest() && !mounted.checks.has_digest() {
        return Err(mounted_already("without digest= or signature=required"));
    }
    if checks.compares(Verify::Lazy) && mounted.pieces.is_none() {
        return Err(mounted_already("without verify=lazy")
            .remedy("unmount it everywhere first, or use verify=full"));
    }
    Ok(())
}

/// Checks that the first mount has proved all that a remount demands. sync(2) waits for a remount,
/// so nothing is compared again but the SHA-256 that was proved.
///
/// # Errors
///
/// `EBUSY` if not, `EBADMSG` if that is another one, `EINVAL` if the options have no effect.
fn remounted(mounted: &Mounted, checks: &Checks) -> Result<(), Refusal> {
    checks.validate()?;
    has_proved(mounted, checks)?;
    if checks.signature && !mounted.checks.signature {
        return Err(mounted_already("without signature=required"));
    }
    if checks.verify == Some(Verify::Full) && mounted.pieces.is_some() {
        return Err(mounted_already("with verify=lazy"));
    }
    if checks.metadata == Some(true) && mounted.checks.metadata == Some(false) {
        return Err(mounted_already("with check=none"));
    }
    compare(checks, &mounted.superblock)
}

/// Makes the `checks` of another mount, while the image is in use.
///
/// # Errors
///
/// `EBUSY` if the first mount has not proved enough, `ESTALE` if another image has taken the place
/// of this one, the errors of [`prove`].
fn prove_again(mounted: &Mounted, checks: &Checks) -> Result<(), Refusal> {
    match image::Superblock::load(&mounted.region) {
        Ok(current) if current == mounted.superblock => {}
        Err(error) if error.problem == Problem::Unreadable => return Err(error.into()),
        _ => {
            return Err(
                refusal!(Errno::Stale, "the image was replaced while it is mounted")
                    .remedy("unmount it everywhere first"),
            )
        }
    }
    has_proved(mounted, checks)?;
    let image = Image::new(&mounted.region, &mounted.superblock);
    if let (true, Some(pieces)) = (checks.compares(Verify::Lazy), &mounted.pieces) {
        pieces.verify_metadata(&image)?;
    }
    let unchecked = mounted.checks.metadata == Some(false);
    let metadata = checks.metadata.unwrap_or(unchecked);
    prove(&image, &mounted.keyring, checks, metadata)
}

/// Returns why a mount or a remount is refused that demands more than the first mount.
fn mounted_already(how: &str) -> Refusal {
    refusal!(EBUSY, "mounted already {how}").remedy("unmount it everywhere first")
}

/// Checks the image in `region`, which is `bdev`'s if that is given, and returns the data of its
/// superblock.
fn load(
    shared: &Shared,
    (region, bdev): (Region, Option<OpenBlockDevice>),
    options: &Options,
    found: Found,
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
    let metadata = checks.metadata.unwrap_or(true);
    prove(&image, &shared.keyring, &checks, metadata)?;
    let pieces = if checks.compares(Verify::Lazy) {
        Some(Pieces::new(&image)?)
    } else {
        None
    };
    image.root()?;
    let place = Place {
        named: options.named(),
        part: found.part,
    };
    let offset = place.part.as_ref().map_or(0, |part| part.start);
    let usage = Usage::new(context.source(), found.device, offset, &region, &superblock)?;
    Ok(Mounted {
        usage: Show::new(usage)?,
        region,
        superblock,
        pieces,
        place,
        checks,
        keyring: shared.keyring.clone(),
        bdev,
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

    fn open(
        shared: &Shared,
        options: &Options,
        found: Found,
        context: &Context,
    ) -> Result<Mounted, Refusal> {
        let tenure = shared.memory.start()?;
        let opened = source::open(options, &found, &tenure, context)?;
        load(shared, opened, options, found, context)
            .map_err(|refusal| refusal.of(fmt!("{}", context.source())))
    }

    fn block_device(mounted: &Mounted) -> Option<&BlockDevice> {
        mounted.bdev.as_deref()
    }

    fn publish(mounted: &mut Mounted, shared: &Shared, device: u32) -> Result {
        let (major, minor) = numbers(device);
        let name = CString::try_from_fmt(fmt!("{major}:{minor}"))?;
        mounted.usage.publish(&shared.directory, &name)
    }

    fn root(sb: &SuperBlock<Self>) -> Result<INodeRef<Self>> {
        let access = sb.data().region.access()?;
        let root = sb.data().superblock.root;
        let inode = inode::get(sb, &sb.data().image(&access), root)?;
        // It may have changed since it was validated.
        if dir::directory(&inode)?.is_root() {
            Ok(inode)
        } else {
            Err(Errno::Corrupted.into())
        }
    }

    fn is_gone(sb: &SuperBlock<Self>) -> bool {
        sb.data().region.revoked()
    }

    fn reuse(sb: &SuperBlock<Self>, options: &Options, context: &Context) -> Result<(), Refusal> {
        prove_again(sb.data(), &options.checks.demanding(signatures_required()))
            .map_err(|refusal| refusal.of(fmt!("{}", context.source())))
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
        remounted(sb.data(), &options.checks)
            .map_err(|refusal| refusal.of(fmt!("{}", context.source())))
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
        let checks = &mounted.checks;
        if checks.metadata == Some(false) {
            kernel::seq_print!(seq, ",check=none");
        }
        if checks.has_digest() {
            kernel::seq_print!(seq, ",digest=");
            for byte in &mounted.superblock.sha256 {
                kernel::seq_print!(seq, "{:02x}", byte);
            }
        }
        if mounted.pieces.is_some() {
            kernel::seq_print!(seq, ",verify=lazy");
        }
        if checks.signature {
            kernel::seq_print!(seq, ",signature=required");
        }
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
