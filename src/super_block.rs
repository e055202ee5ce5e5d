// SPDX-License-Identifier: GPL-2.0-only

//! Mounts, remounts, and shows an image.

use crate::backing::{
    load_superblock,
    Backing, //
};
use crate::image::{
    Loaded,
    Memory, //
};
use crate::linux::block::BlockDevice;
use crate::linux::check_signal;
use crate::memory::{
    buffer,
    ExtentClaim,
    LeaseRef,
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
use crate::packs::{
    self,
    Domain,
    Pack,
    Packs, //
};
use crate::prelude::*;
use crate::signature::Keyring;
use crate::source::{
    self,
    Found, //
};
use crate::usage::Usage;
use crate::verify::{
    Lanes,
    Proof, //
};
use crate::{
    dir,
    inode, //
};
use zerocopy::IntoBytes;

/// How many pieces of a user's mount can be verified at the same time.
const USER_LANES: usize = 4;

/// Returns true if the module's parameter demands a signature of every image. It does not change
/// after the module was loaded.
pub(crate) fn signatures_required() -> bool {
    crate::module_parameters::require_signatures.value().ne(&0)
}

/// Performs the `checks` of a mount of `image`, and compares its `metadata` if that is set.
///
/// Errors: `EBADMSG` if a check fails, `EIO` if the image cannot be read, the errors of
/// [`Proof`](crate::verify::Proof), `EINTR`, `ENOMEM`.
fn prove(
    image: &Image<'_, impl Memory>,
    keyring: &Keyring,
    checks: &Checks,
    metadata: bool,
) -> Result<(), Refusal> {
    if metadata {
        let mut piece = buffer(image.superblock().data.offset)?;
        let check = || check_signal().map_err(Refusal::from);
        image.verify_metadata(piece.as_flattened_mut(), check)?;
    }
    checks.proof.prove(image, keyring)
}

/// Checks that the first mount proved everything that a remount demands. Because sync(2) waits for
/// a remount, we only compare the proven SHA-256 again.
///
/// Errors: `EBUSY` if not, `EBADMSG` if that is another one, `EINVAL` if the options have no
/// effect.
fn remounted(mounted: &Mounted, checks: &Checks) -> Result<(), Refusal> {
    let (first, pieces) = (&mounted.checks, mounted.backing.pieces.as_ref());
    checks.proof.validate()?;
    if checks.metadata == Some(true) && first.metadata == Some(false) {
        refuse!(EBUSY => "mounted already with check=none"; "unmount it everywhere first");
    }
    let superblock = &mounted.backing.superblock;
    checks.proof.remounted(&first.proof, pieces, superblock)
}

/// Performs the `checks` of another mount, while the image is in use.
///
/// Errors: `EBUSY` if the first mount has not proved enough, `ESTALE` if another image has taken
/// the place of this one, the errors of [`prove`].
fn prove_again(sb: &SuperBlock<DaxFs>, checks: &Checks) -> Result<(), Refusal> {
    let mounted = sb.data();
    let Backing {
        region,
        superblock,
        pieces,
    } = &mounted.backing;
    match image::Superblock::load(region) {
        Ok(current) if current == *superblock => {}
        Err(error) if error.problem == Problem::Unreadable => return Err(error.into()),
        _ => {
            refuse!(Errno::Stale => "the image was replaced while it is mounted";
                "unmount it everywhere first")
        }
    }
    let memory = loaded(region, superblock, &mounted.packs.table);
    let image = Image::new(&memory, superblock);
    let first = &mounted.checks;
    checks.proof.again(&first.proof, pieces.as_ref(), &image)?;
    let unchecked = first.metadata == Some(false);
    let metadata = checks.metadata.unwrap_or(unchecked);
    prove(&image, &sb.shared().keyring, checks, metadata)
}

/// Returns the memory of an image with the `table` of packs that was loaded from it, so that we
/// prove the table that we use.
fn loaded<'a>(
    region: &'a Region,
    superblock: &image::Superblock,
    table: &'a [layout::Pack],
) -> Loaded<'a, Region> {
    Loaded {
        memory: region,
        start: superblock.packs.offset,
        bytes: table.as_bytes(),
    }
}

