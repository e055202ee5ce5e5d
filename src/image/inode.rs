// SPDX-License-Identifier: GPL-2.0

//! Validated inodes.

use super::error::{Error, Problem, Result};
use super::layout::{self, HUGE_SIZE, SYMLINK_MAX};
use super::superblock::Superblock;
use core::mem::{offset_of, size_of};

const S_IFMT: u16 = 0o170_000;

/// Devices of Linux have majors of 12 bits and minors of 20.
const MAJOR_BITS: u32 = 12;
const MINOR_BITS: u32 = 20;

/// The type of a file: the upper bits of `st_mode`, numbered as `d_type`.
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
    /// The type with the number `value`, if there is one.
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

    /// The type in an `st_mode`.
    #[inline]
    pub const fn of_mode(mode: u16) -> Option<Self> {
        Self::from_u8((mode >> 12) as u8)
    }
}

/// A directory's place in the dirent table and in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Inode number of the directory itself.
    pub ino: u32,
    /// Index of its first entry in the dirent table.
    pub first: u64,
    /// Number of entries, `.` and `..` not among them.
    pub entries: u32,
    /// Inode number of the parent; the root's own.
    pub parent: u32,
    /// Which of the parent's entries names it.
    pub position: u32,
}

/// What an inode consists of, by type. Every offset and length has been checked against the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A regular file: the offset of its data in the image, a multiple of the block size unless the inode
    /// is packed. The image reaches to the end of the file's last block.
    Regular {
        /// Offset in bytes.
        data: u64,
    },
    /// A directory.
    Directory(Directory),
    /// A symlink: where its target stands in the image.
    Symlink {
        /// Offset in bytes.
        target: u64,
        /// Length in bytes.
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
    /// Regular file: whether its first and its last block may hold data of other files.
    pub packed: bool,
    /// Regular file: inode number of the file whose data it shares, smaller than its own; 0 for none. What
    /// that file is has not been looked at: see [`Inode::check_original`].
    pub original: u32,
    /// What the inode consists of.
    pub content: Content,
}

