// SPDX-License-Identifier: GPL-2.0-only

//! Packs: memory in which several images share their files' data.
//!
//! A pack consists of memory, its superblock and the state of its pieces. It is never mounted.
//! Images list their packs by SHA-256. All images in a *domain* share a pack, and the last one
//! frees it. A mount supplies packs as descriptors or as ranges of its own device, or finds them in
//! its domain. It cannot reach other domains, so knowing a SHA-256 gives access to nothing.
//!
//! We compare each piece of a pack with its SHA-256 before its first use. So a pack's origin does
//! not matter, and proving an image also proves its packs.

use crate::backing::{
    load_superblock,
    name_of,
    Backing, //
};
use crate::image::Memory;
use crate::linux::block::{
    self,
    BlockDevice, //
};
use crate::memory::{
    dax,
    LeaseRef,
    Region, //
};
use crate::prelude::*;
use crate::verify::Pieces;
use kernel::sync::SetOnce;

/// How long to wait for another mount that is opening the same place.
const INTERVAL: Delta = Delta::from_millis(10);

/// How many times to wait before the mount fails.
const TRIES: u32 = 200;

/// The SHA-256 of a pack.
pub(crate) type Sum = [u8; 32];

/// A name, padded with NUL, and the number of a user namespace, 0 for the initial one. Users choose
/// names without a slash, and devices are named with one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Domain([u8; 64], u32);

impl Domain {
    /// Returns the domain that `domain=` of `user` names, if the name is valid.
    pub(crate) fn named(name: &[u8], user: Option<User>) -> Option<Self> {
        let is_valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:-".contains(byte);
        let is_valid = !name.is_empty() && name.iter().all(is_valid);
        let namespace = user.map_or(0, |user| user.namespace);
        Self::of(name, namespace).filter(|_| is_valid)
    }

    /// Returns the domain of a device.
    pub(crate) fn of_device(name: &CStr) -> Option<Self> {
        Self::of(name.to_bytes(), 0)
    }

    /// Creates a domain for a single mount.
    pub(crate) fn own() -> Self {
        static NEXT: Atomic<u64> = Atomic::new(1);
        let mut name = [0; 64];
        name[0] = b'/';
        name[8..16].copy_from_slice(&NEXT.fetch_add(1, Relaxed).to_be_bytes());
        Domain(name, 0)
    }

    fn of(name: &[u8], namespace: u32) -> Option<Self> {
        let mut padded = [0; 64];
        // This leaves one NUL.
        padded[..63].get_mut(..name.len())?.copy_from_slice(name);
        Some(Domain(padded, namespace))
    }

    /// Returns the name, if a user chose it.
    pub(crate) fn name(&self) -> Option<&str> {
        let end = self.0.iter().position(|&byte| byte == 0)?;
        let name = core::str::from_utf8(&self.0[..end]).ok()?;
        (!name.contains('/')).then_some(name)
    }
}

/// A pack in memory.
pub(crate) struct Pack {
    /// Its memory and pieces.
    pub(crate) backing: Backing,
    /// `memfd`, or the device and the offset there in bytes.
    place: CString,
    /// Set if the memory is a sealed memfd, which cannot change.
    is_sealed: bool,
    /// The block device, if the memory is one's. Dropped last.
    _bdev: Option<BlockDevice>,
}

/// Memory that may hold a pack, and where it is. If a block device comes with it, drop that last.
pub(crate) type Opened = (Option<BlockDevice>, Region, CString);

impl Pack {
    /// Opens the pack in the memory that `open` opens, for `user`.
    ///
    /// Errors: The errors of `open` and of [`load_superblock`]; `EOPNOTSUPP` if the image cannot be
    /// a pack, `EBADMSG` if its sums are wrong, `ENOMEM`.
    pub(crate) fn new(
        user: Option<User>,
        open: impl FnOnce(&LeaseRef) -> Result<Opened, Refusal>,
    ) -> Result<Arc<Self>, Refusal> {
        let (_bdev, region, place) = open(&LeaseRef::new(user)?)?;
        let superblock = load_superblock(&region)?;
        if superblock.packs.length != 0 {
            refuse!(Errno::NotSupported => "a pack cannot have packs itself");
        }
        let pieces = Pieces::new(&Image::new(&region, &superblock))?;
        let pack = Pack {
            // Only memfds are files, and they are sealed.
            is_sealed: region.file().is_some(),
            backing: Backing {
                region,
                superblock,
                pieces: Some(pieces),
            },
            place,
            _bdev,
        };
        Ok(Arc::new(pack, GFP_KERNEL_ACCOUNT)?)
    }

