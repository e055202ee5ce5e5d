// SPDX-License-Identifier: GPL-2.0

//! A mounted image.

use crate::claims::Claims;
use crate::image::layout::XattrPrefix;
use crate::image::{self, Image, Problem};
use crate::memory::{Access, Region};
use crate::options::{Check, Checks, Options};
use crate::usage::{Event, Usage};
use crate::vfs::{self, Backing, Context, Errno, Geometry, Statistics, SuperBlock};
use crate::{dir, export, file, inode, source, xattr};
use kernel::{
    debugfs::{Dir, Scope},
    fmt,
    prelude::*,
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
    checks: Checks,
    claims: Claims,
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

    /// Which file has which pages.
    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
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

/// Validates the superblock of the image in `region`, and does the `checks`.
fn open_image(region: &Region, checks: &Checks, context: &Context) -> Result<image::Superblock> {
    let refuse = |error: image::Error| {
        context.error(fmt!("{}: {}", context.source(), error));
        mount_errno(error.problem)
    };
    let access = region.access()?;
    let superblock = image::Superblock::load(&access).map_err(refuse)?;
    if u64::from(superblock.block_size) < vfs::PAGE_SIZE {
        context.error(fmt!(
            "{}: block size {} is smaller than this kernel's pages; use mkdaxfs --block-size {}",
            context.source(),
            superblock.block_size,
            vfs::PAGE_SIZE
        ));
        return Err(Errno::NotSupported.into());
    }
    let image = Image::new(&access, &superblock);
    let mut piece = KVec::from_elem(0, CHECK_PIECE, GFP_KERNEL)?;
    if checks.check == Check::Metadata {
        image.verify_metadata(&mut piece).map_err(refuse)?;
    }
    if let Some(expected) = &checks.digest {
        verify_digest(&image, &mut piece, expected).map_err(|error| match error {
            DigestError::Image(error) => refuse(error),
            DigestError::Interrupted => EINTR,
        })?;
    }
    image.root().map_err(refuse)?;
    Ok(superblock)
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

/// Compares the SHA-256 of the image with the `expected` one.
fn verify_digest(
    image: &Image<'_, Access<'_>>,
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
        context: &Context,
    ) -> Result<(Mounted, Geometry)> {
        let region = source::open(sb, bdev, options, context)?;
        let superblock = open_image(&region, &options.checks, context)?;
        let geometry = Geometry {
            magic: image::layout::STATFS_MAGIC,
            uuid: superblock.uuid,
        };
        let usage = Usage::new(context.source(), &region, &superblock)?;
        let mounted = Mounted {
            usage: usage.show(debugfs, &sb.name()?)?,
            region,
            superblock,
            checks: options.checks,
            claims: Claims::new()?,
        };
        Ok((mounted, geometry))
    }

    fn revalidate(sb: &SuperBlock<Self>, context: &Context) -> Result {
        let Mounted {
            region, superblock, ..
        } = sb.data();
        let access = region.access()?;
        match image::Superblock::load(&access) {
            Ok(current) if current == *superblock => Ok(()),
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

    fn map(file: &vfs::INode<Self>) -> Result {
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
        let Mounted { region, checks, .. } = sb.data();
        region.show(seq);
        if checks.check == Check::None {
            kernel::seq_print!(seq, ",check=none");
        }
        if let Some(digest) = &checks.digest {
            kernel::seq_print!(seq, ",digest=");
            for byte in digest {
                kernel::seq_print!(seq, "{:02x}", byte);
            }
        }
    }
}
