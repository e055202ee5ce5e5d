// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Validated inodes.

use super::error::{
    Error,
    Problem,
    Result, //
};
use super::layout::{
    self,
    SYMLINK_MAX, //
};
use super::superblock::Superblock;
use core::mem::offset_of;

/// Linux device numbers have majors of 12 bits and minors of 20.
const MAJOR_BITS: u32 = 12;
const MINOR_BITS: u32 = 20;

/// A file type, numbered as in `d_type` and `st_mode >> 12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FileType {
    /// Named pipe.
    Fifo = 1,
    /// Character device.
    CharDevice = 2,
    /// Directory.
    Directory = 4,
    /// Block device.
    BlockDevice = 6,
    /// Regular file.
    Regular = 8,
    /// Symbolic link.
    Symlink = 10,
    /// Socket.
    Socket = 12,
}

impl FileType {
    /// Returns the type with this number, if there is one.
    #[inline]
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => FileType::Fifo,
            2 => FileType::CharDevice,
            4 => FileType::Directory,
            6 => FileType::BlockDevice,
            8 => FileType::Regular,
            10 => FileType::Symlink,
            12 => FileType::Socket,
            _ => return None,
        })
    }

    /// Returns the type in an `st_mode`.
    #[inline]
    pub const fn of_mode(mode: u16) -> Option<Self> {
        Self::from_u8((mode >> 12) as u8)
    }
}

/// The entries of a directory, and its place in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Inode number of the directory itself.
    pub ino: u32,
    /// Index of its first entry in the dirent table.
    pub first: u64,
    /// Number of entries, without `.` and `..`.
    pub entries: u32,
    /// Inode number of the parent; for the root its own.
    pub parent: u32,
    /// Number of the parent's entry for it.
    pub position: u32,
}

impl Directory {
    /// Returns true if it is its own parent, as only a root is.
    pub fn is_root(&self) -> bool {
        self.parent == self.ino && self.position == layout::NO_POSITION
    }
}

/// The content of an inode. All offsets and lengths have been checked against the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A regular file. The data start at a multiple of the block size unless the inode is packed.
    /// The image contains the whole last block.
    Regular {
        /// Offset of the data in the image in bytes.
        data: u64,
    },
    /// A regular file with the data of an inode of a pack. Check that inode by
    /// [`Inode::check_in_pack`].
    InPack {
        /// The pack, counted from 0.
        pack: u32,
        /// Its inode.
        original: u32,
    },
    /// A directory.
    Directory(Directory),
    /// A symlink.
    Symlink {
        /// Offset of the target in the image in bytes.
        target: u64,
        /// Length of the target in bytes.
        length: u16,
    },
    /// A block or character device.
    Device {
        /// Major number, 12 bits.
        major: u32,
        /// Minor number, 20 bits.
        minor: u32,
    },
    /// A FIFO or socket.
    Special,
}

/// A validated inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Inode number.
    pub ino: u32,
    /// `st_mode`.
    pub mode: u16,
    /// The type in `mode`.
    pub file_type: FileType,
    /// Link count.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `st_size` in bytes.
    pub size: u64,
    /// Modification time: seconds since 1970.
    pub mtime_sec: i64,
    /// Modification time: nanoseconds within the second.
    pub mtime_nsec: u32,
    /// Offset of the xattr set in the image, 0 for none.
    pub xattrs: u64,
    /// Set for a regular file if its first and last block may hold data of other files.
    pub packed: bool,
    /// Inode number of the regular file in this image that this one shares data with, smaller than
    /// its own; 0 for none. Check that inode by [`Inode::check_original`].
    pub original: u32,
    /// Content.
    pub content: Content,
}