    /// Opens the pack in `file`: a sealed memfd, or a block device with DAX.
    ///
    /// Errors: As [`Pack::new`]; `EINVAL` if it is neither, `EPERM` if seals are missing.
    pub(crate) fn of_file(file: &File, user: Option<User>) -> Result<Arc<Self>, Refusal> {
        #[cfg(CONFIG_DAXFS_FS_MEMFD)]
        if let Ok(memfd) = crate::memory::memfd::get(0, file) {
            return Pack::new(user, |lease_ref| {
                let place = CString::try_from_fmt(fmt!("memfd"))?;
                Ok((None, memfd.open(lease_ref)?, place))
            });
        }
        let Some(number) = block::number_of(file).filter(|_| user.is_none()) else {
            refuse!(EINVAL =>
                "the file of a pack is neither a memfd nor, for root, a block device, open for \
                 reading");
        };
        Pack::new(None, |lease_ref| {
            let (region, bdev) = dax::open_block(number, None, lease_ref)?;
            let device = name_of(Some(SourceKind::BlockDevice(number)))?;
            let place = CString::try_from_fmt(fmt!("{}+0", &*device))?;
            Ok((Some(bdev), region, place))
        })
    }

    /// Returns its SHA-256.
    fn sum(&self) -> &Sum {
        &self.backing.superblock.sha256
    }
}

/// A pack supplied by a mount.
pub(crate) enum Given {
    /// It is loaded into the domain.
    Loaded(PackRef),
    /// It is in memory, and may already be loaded into the domain.
    New(Arc<Pack>),
    /// It is at these bytes of the image's own device, unless it is loaded.
    At(Sum, Range<u64>),
}

impl Given {
    fn sum(&self) -> &Sum {
        match self {
            Given::Loaded(pack) => pack.sum(),
            Given::New(pack) => pack.sum(),
            Given::At(sum, _) => sum,
        }
    }
}

/// The key of a loaded pack.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key(Sum, Domain);

/// A loaded pack, and how many [`PackRef`] refer to it.
struct Entry {
    pack: Arc<Pack>,
    users: usize,
}

global_mutex! {
    // Protects the packs that are loaded, by domain. Do not wait under it, not even for memory.
    static LOADED: Option<RBTree<Key, Entry>> = None;
}

/// A reference to a pack that is loaded into a domain. Dropping the last one unloads it, which must
/// not happen under `s_umount`.
pub(crate) struct PackRef {
    domain: Domain,
    pack: Arc<Pack>,
    is_counted: Atomic<bool>,
}

type Tree = RBTree<Key, Entry>;

impl PackRef {
    fn new(domain: Domain, pack: &Arc<Pack>) -> Self {
        PackRef {
            domain,
            pack: pack.clone(),
            is_counted: Atomic::new(true),
        }
    }

    /// Returns the pack `sum` of `domain`, if it is loaded and its memory is there.
    pub(crate) fn find(domain: Domain, sum: &Sum) -> Option<Self> {
        Self::share(LOADED.lock().as_mut()?, domain, sum)
    }

    fn share(loaded: &mut Tree, domain: Domain, sum: &Sum) -> Option<Self> {
        let entry = loaded.get_mut(&Key(*sum, domain))?;
        if entry.pack.backing.region.revoked() {
            return None;
        }
        entry.users += 1;
        Some(Self::new(domain, &entry.pack))
    }

    /// Loads `pack` into `domain`, unless the same is loaded there.
    fn load(domain: Domain, pack: &Arc<Pack>) -> Result<Self> {
        let entry = Entry {
            pack: pack.clone(),
            users: 1,
        };
        let node = RBTreeNode::new(Key(*pack.sum(), domain), entry, GFP_KERNEL_ACCOUNT)?;
        let mut loaded = LOADED.lock();
        let all = loaded.get_or_insert_with(RBTree::new);
        if let Some(found) = Self::share(all, domain, pack.sum()) {
            drop(loaded);
            drop(node);
            return Ok(found);
        }
        // The replaced pack's memory is gone. References keep the pack object alive.
        let replaced = all.insert(node);
        drop(loaded);
        drop(replaced);
        Ok(Self::new(domain, pack))
    }

