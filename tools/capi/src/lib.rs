// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! libdaxfs: reads daxfs images from C, and from every language that calls C.
//!
//! `include/daxfs.h` declares and documents these functions. Rust programs use `daxfs-reader`, on
//! which this is a thin layer: no reference into an image exists, records are copied and validated,
//! and a damaged image causes an error.
//!
//! * `source`: the bytes of an image
//! * `locate`: finds files of mounted images in memory; `memory`: obtains that memory
//! * `error`: error numbers and messages
//! * [`Stat`], [`Info`], [`Pack`], [`Entry`]: the structures of the header

#![allow(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn)]

mod error;
mod locate;
mod memory;
mod records;
mod source;

use daxfs_reader::{layout, Content, Directory, FileType, Image, Inode, Problem, Superblock};
use error::{count, status, Failure, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use source::Source;
use std::ffi::{c_char, c_int, c_uint, c_void, CStr, OsStr};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, IntoRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::slice::from_raw_parts_mut;
use std::sync::{Arc, OnceLock};

pub use error::daxfs_error;
pub use records::{Entry, Info, Pack, Stat};

/// Flag of [`daxfs_find`]: do not follow a symlink at the end.
pub const DAXFS_NOFOLLOW: c_uint = 1;

/// Bytes of metadata that [`daxfs_verify`] reads at a time.
const PIECE: usize = 64 << 10;

/// The bytes of an image, and its superblock.
struct Opened {
    source: Source,
    superblock: Superblock,
}

impl Opened {
    fn image(&self) -> Image<'_, Source> {
        Image::new(&self.source, &self.superblock)
    }
}

/// An open image, `struct daxfs`.
pub struct Handle {
    opened: Arc<Opened>,
    /// The packs added so far, in the order of the table.
    packs: Vec<OnceLock<Arc<Opened>>>,
}

impl Handle {
    fn new(source: Source) -> Result<Box<Self>> {
        let superblock = Superblock::load(&source)?;
        Image::new(&source, &superblock).packs()?;
        Ok(Box::new(Handle {
            packs: vec![OnceLock::new(); superblock.pack_count() as usize],
            opened: Arc::new(Opened { source, superblock }),
        }))
    }