impl Inode {
    /// Validates the record of inode `ino`, which was loaded from `offset`.
    #[inline(always)] // The inode need not go through memory.
    pub(super) fn validate(
        superblock: &Superblock,
        ino: u32,
        offset: u64,
        raw: &layout::Inode,
    ) -> Result<Self> {
        // The error of a field.
        macro_rules! refuse {
            ($field:ident, $problem:ident, $value:expr) => {{
                let field = offset_of!(layout::Inode, $field) as u64;
                return Err(Error::new(Problem::$problem, offset + field, $value));
            }};
        }

        let mode = raw.mode.get();
        let Some(file_type) = FileType::of_mode(mode) else {
            refuse!(mode, Mode, mode.into());
        };
        if raw.nlink.get() == 0 {
            refuse!(nlink, LinkCount, 0);
        }
        if raw.mtime_nsec.get() >= 1_000_000_000 {
            refuse!(mtime_nsec, Time, raw.mtime_nsec.get().into());
        }
        let flags = raw.flags.get();
        let may = |feature| file_type == FileType::Regular && superblock.incompat & feature != 0;
        let suitable = match flags {
            0 => true,
            layout::INODE_PACKED => may(layout::INCOMPAT_PACKED),
            _ => false,
        };
        if !suitable {
            refuse!(flags, Flags, flags.into());
        }
        let packed = flags == layout::INODE_PACKED;
        let (original, pack) = (raw.original.get(), raw.pack.get());
        if original | pack != 0 {
            if pack == 0 && (original >= ino || !may(layout::INCOMPAT_SHARED)) {
                refuse!(original, Original, original.into());
            }
            if pack != 0 && (!may(layout::INCOMPAT_PACKS) || pack > superblock.pack_count()) {
                refuse!(pack, Pack, pack.into());
            }
        }
        let xattrs = match raw.xattrs.get() {
            0 => 0,
            reference => {
                let relative = u64::from(reference - 1) * layout::XATTR_ALIGN;
                let head = size_of::<layout::XattrSet>() as u64;
                if !superblock.xattrs.holds(relative, head) {
                    refuse!(xattrs, Xattr, reference.into());
                }
                superblock.xattrs.offset + relative
            }
        };

        let size = raw.size.get();
        let data = raw.data.get();
        let content = match file_type {
            FileType::Regular if pack != 0 => {
                if size == 0 || size > i64::MAX as u64 {
                    refuse!(size, Size, size);
                }
                if flags != 0 {
                    refuse!(flags, Flags, flags.into());
                }
                if data != 0 {
                    refuse!(data, Data, data);
                }
                if original == 0 {
                    refuse!(original, Original, 0);
                }
                let pack = pack - 1;
                Content::InPack { pack, original }
            }
            FileType::Regular => {
                if size == 0 {
                    Content::Regular { data: 0 }
                } else {
                    let block = u64::from(superblock.block_size);
                    // The data table ends with a whole block, so it contains a file's whole last
                    // block.
                    let end = data.checked_add(size);
                    let inside = data >= superblock.data.offset
                        && end.is_some_and(|end| end <= superblock.data.end());
                    if !inside || (!packed && data & (block - 1) != 0) {
                        refuse!(data, Data, data);
                    }
                    Content::Regular { data }
                }
            }
            FileType::Directory => {
                let record = layout::DIRENT_SIZE;
                let Ok(entries) = u32::try_from(size / record) else {
                    refuse!(size, Size, size);
                };
                if size % record != 0 {
                    refuse!(size, Size, size);
                }
                let start = data.checked_mul(record);
                if !start.is_some_and(|start| superblock.dirents.holds(start, size)) {
                    refuse!(data, Dirents, data);
                }
                Content::Directory(Directory {
                    ino,
                    first: data,
                    entries,
                    parent: raw.parent.get(),
                    position: raw.position.get(),
                })
            }
            FileType::Symlink => {
                if size == 0 || size > SYMLINK_MAX {
                    refuse!(size, Size, size);
                }
                if !superblock.names.holds(data, size) {
                    refuse!(data, Symlink, data);
                }
                Content::Symlink {
                    target: superblock.names.offset + data,
                    length: size as u16,
                }
            }
            FileType::BlockDevice | FileType::CharDevice => {
                let (major, minor) = ((data >> 32) as u32, data as u32);
                if major >> MAJOR_BITS != 0 || minor >> MINOR_BITS != 0 {
                    refuse!(data, Device, data);
                }
                Content::Device { major, minor }
            }
            FileType::Fifo | FileType::Socket => Content::Special,
        };
        if matches!(content, Content::Device { .. } | Content::Special) && size != 0 {
            refuse!(size, Size, size);
        }

        Ok(Inode {
            ino,
            mode,
            file_type,
            nlink: raw.nlink.get(),
            uid: raw.uid.get(),
            gid: raw.gid.get(),
            size,
            mtime_sec: raw.mtime_sec.get(),
            mtime_nsec: raw.mtime_nsec.get(),
            xattrs,
            packed,
            original: if pack == 0 { original } else { 0 },
            content,
        })
    }