impl Inode {
    /// Validates the record of inode `ino` that was loaded from `offset`.
    #[inline]
    pub(super) fn validate(
        superblock: &Superblock,
        ino: u32,
        offset: u64,
        raw: &layout::Inode,
    ) -> Result<Self> {
        let at = |field: usize, problem, value| Error::new(problem, offset + field as u64, value);

        let mode = raw.mode.get();
        let Some(file_type) = FileType::of_mode(mode) else {
            let field = offset_of!(layout::Inode, mode);
            return Err(at(field, Problem::Mode, mode.into()));
        };
        if raw.nlink.get() == 0 {
            let field = offset_of!(layout::Inode, nlink);
            return Err(at(field, Problem::LinkCount, 0));
        }
        if raw.mtime_nsec.get() >= 1_000_000_000 {
            let field = offset_of!(layout::Inode, mtime_nsec);
            return Err(at(field, Problem::Time, raw.mtime_nsec.get().into()));
        }
        let flags = raw.flags.get();
        let packed = flags & layout::INODE_PACKED != 0;
        let may = |feature| file_type == FileType::Regular && superblock.incompat & feature != 0;
        if flags & !layout::INODE_PACKED != 0 || (packed && !may(layout::INCOMPAT_PACKED)) {
            let field = offset_of!(layout::Inode, flags);
            return Err(at(field, Problem::Flags, flags.into()));
        }
        let original = raw.original.get();
        if original != 0 && (original >= ino || !may(layout::INCOMPAT_SHARED)) {
            let field = offset_of!(layout::Inode, original);
            return Err(at(field, Problem::Original, original.into()));
        }
        let xattrs = match raw.xattrs.get() {
            0 => 0,
            reference => {
                let relative = u64::from(reference - 1) * layout::XATTR_ALIGN;
                let head = size_of::<layout::XattrSet>() as u64;
                if !superblock.xattrs.holds(relative, head) {
                    let field = offset_of!(layout::Inode, xattrs);
                    return Err(at(field, Problem::Xattr, reference.into()));
                }
                superblock.xattrs.offset + relative
            }
        };

        let size = raw.size.get();
        let data = raw.data.get();
        let size_error = || at(offset_of!(layout::Inode, size), Problem::Size, size);
        let data_field = offset_of!(layout::Inode, data);
        let content = match file_type {
            FileType::Regular => {
                if size == 0 {
                    Content::Regular { data: 0 }
                } else {
                    let block = u64::from(superblock.block_size);
                    // The data table ends on a block, so a file within it has its last block there too.
                    let end = data.checked_add(size);
                    let inside = data >= superblock.data.offset
                        && end.is_some_and(|end| end <= superblock.data.end());
                    if !inside || (!packed && data & (block - 1) != 0) {
                        return Err(at(data_field, Problem::Data, data));
                    }
                    Content::Regular { data }
                }
            }
            FileType::Directory => {
                let record = size_of::<layout::Dirent>() as u64;
                let entries = u32::try_from(size / record).map_err(|_| size_error())?;
                if size % record != 0 {
                    return Err(size_error());
                }
                let start = data.checked_mul(record);
                if !start.is_some_and(|start| superblock.dirents.holds(start, size)) {
                    return Err(at(data_field, Problem::Dirents, data));
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
                    return Err(size_error());
                }
                if !superblock.names.holds(data, size) {
                    return Err(at(data_field, Problem::Symlink, data));
                }
                Content::Symlink {
                    target: superblock.names.offset + data,
                    length: size as u16,
                }
            }
            FileType::BlockDevice | FileType::CharDevice => {
                let (major, minor) = ((data >> 32) as u32, data as u32);
                if major >> MAJOR_BITS != 0 || minor >> MINOR_BITS != 0 {
                    return Err(at(data_field, Problem::Device, data));
                }
                Content::Device { major, minor }
            }
            FileType::Fifo | FileType::Socket => Content::Special,
        };
        if !matches!(
            content,
            Content::Regular { .. } | Content::Directory(_) | Content::Symlink { .. }
        ) && size != 0
        {
            return Err(size_error());
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
            original,
            content,
        })
    }

    /// Checks that `original`, the inode whose number this one tells, is one whose data a file may share:
    /// a regular file that has the same data and does not share another's itself.
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

    /// The error for a file whose data are not those of the file that it names.
    pub fn unsuitable_original(&self, superblock: &Superblock) -> Error {
        let field = offset_of!(layout::Inode, original);
        let offset = field_offset(superblock, self.ino, field);
        Error::new(Problem::Original, offset, self.original.into())
    }

    /// How many bytes of a regular file, from its first on, stand in pages of `page` bytes (a power of two, at
    /// most the block size) that hold nothing else, so that they can be mapped: all of them, up to the end of
    /// the last page, unless the file is packed.
    pub const fn mappable(&self, page: u64) -> u64 {
        match self.content {
            Content::Regular { data } if self.packed => {
                if data & (page - 1) == 0 {
                    self.size & !(page - 1)
                } else {
                    0
                }
            }
            // The image reaches to the end of the last block, so this does not overflow.
            Content::Regular { .. } => (self.size + (page - 1)) & !(page - 1),
            _ => 0,
        }
    }

    /// The permission bits of `mode`, set-id and sticky bits included.
    pub const fn permissions(&self) -> u16 {
        self.mode & !S_IFMT
    }

    /// Whether the file is aligned and long enough to be mapped with PMD entries.
    pub const fn is_huge(&self) -> bool {
        match self.content {
            Content::Regular { data } => self.size >= HUGE_SIZE && data % HUGE_SIZE == 0,
            _ => false,
        }
    }
}

/// The error for inode `ino` whose content, at `data`, stands where that of another file does.
pub fn overlap(superblock: &Superblock, ino: u32, data: u64) -> Error {
    let offset = field_offset(superblock, ino, offset_of!(layout::Inode, data));
    Error::new(Problem::Overlap, offset, data)
}

/// Offset in the image of a field in the record of inode `ino`.
fn field_offset(superblock: &Superblock, ino: u32, field: usize) -> u64 {
    let record = u64::from(ino - 1) * size_of::<layout::Inode>() as u64;
    superblock.inodes.offset + record + field as u64
}