    fn image(&self) -> Image<'_, Source> {
        self.opened.image()
    }

    fn inode(&self, ino: u32) -> Result<Inode> {
        self.settled(self.image().inode(ino))
    }

    /// Returns what was `found`, unless another image has replaced this one.
    fn settled<T, E: Into<Failure>>(&self, found: std::result::Result<T, E>) -> Result<T> {
        check_replaced(&self.image())?;
        found.map_err(Into::into)
    }

    /// Loads the record of a pack, counted from 0.
    fn pack(&self, index: u32) -> Result<layout::Pack> {
        if index >= self.opened.superblock.pack_count() {
            let why = "the image has fewer packs";
            return Err(Failure::new(Errno::INVAL, why));
        }
        self.settled(self.image().pack(index))
    }

    /// Uses `pack` for the files whose content is there. C programs may pass one handle twice.
    fn add(&self, pack: &Handle) -> Result<()> {
        let superblock = &pack.opened.superblock;
        if superblock.pack_count() > 0 {
            let why = "an image that has packs cannot be a pack";
            return Err(Failure::new(Errno::INVAL, why));
        }
        let mut found = false;
        for index in 0..self.opened.superblock.pack_count() {
            let record = self.image().pack(index)?;
            if superblock.is_pack(&record) {
                // An earlier one has the same bytes.
                self.packs[index as usize].get_or_init(|| Arc::clone(&pack.opened));
                found = true;
            }
        }
        if !found {
            return Err(Failure::new(Errno::INVAL, "not a pack of the image"));
        }
        Ok(())
    }

    /// Returns the image that has the data of the regular file `ino`, the inode there, and the
    /// number of the pack, or 0 for this image.
    fn source(&self, ino: u32) -> Result<(Image<'_, Source>, Inode, u32)> {
        let inode = self.inode(ino)?;
        match inode.file_type {
            FileType::Regular => (),
            FileType::Directory => return Err(Failure::new(Errno::ISDIR, "is a directory")),
            _ => return Err(Failure::new(Errno::INVAL, "not a regular file")),
        }
        let pack = |index: u32| Some(self.packs.get(index as usize)?.get()?.image());
        let number = match inode.content {
            Content::InPack { pack, .. } => pack + 1,
            _ => 0,
        };
        match self.image().source(&inode, pack) {
            Ok((image, inode)) => Ok((image, inode, number)),
            Err(error) if error.problem == Problem::NoPack => {
                let record = self.image().pack(number - 1)?;
                let sha256 = record.sha256.map(|byte| format!("{byte:02x}")).concat();
                let why = format!("its content is in the pack {sha256}, which was not added");
                Err(Failure::new(Errno::OPNOTSUPP, &why))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn directory(&self, ino: u32) -> Result<Directory> {
        let directory = self.inode(ino)?.directory();
        directory.ok_or(Failure::new(Errno::NOTDIR, "not a directory"))
    }

    fn read(&self, ino: u32, into: &mut [u8], offset: u64) -> Result<usize> {
        let (image, inode, _) = self.source(ino)?;
        let length = image.read(&inode, offset, into)?;
        check_replaced(&image).map(|()| length)
    }

    /// Calls `put` with up to `limit` entries of a directory, and returns their number. Entries
    /// before a damaged one are good.
    fn list(
        &self,
        ino: u32,
        position: u32,
        limit: usize,
        mut put: impl FnMut(usize, Entry),
    ) -> Result<usize> {
        let directory = self.directory(ino)?;
        let image = self.image();
        let mut entries = image.entries(&directory, position);
        let mut found = 0;
        while found < limit {
            let Some(entry) = entries.next() else { break };
            let entry = entry.and_then(|(entry, name)| {
                let inode = image.entry_inode(&directory, &entry)?;
                Ok(Entry::new(&inode, name))
            });
            match entry {
                Ok(entry) => put(found, entry),
                Err(_) if found > 0 => break,
                Err(error) => return Err(error.into()),
            }
            found += 1;
        }
        self.settled(Ok::<_, Failure>(found))
    }

    fn target(&self, ino: u32) -> Result<Vec<u8>> {
        let target = self.image().target(&self.inode(ino)?);
        self.settled(target)?
            .ok_or(Failure::new(Errno::INVAL, "not a symbolic link"))
    }

    /// Returns the names of all attributes, each terminated by NUL.
    fn xattr_names(&self, ino: u32) -> Result<Vec<u8>> {
        let names = self.image().xattr_names(&self.inode(ino)?, |_| true);
        self.settled(names)
    }

    fn xattr(&self, ino: u32, name: &[u8]) -> Result<Vec<u8>> {
        let value = self.image().xattr_named(&self.inode(ino)?, name);
        self.settled(value)?
            .ok_or(Failure::new(Errno::NODATA, "no such attribute"))
    }
}

/// Fails if another image has replaced `image`.
fn check_replaced(image: &Image<'_, Source>) -> Result<()> {
    if image.is_replaced() {
        let why = "another image took its place in the file; open it again";
        return Err(Failure::new(Errno::STALE, why));
    }
    Ok(())
}

/// Slot for an open image in the caller's memory.
type Slot = MaybeUninit<Option<Box<Handle>>>;

/// Stores the image in `image`, or NULL on failure.
fn store(image: &mut Slot, opened: Result<Box<Handle>>) -> c_int {
    let (handle, result) = match opened {
        Ok(handle) => (Some(handle), Ok(())),
        Err(failure) => (None, Err(failure)),
    };
    image.write(handle);
    status(result)
}

/// Opens the image in the file or block device `path`.
///
/// # Safety
///
/// `path` must be a C string.
#[no_mangle]
pub unsafe extern "C" fn daxfs_open(path: *const c_char, image: &mut Slot) -> c_int {
    // SAFETY: The caller passes a C string.
    let path = unsafe { CStr::from_ptr(path) };
    let open = || {
        // Refuse a FIFO instead of waiting for it.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::open(path, flags, Mode::empty())?;
        Handle::new(Source::file(file.into())?)
    };
    store(image, open())
}

fn borrowed<'a>(fd: RawFd) -> Result<BorrowedFd<'a>> {
    if fd < 0 {
        return Err(Errno::BADF.into());
    }
    // SAFETY: It is not -1. If it is not open, using it fails.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Returns the bytes of the open file `fd`, which is duplicated.
fn source_of(fd: RawFd) -> Result<Source> {
    Source::file(borrowed(fd)?.try_clone_to_owned().map(File::from)?)
}

/// Opens the image in the open file `fd`, which is duplicated.
#[no_mangle]
pub extern "C" fn daxfs_open_fd(fd: RawFd, image: &mut Slot) -> c_int {
    store(image, source_of(fd).and_then(Handle::new))
}

/// Opens the image at byte `offset` of the open file `fd`, which is duplicated, or the image `name`
/// of the store there.
///
/// # Safety
///
/// `name` must be NULL or a C string.
#[no_mangle]
pub unsafe extern "C" fn daxfs_open_part(
    fd: RawFd,
    offset: u64,
    name: *const c_char,
    image: &mut Slot,
) -> c_int {
    // SAFETY: The caller passes a C string.
    let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_bytes());
    let part = source_of(fd).and_then(|source| source.part(offset, name));
    store(image, part.and_then(Handle::new))
}

/// Returns the offset in bytes of the image in its file.
#[no_mangle]
pub extern "C" fn daxfs_offset(image: &Handle) -> u64 {
    image.opened.source.start()
}

/// Finds the bytes of the open file `fd` of a mounted image.
#[no_mangle]
pub extern "C" fn daxfs_locate(
    fd: RawFd,
    offset: &mut MaybeUninit<u64>,
    length: &mut MaybeUninit<u64>,
) -> c_int {
    status(place(fd).map(|(start, size)| {
        offset.write(start);
        length.write(size);
    }))
}

/// Returns the offset and length of the bytes of the open file `fd` on a mounted image.
fn place(fd: RawFd) -> Result<(u64, u64)> {
    locate::locate(borrowed(fd)?).map_err(|error| match error {
        Errno::NODEV => Failure::new(error, "not on a mounted image"),
        Errno::OPNOTSUPP => Failure::new(error, "its content is in a pack, see daxfs_source()"),
        error => error.into(),
    })
}

/// Finds the bytes of the open file `fd` on a mounted image, and obtains the descriptor of its
/// memory, which `daxfs load` serves at `socket`.
///
/// # Safety
///
/// `socket` must be a C string.
#[no_mangle]
pub unsafe extern "C" fn daxfs_memory(
    fd: RawFd,
    socket: *const c_char,
    memory: &mut MaybeUninit<RawFd>,
    offset: &mut MaybeUninit<u64>,
    length: &mut MaybeUninit<u64>,
) -> c_int {
    // SAFETY: The caller passes a C string.
    let socket = OsStr::from_bytes(unsafe { CStr::from_ptr(socket) }.to_bytes());
    let mut get = || {
        let (start, size) = place(fd)?;
        memory.write(memory::memory(borrowed(fd)?, socket.as_ref())?.into_raw_fd());
        offset.write(start);
        length.write(size);
        Ok(())
    };
    status(get())
}

/// Opens the image in `size` bytes at `memory`.
///
/// # Safety
///
/// The memory must be readable and unchanged until [`daxfs_close`].
#[no_mangle]
pub unsafe extern "C" fn daxfs_open_memory(
    memory: *const c_void,
    size: usize,
    image: &mut Slot,
) -> c_int {
    // SAFETY: The caller lends the memory until the image is closed.
    let source = unsafe { Source::memory(memory.cast(), size) };
    store(image, Handle::new(source))
}

/// Describes the pack with this index of the image.
#[no_mangle]
pub extern "C" fn daxfs_pack(image: &Handle, index: u32, pack: &mut MaybeUninit<Pack>) -> c_int {
    status(image.pack(index).map(|record| {
        pack.write(Pack::new(&record));
    }))
}

/// Adds an open pack to an image, which keeps the pack's bytes open.
#[no_mangle]
pub extern "C" fn daxfs_add_pack(image: &Handle, pack: &Handle) -> c_int {
    status(image.add(pack))
}

/// Finds the data of the regular file `ino`: the number of its pack, or 0 for the image itself.
#[no_mangle]
pub extern "C" fn daxfs_source(
    image: &Handle,
    ino: u32,
    pack: &mut MaybeUninit<u32>,
    stat: &mut MaybeUninit<Stat>,
) -> c_int {
    let mut find = || {
        let (_, inode, number) = image.source(ino)?;
        pack.write(number);
        stat.write(Stat::new(&inode));
        Ok(())
    };
    status(find())
}

/// Closes an image.
#[no_mangle]
pub extern "C" fn daxfs_close(_image: Option<Box<Handle>>) {}

/// Describes the image.
#[no_mangle]
pub extern "C" fn daxfs_info(image: &Handle, info: &mut MaybeUninit<Info>) {
    info.write(Info::new(&image.opened.superblock));
}

/// Compares the metadata with its checksum.
#[no_mangle]
pub extern "C" fn daxfs_verify(image: &Handle) -> c_int {
    status(
        image
            .image()
            .verify_metadata(&mut vec![0; PIECE], || Ok(())),
    )
}

/// Finds the file at `path`.
///
/// # Safety
///
/// `path` must be a C string.
#[no_mangle]
pub unsafe extern "C" fn daxfs_find(
    image: &Handle,
    path: *const c_char,
    flags: c_uint,
    stat: &mut MaybeUninit<Stat>,
) -> c_int {
    // SAFETY: The caller passes a C string.
    let path = unsafe { CStr::from_ptr(path) };
    let mut find = || {
        if flags & !DAXFS_NOFOLLOW != 0 {
            return Err(Failure::new(Errno::INVAL, "unknown flag"));
        }
        let found = image
            .image()
            .find(path.to_bytes(), flags & DAXFS_NOFOLLOW == 0);
        let inode = image.settled(found)?;
        stat.write(Stat::new(&inode));
        Ok(())
    };
    status(find())
}

/// Fills in the metadata of inode `ino`.
#[no_mangle]
pub extern "C" fn daxfs_stat(image: &Handle, ino: u32, stat: &mut MaybeUninit<Stat>) -> c_int {
    let mut look = || {
        let inode = image.inode(ino)?;
        stat.write(Stat::new(&inode));
        Ok(())
    };
    status(look())
}

/// Reads content of the regular file `ino` at `offset`.
///
/// # Safety
///
/// `buffer` must be valid for writing `size` bytes.
#[no_mangle]
pub unsafe extern "C" fn daxfs_read(
    image: &Handle,
    ino: u32,
    buffer: *mut c_void,
    size: usize,
    offset: u64,
) -> isize {
    // SAFETY: The caller passes a buffer of this size.
    let buffer = unsafe { bytes(buffer.cast(), size) };
    count(image.read(ino, buffer, offset))
}

/// Reads up to `limit` entries of the directory `ino`, starting with entry `position`.
///
/// # Safety
///
/// `entries` must be valid for writing `limit` structures.
#[no_mangle]
pub unsafe extern "C" fn daxfs_readdir(
    image: &Handle,
    ino: u32,
    position: u32,
    entries: *mut Entry,
    limit: usize,
) -> isize {
    count(image.list(ino, position, limit, |index, entry| {
        // SAFETY: `index` is below `limit`.
        let slot = unsafe { entries.add(index) };
        // SAFETY: The caller passes places for `limit` structures.
        unsafe { slot.write(entry) };
    }))
}

/// Reads the target of the symlink `ino`.
///
/// # Safety
///
/// `target` must be valid for writing `size` bytes.
#[no_mangle]
pub unsafe extern "C" fn daxfs_readlink(
    image: &Handle,
    ino: u32,
    target: *mut c_char,
    size: usize,
) -> isize {
    // SAFETY: The caller passes a buffer of this size.
    let buffer = unsafe { bytes(target.cast(), size) };
    count(image.target(ino).and_then(|text| fill(buffer, &text)))
}

/// Lists the names of the extended attributes of inode `ino`.
///
/// # Safety
///
/// `names` must be valid for writing `size` bytes.
#[no_mangle]
pub unsafe extern "C" fn daxfs_listxattr(
    image: &Handle,
    ino: u32,
    names: *mut c_char,
    size: usize,
) -> isize {
    // SAFETY: The caller passes a buffer of this size.
    let buffer = unsafe { bytes(names.cast(), size) };
    let names = image.xattr_names(ino);
    count(names.and_then(|names| fill(buffer, &names)))
}

/// Reads the value of the extended attribute `name` of inode `ino`.
///
/// # Safety
///
/// `name` must be a C string, and `value` valid for writing `size` bytes.
#[no_mangle]
pub unsafe extern "C" fn daxfs_getxattr(
    image: &Handle,
    ino: u32,
    name: *const c_char,
    value: *mut c_void,
    size: usize,
) -> isize {
    // SAFETY: The caller passes a C string.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    // SAFETY: The caller passes a buffer of this size.
    let buffer = unsafe { bytes(value.cast(), size) };
    let value = image.xattr(ino, name);
    count(value.and_then(|value| fill(buffer, &value)))
}

/// Returns the caller's buffer, empty if NULL. It is only written to.
///
/// # Safety
///
/// `start` must be NULL, or valid for writing `size` bytes for as long as the result is used.
unsafe fn bytes<'a>(start: *mut u8, size: usize) -> &'a mut [u8] {
    let size = size.min(isize::MAX as usize);
    if start.is_null() || size == 0 {
        return &mut [];
    }
    // SAFETY: By the contract of this function.
    unsafe { from_raw_parts_mut(start, size) }
}

/// Copies `text` to `buffer`, unless `buffer` is empty, and returns the length of `text`.
fn fill(buffer: &mut [u8], text: &[u8]) -> Result<usize> {
    if !buffer.is_empty() {
        buffer
            .get_mut(..text.len())
            .ok_or(Failure::new(Errno::RANGE, "the buffer is too small"))?
            .copy_from_slice(text);
    }
    Ok(text.len())
}