    /// Drops the reference, but not the memory. After the last reference, the pack can no longer be
    /// found or read.
    fn let_go(&self) {
        if !self.is_counted.xchg(false, Full) {
            return;
        }
        let key = Key(*self.sum(), self.domain);
        let mut loaded = LOADED.lock();
        let entry = loaded.as_mut().and_then(|all| all.get_mut(&key));
        // Another pack may have replaced it.
        let Some(entry) = entry.filter(|entry| Arc::ptr_eq(&entry.pack, &self.pack)) else {
            return;
        };
        entry.users -= 1;
        if entry.users > 0 {
            return;
        }
        let node = loaded.as_mut().and_then(|all| all.remove_node(&key));
        drop(loaded);
        drop(node);
        self.backing.region.retire();
    }
}

impl core::ops::Deref for PackRef {
    type Target = Pack;

    fn deref(&self) -> &Pack {
        &self.pack
    }
}

impl Drop for PackRef {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Loads the table of packs of `image`. We verify and use this copy.
///
/// Errors: `EUCLEAN` if it is invalid, or names a pack twice; `EIO`, `ENOMEM`.
pub(crate) fn table<M: Memory>(image: &Image<'_, M>) -> Result<KVVec<layout::Pack>, Refusal> {
    let superblock = image.superblock();
    let count = superblock.pack_count();
    let mut table = KVVec::with_capacity(count as usize, GFP_KERNEL_ACCOUNT)?;
    let mut seen = RBTree::new();
    for index in 0..count {
        let record = image.pack(index)?;
        let twice = seen.try_create_and_insert(record.sha256, (), GFP_KERNEL_ACCOUNT)?;
        if twice.is_some() {
            let offset = superblock.packs.offset;
            return Err(image::Error::new(Problem::Packs, offset, index.into()).into());
        }
        table.push(record, GFP_KERNEL_ACCOUNT)?;
    }
    Ok(table)
}

/// The packs of a mounted image.
pub(crate) struct Packs {
    /// The image's table, as it was proved.
    pub(crate) table: KVVec<layout::Pack>,
    /// The packs, in the order of the table. One that is missing is attached once, and stays.
    attached: KVVec<SetOnce<PackRef>>,
    /// The domain in which the image shares its packs.
    pub(crate) domain: Domain,
    /// Set if all packs must be in sealed memory, because the image is sealed and proved.
    must_be_sealed: bool,
}

impl Packs {
    /// Creates the list, without packs.
    pub(crate) fn new(
        table: KVVec<layout::Pack>,
        domain: Domain,
        must_be_sealed: bool,
    ) -> Result<Self> {
        let mut attached = KVVec::with_capacity(table.len(), GFP_KERNEL_ACCOUNT)?;
        for _ in 0..table.len() {
            attached.push(SetOnce::new(), GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Packs {
            table,
            attached,
            domain,
            must_be_sealed,
        })
    }

    /// Returns pack `index`, counted from 0.
    ///
    /// Errors: `ENOMEDIUM` if it is missing.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Result<&Pack> {
        let found = self.attached.get(index as usize).and_then(SetOnce::as_ref);
        found.map(|pack| &*pack.pack).ok_or(Errno::NoMedium.into())
    }

    /// Attaches the packs that are missing: those that are `given`, and those that are loaded into
    /// the domain. `open_at` opens a part of the image's device.
    ///
    /// Errors: `EINVAL` if a given one is not a pack of the image, or may not be used; the errors
    /// of `open_at`, `ENOMEM`.
    pub(crate) fn attach(
        &self,
        given: &[Given],
        mut open_at: impl FnMut(&Range<u64>) -> Result<Arc<Pack>, Refusal>,
    ) -> Result<(), Refusal> {
        let mut next = 0;
        for given in given {
            // Packs are usually supplied in table order.
            let count = self.table.len();
            let mut places = Iterator::chain(next..count, 0..next);
            let index = places.find(|&index| self.table[index].sha256 == *given.sum());
            let Some(index) = index else {
                let sum = Hex(given.sum());
                refuse!(EINVAL => "the image has no pack {sum}";
                    "name the packs that daxfs info shows");
            };
            next = index + 1;
            if self.attached[index].as_ref().is_none() {
                self.put(index, self.load(given, &mut open_at)?)?;
            }
        }
        for index in 0..self.table.len() {
            if self.attached[index].as_ref().is_none() {
                if let Some(found) = PackRef::find(self.domain, &self.table[index].sha256) {
                    self.put(index, found)?;
                }
            }
        }
        Ok(())
    }

