// SPDX-License-Identifier: GPL-2.0

//! A mounted image.

use crate::image::layout::XattrPrefix;
use crate::image::{self, Image, Problem};
use crate::memory::{Access, Region, Tenure};
use crate::options::{Check, Checks, Options, Source};
use crate::usage::{Event, Usage};
use crate::vfs::{self, Backing, Context, Errno, Geometry, Statistics, SuperBlock};
use crate::{bindings, dir, export, file, inode, source, xattr};
use core::ptr::NonNull;
use kernel::{
    debugfs::{Dir, Scope},
    fmt, new_mutex,
    prelude::*,
    sync::Mutex,
};

/// Bytes of metadata that are checked at a time.
const CHECK_PIECE: usize = 16384;

/// The filesystem.
pub(crate) struct DaxFs;

/// What a mounted image keeps.
pub(crate) struct Mounted {
    // Shows the superblock's figures, and goes before the region does.
    usage: Pin<KBox<Scope<Usage>>>,
    region: Region,
    superblock: image::Superblock,
    /// Address and length of the range that `phys=` names.
    phys: Option<(u64, u64)>,
    /// What has been proved since the image was mounted. Checks are made without the mutex, since /proc/mounts takes
    /// it; mounts and remounts exclude one another by `s_umount`.
    proved: Pin<KBox<Mutex<Proved>>>,
}

/// What the checks of all mounts of an image have proved.
#[derive(Clone, Copy)]
struct Proved {
    /// The metadata match their checksum.
    metadata: bool,
    /// The image has this SHA-256.
    digest: Option<[u8; 32]>,
}

impl Mounted {
    /// The region that holds the image.
    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// The validated superblock.
    pub(crate) fn superblock(&self) -> &image::Superblock {
        &self.superblock
    }

    /// Counts an event; see [`Usage::count`].
    #[inline]
    pub(crate) fn count(&self, event: Event, amount: u64) {
        self.usage.count(event, amount);
    }

    /// What tells handles of this image's files from those of another: the start of its SHA-256.
    pub(crate) fn generation(&self) -> u32 {
        let [a, b, c, d, ..] = self.superblock.sha256;
        u32::from_le_bytes([a, b, c, d])
    }

    /// How many inodes the image has.
    pub(crate) fn inode_count(&self) -> u64 {
        self.superblock.inode_count()
    }

    /// The image, while `access` keeps its memory from going away.
    #[inline]
    pub(crate) fn image<'a>(&'a self, access: &'a Access<'a>) -> Image<'a, Access<'a>> {
        Image::new(access, &self.superblock)
    }
}

impl kernel::fmt::Display for image::Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

/// Logs what is wrong with an image in use, a few times a second at most, and tells the errno for it.
pub(crate) fn report(sb: &SuperBlock<DaxFs>, ino: impl Into<u64>, error: image::Error) -> Error {
    let ino = ino.into();
    sb.data().count(Event::Error, 0);
    sb.trace_error(ino, error.problem.text(), error.offset, error.value);
    if vfs::log_allowed() {
        pr_err!("{}: inode {}: {}\n", sb.id(), ino, error);
    }
    match error.problem {
        Problem::Unreadable => EIO,
        _ => Errno::Corrupted.into(),
    }
}

/// The errno for a mount that an image's `problem` prevents.
fn mount_errno(problem: Problem) -> Error {
    match problem {
        Problem::Unreadable => EIO,
        Problem::TooSmall | Problem::Magic => EINVAL,
        Problem::Version | Problem::Feature | Problem::BlockSize => Errno::NotSupported.into(),
        Problem::SuperblockChecksum | Problem::MetadataChecksum | Problem::Digest => {
            Errno::BadMessage.into()
        }
        _ => Errno::Corrupted.into(),
    }
}

/// Log why `context` cannot be mounted, and return the errno for it.
fn refuse(error: image::Error, context: &Context) -> Error {
    context.error(fmt!("{}: {}", context.source(), error));
    mount_errno(error.problem)
}

/// Load and validate the superblock of the image in `region`, and its root directory.
fn open_image(region: &Region, context: &Context) -> Result<image::Superblock> {
    let superblock = image::Superblock::load(region).map_err(|error| refuse(error, context))?;
    if u64::from(superblock.block_size) < vfs::PAGE_SIZE {
        context.error(fmt!(
            "{}: block size {} is smaller than this kernel's pages; use mkdaxfs --block-size {}",
            context.source(),
            superblock.block_size,
            vfs::PAGE_SIZE
        ));
        return Err(Errno::NotSupported.into());
    }
    Ok(superblock)
}