/// Checks the image in `region`, and returns the data of its superblock. The memory is `bdev`'s, if
/// that is given.
fn load(
    shared: &Shared,
    (region, bdev): (Region, Option<BlockDevice>),
    options: &Options,
    found: Found,
    context: &Context,
) -> Result<Mounted, Refusal> {
    let superblock = load_superblock(&region)?;
    let table = packs::table(&Image::new(&region, &superblock))?;
    let memory = loaded(&region, &superblock, &table);
    let image = Image::new(&memory, &superblock);
    let checks = options.checks;
    let metadata = checks.metadata.unwrap_or(true);
    prove(&image, &shared.keyring, &checks, metadata)?;
    let pieces = checks.proof.pieces(&image)?;
    image.root()?;
    let name = source::shared_name(options, &found)?;
    let domain = match (options.domain, &name) {
        (Some(domain), _) => domain,
        (None, Some(name)) => Domain::of_device(name).ok_or(ENAMETOOLONG)?,
        (None, None) => Domain::own(),
    };
    let place = Place {
        named: options.named(),
        part: found.part.clone(),
    };
    let is_fixed = place.is_sealed() && checks.proof.has_digest();
    let packs = Arc::new(Packs::new(table, domain, is_fixed)?, GFP_KERNEL_ACCOUNT)?;
    packs.attach(&options.packs, |part| {
        Pack::new(context.user(), |lease_ref| {
            let range = Some(part.clone());
            let (region, bdev) = source::open(options, &found, range, lease_ref, context)?;
            let name = name.as_ref().ok_or_else(
                || refusal!(EINVAL => "pack=SHA256:OFFSET:LENGTH needs an image on a device"),
            )?;
            let place = CString::try_from_fmt(fmt!("{}+{}", &**name, part.start))?;
            Ok((bdev, region, place))
        })
    })?;
    let missing = packs.missing();
    if missing > 0 {
        let (source, all) = (context.source(), packs.table.len());
        context.warn(fmt!(
            "{source}: {missing} of {all} packs are missing: files in them cannot be opened"
        ));
    }
    let offset = place.part.as_ref().map_or(0, |part| part.start);
    let backing = Backing {
        region,
        superblock,
        pieces,
    };
    let mut of_user = None;
    let mut source = context.source();
    if context.user().is_some() {
        let verifies = backing.pieces.is_some() || !packs.table.is_empty();
        of_user = Some(Lanes::of_count(if verifies { USER_LANES } else { 0 })?);
        // It is shown nowhere.
        source = c"";
    }
    let usage = Usage::new(source, found.device, offset, &backing, &packs, is_fixed)?;
    Ok(Mounted {
        of_user,
        usage,
        backing,
        packs,
        place,
        checks,
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

    fn new_options(user: Option<User>) -> Options {
        let checks = Checks {
            metadata: None,
            proof: Proof::demanding(signatures_required()),
        };
        Options {
            user,
            checks,
            ..Options::default()
        }
    }

    fn parse_param(
        options: &mut Options,
        param: &Param<'_>,
        sb: Option<&SuperBlock<Self>>,
    ) -> Result<(), Refusal> {
        options.parse(param, sb.map(|sb| sb.data().packs.domain))
    }

    fn super_kind(options: &Options, context: &Context) -> Result<(SuperKind, Found), Refusal> {
        options.checks.proof.validate()?;
        source::super_kind(options, context)
    }

    fn open(
        shared: &Shared,
        options: &Options,
        found: Found,
        context: &Context,
    ) -> Result<Mounted, Refusal> {
        let lease_ref = LeaseRef::new(context.user())?;
        let part = found.part.clone();
        let opened = source::open(options, &found, part, &lease_ref, context)?;
        load(shared, opened, options, found, context)
            .map_err(|refusal| refusal.of(fmt!("{}", context.source())))
    }

    fn block_device(mounted: &Mounted) -> Option<&BlockDevice> {
        mounted.bdev.as_ref()
    }

    fn publish(mounted: &mut Mounted, shared: &Shared, device: u32) -> Result {
        // Don't reveal to others what ordinary users mount, or how often.
        if mounted.of_user.is_some() {
            return Ok(());
        }
        mounted.usage.publish(&shared.directory, device)
    }

    fn root(sb: &SuperBlock<Self>) -> Result<INodeRef<Self>> {
        let backing = &sb.data().backing;
        let access = backing.region.access()?;
        let inode = inode::get(sb, &backing.image(&access), backing.superblock.root)?;
        // It may have changed after validation.
        if dir::directory(&inode)?.is_root() {
            Ok(inode)
        } else {
            Err(Errno::Corrupted.into())
        }
    }

    fn is_gone(sb: &SuperBlock<Self>) -> bool {
        sb.data().backing.region.revoked()
    }

    fn reuse(sb: &SuperBlock<Self>, options: &Options, context: &Context) -> Result<(), Refusal> {
        let packs = &sb.data().packs;
        let again = || {
            if let Some(sum) = packs.lost() {
                let sum = Hex(sum);
                refuse!(EBUSY => "mounted already, and the memory of its pack {sum} is gone";
                    "unmount the image everywhere first");
            }
            if options.domain.is_some_and(|domain| domain != packs.domain) {
                refuse!(EBUSY => "mounted already with another domain=";
                    "unmount it everywhere first");
            }
            prove_again(sb, &options.checks)?;
            packs.attach(&options.packs, no_place)
        };
        again().map_err(|refusal| refusal.of(fmt!("{}", context.source())))
    }

    fn reconfigure(
        sb: &SuperBlock<Self>,
        options: &Options,
        context: &Context,
    ) -> Result<(), Refusal> {
        if !sb.data().is_same_source(options) {
            refuse!(EINVAL => "a remount cannot change the image's memory");
        }
        remounted(sb.data(), &options.checks)
            .and_then(|()| sb.data().packs.attach(&options.packs, no_place))
            .map_err(|refusal| refusal.of(fmt!("{}", context.source())))
    }

    fn statfs(sb: &SuperBlock<Self>) -> (u64, u64) {
        let superblock = &sb.data().backing.superblock;
        let size = superblock.total_size.saturating_add(sb.data().packs.size());
        (size / PAGE_SIZE as u64, superblock.inode_count())
    }

    fn show_options(sb: &SuperBlock<Self>, seq: &SeqFile) {
        let mounted = sb.data();
        mounted.place.show(seq);
        let checks = &mounted.checks;
        if checks.metadata == Some(false) {
            kernel::seq_print!(seq, ",check=none");
        }
        let (superblock, pieces) = (&mounted.backing.superblock, &mounted.backing.pieces);
        checks.proof.show(seq, superblock, pieces.is_some());
        if let Some(name) = mounted.packs.domain.name() {
            kernel::seq_print!(seq, ",domain={name}");
        }
    }

    fn retire(sb: &SuperBlock<Self>) {
        // The name of the directory is the device number.
        sb.data().usage.remove();
    }

    fn label(sb: &SuperBlock<Self>) -> &[u8] {
        let label = &sb.data().backing.superblock.label;
        label.split(|&byte| byte == 0).next().unwrap_or(label)
    }

    fn uuid(sb: &SuperBlock<Self>) -> &[u8; 16] {
        &sb.data().backing.superblock.uuid
    }
}

/// Refuses a pack that is not open, because the image is already mounted.
fn no_place(_part: &Range<u64>) -> Result<Arc<Pack>, Refusal> {
    Err(
        refusal!(EINVAL => "the image is mounted already without a pack on its device";
        "unmount it everywhere first"),
    )
}