    /// Loads a pack that is `given` into the domain.
    fn load(
        &self,
        given: &Given,
        open_at: &mut impl FnMut(&Range<u64>) -> Result<Arc<Pack>, Refusal>,
    ) -> Result<PackRef, Refusal> {
        let (sum, range) = match given {
            Given::Loaded(pack) => return Ok(PackRef::load(self.domain, &pack.pack)?),
            Given::New(pack) => return Ok(PackRef::load(self.domain, pack)?),
            Given::At(sum, range) => (sum, range),
        };
        // Another mount may be about to load or release it.
        for left in (0..TRIES).rev() {
            if let Some(found) = PackRef::find(self.domain, sum) {
                return Ok(found);
            }
            match open_at(range) {
                Err(refusal) if refusal.is(EBUSY) && left > 0 => fsleep(INTERVAL),
                Err(refusal) => return Err(refusal),
                Ok(pack) if pack.sum() != sum => {
                    let (sum, found) = (Hex(sum), Hex(pack.sum()));
                    refuse!(EINVAL => "the pack {found} is in the place of the pack {sum}");
                }
                Ok(pack) => return Ok(PackRef::load(self.domain, &pack)?),
            }
        }
        Err(EBUSY.into())
    }

    /// Attaches `pack` as number `index`, unless another thread does.
    fn put(&self, index: usize, pack: PackRef) -> Result<(), Refusal> {
        let sum = Hex(pack.sum());
        if !pack.backing.superblock.is_pack(&self.table[index]) {
            refuse!(EINVAL => "the pack {sum} has another size than the image says");
        }
        if self.must_be_sealed && !pack.is_sealed {
            refuse!(EINVAL => "the pack {sum} is in memory that may change, the image is not";
                "put the pack into a sealed memfd, or mount the image without a proof");
        }
        self.attached[index].populate(pack);
        Ok(())
    }

    /// Returns the number of packs that are missing.
    pub(crate) fn missing(&self) -> usize {
        let packs = self.attached.iter();
        packs.filter(|pack| pack.as_ref().is_none()).count()
    }

    /// Returns the sum of the packs' sizes, in bytes.
    pub(crate) fn size(&self) -> u64 {
        let sizes = self.table.iter().map(|record| record.total_size.get());
        sizes.fold(0, u64::saturating_add)
    }

    /// Returns the SHA-256 of a pack whose memory is gone, if there is one.
    pub(crate) fn lost(&self) -> Option<&Sum> {
        let mut packs = self.attached.iter().filter_map(SetOnce::as_ref);
        let lost = packs.find(|pack| pack.backing.region.revoked());
        lost.map(|pack| pack.sum())
    }

    /// Returns the state of pack `index`, for users.
    pub(crate) fn line(&self, index: usize) -> Option<Result<CString>> {
        let record = self.table.get(index)?;
        let (sum, size) = (Hex(&record.sha256), record.total_size.get());
        Some(match self.attached[index].as_ref() {
            None => CString::try_from_fmt(fmt!("{sum} {size} missing 0 0")),
            Some(pack) => {
                let place = &*pack.place;
                let pieces = pack.backing.pieces.as_ref();
                let (verified, bad) = pieces.map_or((0, 0), Pieces::count);
                CString::try_from_fmt(fmt!("{sum} {size} {place} {verified} {bad}"))
            }
        })
    }
}

impl Drop for Packs {
    fn drop(&mut self) {
        // Unused packs then share one wait for readers.
        let packs = self.attached.iter().filter_map(SetOnce::as_ref);
        packs.for_each(PackRef::let_go);
    }
}