/// Check the image in `region` as `checks` ask for. What has been `proved` before is proved anew only if the mount asks
/// for it by an option. Return what is proved then.
///
/// # Errors
///
/// `EBADMSG` if it is another image, `EIO` if it cannot be read, `EINTR`, `ENOMEM`.
fn prove(
    region: &Region,
    superblock: &image::Superblock,
    checks: &Checks,
    mut proved: Proved,
    context: &Context,
) -> Result<Proved> {
    let image = Image::new(region, superblock);
    let mut piece = KVec::from_elem(0, CHECK_PIECE, GFP_KERNEL)?;
    let wanted = match checks.check {
        Some(Check::Metadata) => true,
        Some(Check::None) => false,
        None => !proved.metadata,
    };
    if wanted {
        image
            .verify_metadata(&mut piece)
            .map_err(|error| refuse(error, context))?;
        proved.metadata = true;
    }
    if let Some(expected) = &checks.digest {
        verify_digest(&image, &mut piece, expected).map_err(|error| match error {
            DigestError::Image(error) => refuse(error, context),
            DigestError::Interrupted => EINTR,
        })?;
        proved.digest = Some(*expected);
    }
    Ok(proved)
}

/// Check what is mounted already once more, for another mount.
fn prove_again(sb: &SuperBlock<DaxFs>, checks: &Checks, context: &Context) -> Result {
    let mounted = sb.data();
    let before = *mounted.proved.lock();
    let proved = prove(
        &mounted.region,
        &mounted.superblock,
        checks,
        before,
        context,
    )?;
    *mounted.proved.lock() = proved;
    Ok(())
}

