// SPDX-License-Identifier: GPL-2.0-only

//! Superblocks: mounting, remounting, and showing a mount.

use crate::image::{
    self,
    Image,
    Problem, //
};
use crate::linux::block::BlockDevice;
use crate::linux::fs::{
    refusal,
    Context,
    FileSystem,
    INodeRef,
    Param,
    Refusal,
    Registration,
    Statistics,
    SuperBlock,
    SuperKind,
    SuperOperations, //
};
use crate::linux::{
    check_signal,
    Errno, //
};
use crate::memory::{
    buffer,
    ExtentClaim,
    Region, //
};
use crate::mount::{
    DaxFs,
    Mounted,
    Place,
    Shared, //
};
use crate::options::{
    Checks,
    Options, //
};
use crate::packs;
use crate::signature::Keyring;
use crate::source::{
    self,
    Found, //
};
use crate::usage::Usage;
use crate::{
    dir,
    inode, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    seq_file::SeqFile, //
};

/// Returns true if the module's parameter demands a signature of every image. It does not change
/// after the module was loaded.
pub(crate) fn signatures_required() -> bool {
    crate::module_parameters::require_signatures.value().ne(&0)
}

/// Makes the `checks` of a mount of `image`, of its metadata only if they are to be compared.
///
/// # Errors
///
/// `EBADMSG` if a check fails, `EIO` if the image cannot be read, the errors of
/// [`Proof`](crate::verify::Proof), `EINTR`, `ENOMEM`.
fn prove(
    image: &Image<'_, Region>,
    keyring: &Keyring,
    checks: &Checks,
    metadata: bool,
) -> Result<(), Refusal> {
    checks.proof.check_signature(image, keyring)?;
    if metadata {
        let mut piece = buffer(image.superblock().data.offset)?;
        let check = || check_signal().map_err(Refusal::from);
        image.verify_metadata(piece.as_flattened_mut(), check)?;
    }
    checks.proof.prove(image)
}

/// Checks that the first mount has proved all that a remount demands. sync(2) waits for a remount,
/// so nothing is compared again but the SHA-256 that was proved.
///
/// # Errors
///
/// `EBUSY` if not, `EBADMSG` if that is another one, `EINVAL` if the options have no effect.
fn remounted(mounted: &Mounted, checks: &Checks) -> Result<(), Refusal> {
    let (first, pieces) = (&mounted.checks, mounted.pieces.as_ref());
    checks.proof.validate()?;
    if checks.metadata == Some(true) && first.metadata == Some(false) {
        return Err(refusal!(EBUSY, "mounted already with check=none")
            .remedy("unmount it everywhere first"));
    }
    let superblock = &mounted.superblock;
    checks.proof.remounted(&first.proof, pieces, superblock)
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
    let image = Image::new(&mounted.region, &mounted.superblock);
    checks
        .proof
        .again(&mounted.checks.proof, mounted.pieces.as_ref(), &image)?;
    let unchecked = mounted.checks.metadata == Some(false);
    let metadata = checks.metadata.unwrap_or(unchecked);
    prove(&image, &mounted.keyring, checks, metadata)
}

/// Checks the image in `region`, which is `bdev`'s if that is given, and returns the data of its
/// superblock.
fn load(
    registration: &Registration<DaxFs>,
    (region, bdev): (Region, Option<BlockDevice>),
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
    let keyring = &registration.shared.keyring;
    prove(&image, keyring, &checks, metadata)?;
    let pieces = checks.proof.pieces(&image, context.source())?;
    image.root()?;
    let place = Place {
        named: options.named(),
        device: found.device,
        part: found.part,
    };
    let packs = packs::join(&image, registration, &place, &checks)?;
    let offset = place.part.as_ref().map_or(0, |part| part.start);
    let is_fixed = place.is_sealed() && checks.proof.has_digest();
    let usage = Usage::new(
        context.source(),
        found.device,
        offset,
        &region,
        &superblock,
        is_fixed,
    )?;
    Ok(Mounted {
        usage,
        region,
        superblock,
        is_direct: pieces.is_none() && packs.is_empty(),
        pieces,
        packs,
        place,
        checks,
        keyring: keyring.clone(),
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
        options
            .checks
            .demanding(signatures_required())
            .proof
            .validate()?;
        source::super_kind(options, context)
    }

    fn open(
        registration: &Registration<DaxFs>,
        options: &Options,
        found: Found,
        context: &Context,
    ) -> Result<Mounted, Refusal> {
        let lease_ref = registration.shared.memory.start()?;
        let opened = source::open(options, &found, &lease_ref, context)?;
        load(registration, opened, options, found, context)
            .map_err(|refusal| refusal.of(fmt!("{}", context.source())))
    }

    fn block_device(mounted: &Mounted) -> Option<&BlockDevice> {
        mounted.bdev.as_ref()
    }

    fn publish(mounted: &mut Mounted, shared: &Shared, device: u32) -> Result {
        mounted.usage.publish(&shared.directory, device)
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
        packs::still_there(&sb.data().packs)
            .and_then(|()| prove_again(sb.data(), &options.checks.demanding(signatures_required())))
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
        checks
            .proof
            .show(seq, &mounted.superblock, mounted.pieces.is_some());
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