    /// Checks that this file may share the data of inode `original`, which must be a regular file
    /// with the same data, and not share data itself.
    ///
    /// # Errors
    ///
    /// [`Problem::Original`].
    pub fn check_original(&self, superblock: &Superblock, original: &Inode) -> Result<()> {
        let same = matches!(original.content, Content::Regular { .. })
            && (original.content, original.size, original.packed)
                == (self.content, self.size, self.packed);
        if same && original.ino == self.original && original.original == 0 && self.size > 0 {
            Ok(())
        } else {
            Err(self.unsuitable_original(superblock))
        }
    }

    /// Checks that this file may use the data of `found`, the pack's inode in its
    /// [`Content::InPack`]. Returns the data's offset in the pack.
    ///
    /// # Errors
    ///
    /// See [`check_in_pack`].
    pub fn check_in_pack(&self, superblock: &Superblock, found: &Inode) -> Result<u64> {
        let (original, found) = (self.data_owner(), Some(found));
        check_in_pack(superblock, self.ino, self.size, original, found).map(|(_, data)| data)
    }

    /// Returns the number of the inode that has this file's data, in its image or pack.
    fn data_owner(&self) -> u32 {
        match self.content {
            Content::InPack { original, .. } => original,
            _ => self.original,
        }
    }

    /// Returns the error for a file that may not share the data of its original.
    pub fn unsuitable_original(&self, superblock: &Superblock) -> Error {
        unsuitable(superblock, self.ino, self.data_owner())
    }

    /// Returns how many bytes of a regular file, from the first on, are in pages that hold nothing
    /// else and so can be mapped. A page has `page` bytes, a power of two, at most the block size.
    /// Unless the file is packed, this is its size rounded up to a page.
    #[inline]
    pub const fn mappable(&self, page: u64) -> u64 {
        match self.content {
            Content::Regular { data } if self.packed => {
                if data & (page - 1) == 0 {
                    self.size & !(page - 1)
                } else {
                    0
                }
            }
            // The image contains the whole last block, so this does not overflow.
            Content::Regular { .. } => (self.size + (page - 1)) & !(page - 1),
            _ => 0,
        }
    }
}

/// Checks that file `ino` with `size` bytes may use the data of a pack's inode `original`, which is
/// `found`, or `None` if the pack lacks it. It must be a regular file of the same size with data of
/// its own. Returns it, and their offset in the pack.
///
/// # Errors
///
/// [`Problem::Original`].
pub fn check_in_pack<'a>(
    superblock: &Superblock,
    ino: u32,
    size: u64,
    original: u32,
    found: Option<&'a Inode>,
) -> Result<(&'a Inode, u64)> {
    match found.map(|found| (found, found.content)) {
        Some((found, Content::Regular { data })) if found.size == size && found.original == 0 => {
            Ok((found, data))
        }
        _ => Err(unsuitable(superblock, ino, original)),
    }
}

fn unsuitable(superblock: &Superblock, ino: u32, original: u32) -> Error {
    let offset = field_offset(superblock, ino, offset_of!(layout::Inode, original));
    Error::new(Problem::Original, offset, original.into())
}

/// Returns the error for inode `ino` if its data, at offset `data`, overlap another file's.
pub fn overlap(superblock: &Superblock, ino: u32, data: u64) -> Error {
    let offset = field_offset(superblock, ino, offset_of!(layout::Inode, data));
    Error::new(Problem::Overlap, offset, data)
}

/// Returns the offset in the image of a field of inode `ino`.
fn field_offset(superblock: &Superblock, ino: u32, field: usize) -> u64 {
    superblock.inode_offset(ino) + field as u64
}