/// Why an image could not be compared with its digest.
enum DigestError {
    /// It is another, or cannot be read.
    Image(image::Error),
    /// A signal came in between.
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
    let mut whole = vfs::Sha256::new();
    for index in 0..image.superblock().pieces() {
        let mut hash = vfs::Sha256::new();
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

impl vfs::FileSystem for DaxFs {
    const NAME: &'static CStr = c"daxfs";

    type Shared = Dir;
    type Options = Options;
    type Super = Mounted;
    type Held = Tenure;
    type Inode = inode::Data;

    fn parse_param(options: &mut Options, param: &vfs::Param<'_>, context: &Context) -> Result {
        options.parse(param, context)
    }

    fn backing(options: &Options, context: &Context) -> Result<Backing> {
        source::backing(options, context)
    }

    fn fill_super(
        sb: &vfs::NewSuper,
        debugfs: &Dir,
        bdev: Option<&vfs::BlockDevice>,
        options: &mut Options,
        held: &mut Option<Tenure>,
        context: &Context,
    ) -> Result<(Mounted, Geometry)> {
        let lease = held.insert(Tenure::start()?).lease().clone();
        let phys = match (&options.source, options.size) {
            (Some(Source::Phys(start)), Some(size)) => Some((*start, size)),
            _ => None,
        };
        let region = source::open(bdev, options, &lease, context)?;
        let superblock = open_image(&region, context)?;
        let nothing = Proved {
            metadata: false,
            digest: None,
        };
        let proved = prove(&region, &superblock, &options.checks, nothing, context)?;
        Image::new(&region, &superblock)
            .root()
            .map_err(|error| refuse(error, context))?;
        let geometry = Geometry {
            magic: image::layout::STATFS_MAGIC,
            uuid: superblock.uuid,
        };
        let usage = Usage::new(context.source(), &region, &superblock)?;
        let proved = KBox::pin_init(new_mutex!(proved), GFP_KERNEL)?;
        let mounted = Mounted {
            usage: usage.show(debugfs, &sb.name()?)?,
            region,
            superblock,
            phys,
            proved,
        };
        options.mounted = true;
        Ok((mounted, geometry))
    }

    fn shutdown(sb: &SuperBlock<Self>) {
        sb.data().region.revoke();
    }

    fn filled(options: &Options) -> bool {
        options.mounted
    }

    fn revalidate(sb: &SuperBlock<Self>, options: &mut Options, context: &Context) -> Result {
        let Mounted {
            region, superblock, ..
        } = sb.data();
        match image::Superblock::load(region) {
            Ok(current) if current == *superblock => prove_again(sb, &options.checks, context),
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
        let phys = sb.data().phys;
        let source_stays = match (&options.source, options.size) {
            (None, None) => true,
            (Some(Source::Phys(start)), size) => {
                phys.is_some_and(|(address, length)| address == *start && size == Some(length))
            }
            _ => false,
        };
        if !source_stays {
            context.error(fmt!("a remount cannot change the image's memory"));
            return Err(EINVAL);
        }
        let checks = Checks {
            // Unless it is asked for, nothing is checked.
            check: Some(options.checks.check.unwrap_or(Check::None)),
            digest: options.checks.digest,
        };
        prove_again(sb, &checks, context)
    }

    fn root(sb: &SuperBlock<Self>) -> Result<vfs::INodeRef<Self>> {
        let access = sb.data().region.access()?;
        let root = sb.data().superblock.root;
        inode::get(sb, &sb.data().image(&access), root)
    }

    fn lookup(dir: &vfs::INode<Self>, name: &[u8]) -> Result<Option<vfs::INodeRef<Self>>> {
        dir::lookup(dir, name)
    }

    fn iterate(dir: &vfs::INode<Self>, emitter: &mut vfs::Emitter<'_>) -> Result {
        dir::iterate(dir, emitter)
    }

    fn read(file: &vfs::INode<Self>, offset: u64, to: &mut vfs::Destination<'_>) -> Result<usize> {
        file::read(file, offset, to)
    }

    fn copy(file: &vfs::INode<Self>, offset: u64, into: &mut [u8]) -> Result {
        file::copy(file, offset, into)
    }

    fn faulted(file: &vfs::INode<Self>, outcome: vfs::Fault) {
        let event = match outcome {
            vfs::Fault::Page => Event::Fault,
            vfs::Fault::Huge => Event::HugeFault,
            vfs::Fault::Failed => Event::FailedFault,
        };
        file.super_block().data().count(event, 0);
    }

    fn extent(file: &vfs::INode<Self>) -> Result<vfs::Extent<'_>> {
        file::extent(file)
    }

    fn map(file: &vfs::INode<Self>) -> Result<NonNull<bindings::address_space>> {
        file::map(file)
    }

    fn evict(inode: &vfs::INode<Self>) {
        file::evict(inode);
    }

    fn xattr(
        inode: &vfs::INode<Self>,
        prefix: XattrPrefix,
        name: &[u8],
        value: &mut vfs::ValueBuffer<'_>,
    ) -> Result<usize> {
        xattr::get(inode, prefix, name, value)
    }

    fn list_xattrs(inode: &vfs::INode<Self>, list: &mut vfs::NameList<'_>) -> Result {
        xattr::list(inode, list)
    }

    fn acl(
        inode: &vfs::INode<Self>,
        kind: vfs::AclKind,
        take: impl FnOnce(&[u8]) -> Result,
    ) -> Result {
        xattr::acl(inode, kind, take)
    }

    fn inode_of_handle(
        sb: &SuperBlock<Self>,
        ino: u64,
        generation: u32,
    ) -> Result<vfs::INodeRef<Self>> {
        export::inode_of_handle(sb, ino, generation)
    }

    fn parent(dir: &vfs::INode<Self>) -> Result<vfs::INodeRef<Self>> {
        export::parent(dir)
    }

    fn name_in(
        dir: &vfs::INode<Self>,
        child: &vfs::INode<Self>,
        take: impl FnOnce(&[u8]),
    ) -> Result {
        export::name_in(dir, child, take)
    }

    fn label(sb: &SuperBlock<Self>) -> &[u8] {
        let label = &sb.data().superblock.label;
        label.split(|&byte| byte == 0).next().unwrap_or(label)
    }

    fn statistics(sb: &SuperBlock<Self>) -> Statistics {
        let superblock = &sb.data().superblock;
        Statistics {
            pages: superblock.total_size / vfs::PAGE_SIZE,
            inodes: superblock.inode_count(),
            name_max: image::layout::NAME_MAX as u32,
        }
    }

    fn show_options(sb: &SuperBlock<Self>, seq: &kernel::seq_file::SeqFile) {
        let mounted = sb.data();
        mounted.region.show(seq);
        let proved = *mounted.proved.lock();
        if !proved.metadata {
            kernel::seq_print!(seq, ",check=none");
        }
        if let Some(digest) = &proved.digest {
            kernel::seq_print!(seq, ",digest=");
            for byte in digest {
                kernel::seq_print!(seq, "{:02x}", byte);
            }
        }
    }
}
