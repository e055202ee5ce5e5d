// SPDX-License-Identifier: GPL-2.0-only

//! Builds images record by record, valid or not, without the writer under test.

use daxfs_check::acl;
use daxfs_files::digest::combine;
use daxfs_reader::hash::name_hash;
use daxfs_reader::layout::{self, XattrPrefix, HUGE_SIZE, NO_POSITION, SUPERBLOCK_SIZE};
use daxfs_reader::signature::{Line, Section};
use daxfs_reader::Superblock;
use sha2::{Digest, Sha256};
use std::mem::{offset_of, size_of};
use zerocopy::{FromBytes, IntoBytes};

/// Type bits of `mode`.
pub const DIRECTORY: u16 = 0o040_000;
pub const REGULAR: u16 = 0o100_000;
pub const SYMLINK: u16 = 0o120_000;
pub const FIFO: u16 = 0o010_000;
pub const CHAR_DEVICE: u16 = 0o020_000;

const BLOCK: usize = 4096;

/// The tables of an image.
#[derive(Default)]
pub struct Builder {
    pub inodes: Vec<layout::Inode>,
    pub dirents: Vec<layout::Dirent>,
    pub names: Vec<u8>,
    pub xattrs: Vec<u8>,
    pub packs: Vec<layout::Pack>,
    pub data: Vec<u8>,
    /// Features.
    pub compat: u64,
    pub incompat: u64,
}

impl Builder {
    /// Adds an inode and returns its number.
    pub fn inode(&mut self, mode: u16, size: u64, data: u64) -> u32 {
        self.inodes.push(layout::Inode {
            mode: mode.into(),
            nlink: 1.into(),
            size: size.into(),
            data: data.into(),
            ..Default::default()
        });
        self.inodes.len() as u32
    }

    /// Adds a regular file; data offsets are relative to the data table until [`Builder::image`].
    pub fn file(&mut self, content: &[u8]) -> u32 {
        self.data.resize(self.data.len().next_multiple_of(BLOCK), 0);
        let ino = self.packed(content);
        self.inodes[ino as usize - 1].flags = 0.into();
        self.data.resize(self.data.len().next_multiple_of(BLOCK), 0);
        ino
    }

    /// Adds a packed file, in the block where the last one ends.
    pub fn packed(&mut self, content: &[u8]) -> u32 {
        let ino = self.inode(
            REGULAR | 0o644,
            content.len() as u64,
            self.data.len() as u64,
        );
        self.inodes[ino as usize - 1].flags = layout::INODE_PACKED.into();
        self.data.extend_from_slice(content);
        ino
    }

    /// Adds a regular file of `size` bytes whose data is inode `ino` of pack number `pack`, from 1.
    pub fn in_pack(&mut self, size: u64, pack: u32, ino: u32) -> u32 {
        let number = self.inode(REGULAR | 0o644, size, 0);
        let inode = &mut self.inodes[number as usize - 1];
        (inode.pack, inode.original) = (pack.into(), ino.into());
        number
    }

    /// Adds a symlink.
    pub fn symlink(&mut self, target: &[u8]) -> u32 {
        let ino = self.inode(
            SYMLINK | 0o777,
            target.len() as u64,
            self.names.len() as u64,
        );
        self.names.extend_from_slice(target);
        ino
    }

    /// Makes the inode `ino` a directory of `entries`; child directories must already exist.
    pub fn directory(&mut self, ino: u32, parent: u32, mut entries: Vec<(Vec<u8>, u32)>) {
        entries.sort_by(|a, b| (name_hash(&a.0), &a.0).cmp(&(name_hash(&b.0), &b.0)));
        let first = self.dirents.len();
        let mut nlink = 2;
        for (position, (name, child)) in entries.iter().enumerate() {
            let mode = self.inodes[*child as usize - 1].mode.get();
            if mode & 0o170_000 == DIRECTORY {
                let inode = &mut self.inodes[*child as usize - 1];
                inode.parent = ino.into();
                inode.position = (position as u32).into();
                nlink += 1;
            }
            self.dirents.push(layout::Dirent {
                hash: name_hash(name).into(),
                ino: (*child).into(),
                name_low: (self.names.len() as u32).into(),
                name_high: 0.into(),
                name_len: name.len() as u8,
                file_type: (mode >> 12) as u8,
            });
            self.names.extend_from_slice(name);
        }
        let inode = &mut self.inodes[ino as usize - 1];
        inode.mode = (DIRECTORY | 0o755).into();
        inode.nlink = nlink.into();
        inode.size = ((entries.len() * size_of::<layout::Dirent>()) as u64).into();
        inode.data = (first as u64).into();
        if ino == parent {
            inode.parent = ino.into();
            inode.position = NO_POSITION.into();
        }
    }

    /// Adds a set with one attribute and returns the reference to it.
    pub fn xattr(&mut self, prefix: u8, name: &[u8], value: &[u8]) -> u32 {
        self.xattr_set(&[(prefix, name, value)])
    }

    /// Adds a set of attributes, which must be in order, and returns the reference to it.
    pub fn xattr_set(&mut self, xattrs: &[(u8, &[u8], &[u8])]) -> u32 {
        let start = self.xattrs.len();
        self.xattrs.resize(start + size_of::<layout::XattrSet>(), 0);
        let mut end = self.xattrs.len();
        for &(prefix, name, value) in xattrs {
            let entry = layout::XattrEntry {
                value_len: (value.len() as u32).into(),
                name_len: name.len() as u8,
                prefix,
                ..Default::default()
            };
            for bytes in [entry.as_bytes(), name, value] {
                self.xattrs.extend_from_slice(bytes);
            }
            // The length of the set excludes padding.
            end = self.xattrs.len();
            self.xattrs.resize(end.next_multiple_of(4), 0);
        }
        let set = layout::XattrSet {
            length: ((end - start) as u32).into(),
            count: (xattrs.len() as u32).into(),
        };
        self.xattrs[start..start + size_of::<layout::XattrSet>()].copy_from_slice(set.as_bytes());
        self.xattrs.resize(end.next_multiple_of(8), 0);
        start as u32 / 8 + 1
    }

    /// Returns the image; its root is inode 1.
    pub fn image(&self) -> Vec<u8> {
        let mut image = vec![0; SUPERBLOCK_SIZE as usize];
        let mut table = |bytes: &[u8], align: usize| {
            image.resize(image.len().next_multiple_of(align), 0);
            let extent = layout::Extent {
                offset: (image.len() as u64).into(),
                length: (bytes.len() as u64).into(),
            };
            image.extend_from_slice(bytes);
            extent
        };
        let inodes = table(self.inodes.as_bytes(), 64);
        let dirents = table(self.dirents.as_bytes(), 64);
        let names = table(&self.names, 64);
        let xattrs = table(&self.xattrs, 64);
        let packs = (!self.packs.is_empty()).then(|| table(self.packs.as_bytes(), 64));
        let mut content = self.data.clone();
        content.resize(content.len().next_multiple_of(BLOCK), 0);
        let data = table(&content, BLOCK);
        image.resize(image.len().next_multiple_of(HUGE_SIZE as usize), 0);

        if let Some(packs) = packs {
            let at = layout::PACKS_OFFSET as usize;
            image[at..at + size_of::<layout::Extent>()].copy_from_slice(packs.as_bytes());
        }
        for (index, inode) in self.inodes.iter().enumerate() {
            let has_data = inode.pack.get() == 0;
            if inode.mode.get() & 0o170_000 == REGULAR && inode.size.get() > 0 && has_data {
                let at = inodes.offset.get() as usize
                    + index * size_of::<layout::Inode>()
                    + offset_of!(layout::Inode, data);
                let offset = inode.data.get() + data.offset.get();
                image[at..at + 8].copy_from_slice(&offset.to_le_bytes());
            }
        }
        let superblock = layout::Superblock {
            magic: layout::MAGIC,
            version: layout::VERSION.into(),
            block_size: (BLOCK as u32).into(),
            compat: self.compat.into(),
            incompat: (self.incompat | packs.map_or(0, |_| layout::INCOMPAT_PACKS)).into(),
            total_size: (image.len() as u64).into(),
            build_sec: 0.into(),
            build_nsec: 0.into(),
            root: 1.into(),
            uuid: [0; 16],
            label: [0; 64],
            inodes,
            dirents,
            names,
            xattrs,
            data,
            metadata_crc: 0.into(),
            sha256: [0; 32],
            crc: 0.into(),
        };
        image[..size_of::<layout::Superblock>()].copy_from_slice(superblock.as_bytes());
        seal(&mut image);
        image
    }
}

/// Returns the superblock's record in `image`.
pub fn superblock(image: &[u8]) -> layout::Superblock {
    layout::Superblock::read_from_prefix(image).unwrap().0
}

/// Corrects the checksums.
pub fn seal(image: &mut [u8]) {
    let record = size_of::<layout::Superblock>();
    if image.len() < record {
        return;
    }
    let end = superblock(image).data.offset.get();
    if let Some(metadata) = usize::try_from(end)
        .ok()
        .and_then(|end| image.get(record..end))
    {
        let crc = crc32c::crc32c(metadata);
        let at = offset_of!(layout::Superblock, metadata_crc);
        image[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
    let at = offset_of!(layout::Superblock, crc);
    let crc = crc32c::crc32c(&image[..at]);
    image[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    seal_signature(image);
}

/// Sets the checksum of the signature that follows the image, if any.
fn seal_signature(image: &mut [u8]) -> Option<()> {
    let superblock = Superblock::load(&&*image).ok()?;
    let start = usize::try_from(superblock.signature_offset()).ok()?;
    let (header, rest) = layout::Signature::read_from_prefix(image.get(start..)?).ok()?;
    if header.magic != layout::SIGNATURE_MAGIC {
        return None;
    }
    let cms = rest.get(..header.length.get() as usize)?;
    let line = Line {
        digest: header.sha256,
        expires: header.expires.get(),
    };
    let sealed = Section::header::<&[u8]>(&line, cms);
    image[start..start + size_of::<layout::Signature>()].copy_from_slice(sealed.as_bytes());
    Some(())
}

/// Sets the SHA-256 of the valid `image`, and returns the sums of its pieces.
pub fn set_digest(image: &mut [u8]) -> Vec<[u8; 32]> {
    seal(image);
    let hashed = superblock(image).without_sums();
    let mut bytes = image.to_vec();
    bytes[..size_of::<layout::Superblock>()].copy_from_slice(hashed.as_bytes());
    let sums = bytes
        .chunks(layout::DIGEST_PIECE as usize)
        .map(|piece| <[u8; 32]>::from(Sha256::digest(piece)));
    let sums: Vec<_> = sums.collect();
    let digest = combine(sums.iter().copied());
    let at = offset_of!(layout::Superblock, sha256);
    image[at..at + digest.len()].copy_from_slice(&digest);
    seal(image);
    sums
}

/// Sets the SHA-256 of the valid `image`, which has the feature, and appends the table of sums and
/// the signature `cms`, if any.
pub fn append(image: &mut Vec<u8>, cms: &[u8]) {
    let sums = set_digest(image);
    let digest = superblock(image).sha256;
    image.extend(sums.concat());
    if !cms.is_empty() {
        image.resize(
            image
                .len()
                .next_multiple_of(layout::SIGNATURE_ALIGN as usize),
            0,
        );
        let expires = u64::MAX;
        let line = Line { digest, expires };
        image.extend(Section::header::<&[u8]>(&line, cms).as_bytes());
        image.extend(cms);
    }
    image.resize(image.len().next_multiple_of(BLOCK), 0);
}

/// Returns the record of the pack `image` in a table of packs.
pub fn pack_of(image: &[u8]) -> layout::Pack {
    let superblock = superblock(image);
    layout::Pack {
        sha256: superblock.sha256,
        total_size: superblock.total_size,
        reserved: [0; 24],
    }
}

/// Inode numbers of [`pack`].
pub mod in_pack {
    pub const FILE: u32 = 2;
    pub const PACKED: u32 = 3;
    /// Shares the data of `FILE`.
    pub const COPY: u32 = 4;
    pub const EMPTY: u32 = 5;
    pub const FIFO: u32 = 6;
    pub const LAST: u32 = FIFO;
}

/// Returns a pack with files of each kind that a composed image can name, rightly or wrongly. Call
/// [`append`] or [`set_digest`] on it.
pub fn pack() -> Vec<u8> {
    let mut builder = Builder {
        compat: layout::COMPAT_SUMS,
        incompat: layout::INCOMPAT_PACKED | layout::INCOMPAT_SHARED,
        ..Builder::default()
    };
    builder.inode(DIRECTORY, 0, 0);
    builder.file(&[21; 5000]);
    builder.packed(&[22; 100]);
    let data = builder.inodes[in_pack::FILE as usize - 1].data;
    builder.inode(REGULAR | 0o644, 5000, data.get());
    builder.inodes[in_pack::COPY as usize - 1].original = in_pack::FILE.into();
    builder.inode(REGULAR | 0o644, 0, 0);
    builder.inode(FIFO | 0o600, 0, 0);
    let set = builder.xattr(XattrPrefix::User as u8, b"comment", b"pack");
    builder.inodes[in_pack::FILE as usize - 1].xattrs = set.into();
    let names = (in_pack::FILE..=in_pack::LAST).map(|ino| (format!("{ino}").into_bytes(), ino));
    builder.directory(1, 1, names.collect());
    builder.image()
}

/// Inode numbers of [`specimen`].
pub mod ino {
    pub const ROOT: u32 = 1;
    pub const DIR: u32 = 2;
    pub const FILE: u32 = 3;
    pub const EMPTY: u32 = 4;
    pub const LINK: u32 = 5;
    pub const DEVICE: u32 = 6;
    pub const FIFO: u32 = 7;
    pub const INNER: u32 = 8;
    pub const OTHER: u32 = 9;
}

/// Returns a small valid image with an inode of every kind.
pub fn specimen() -> Vec<u8> {
    tables().image()
}

/// Returns the value of an access control list with these entries: kind, permissions and id.
pub fn access_list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (kind, bits, id) in entries {
        value.extend(kind.to_le_bytes());
        value.extend(bits.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// Returns the specimen with more in each table: packed files, a shared file, one with data in
/// `pack`, sets of several attributes, access control lists. Call [`append`] on it.
pub fn rich(pack: &[u8]) -> Vec<u8> {
    let mut builder = tables();
    builder.compat = layout::COMPAT_SUMS;
    builder.incompat = layout::INCOMPAT_PACKED | layout::INCOMPAT_SHARED;
    builder.packs = vec![pack_of(pack)];
    let first = builder.packed(&[11; 100]);
    let second = builder.packed(&[12; 5000]);
    let file = builder.inodes[ino::FILE as usize - 1];
    let copy = builder.inode(REGULAR | 0o644, file.size.get(), file.data.get());
    builder.inodes[copy as usize - 1].original = ino::FILE.into();
    let inner = builder.inode(DIRECTORY, 0, 0);
    let elsewhere = builder.in_pack(5000, 1, in_pack::FILE);
    let access = access_list(&[
        (acl::USER_OBJ, 6, acl::NOBODY),
        (acl::USER, 4, 1000),
        (acl::GROUP_OBJ, 4, acl::NOBODY),
        (acl::MASK, 4, acl::NOBODY),
        (acl::OTHER, 0, acl::NOBODY),
    ]);
    let default = access_list(&[
        (acl::USER_OBJ, 7, acl::NOBODY),
        (acl::GROUP_OBJ, 5, acl::NOBODY),
        (acl::OTHER, 5, acl::NOBODY),
    ]);
    let of_file = builder.xattr_set(&[
        (XattrPrefix::User as u8, b"a", b""),
        (XattrPrefix::User as u8, b"comment", b"hello"),
        (XattrPrefix::AclAccess as u8, b"", &access),
    ]);
    let of_directory = builder.xattr_set(&[
        (XattrPrefix::AclDefault as u8, b"", &default),
        (XattrPrefix::Trusted as u8, b"note", b"x"),
    ]);
    builder.inodes[first as usize - 1].mode = (REGULAR | 0o640).into();
    builder.inodes[first as usize - 1].xattrs = of_file.into();
    builder.inodes[inner as usize - 1].xattrs = of_directory.into();
    let entry = |name: &str, ino| (name.as_bytes().to_vec(), ino);
    let entries = vec![
        entry("first", first),
        entry("second", second),
        entry("copy", copy),
        entry("inner", inner),
        entry("elsewhere", elsewhere),
    ];
    builder.directory(ino::OTHER, ino::ROOT, entries);
    builder.directory(inner, ino::OTHER, vec![]);
    builder.image()
}

/// Returns the tables of [`specimen`].
pub fn tables() -> Builder {
    let mut builder = Builder::default();
    builder.inode(DIRECTORY, 0, 0);
    builder.inode(DIRECTORY, 0, 0);
    builder.file(&[7; 5000]);
    builder.inode(REGULAR | 0o600, 0, 0);
    builder.symlink(b"dir/inner");
    builder.inode(CHAR_DEVICE | 0o666, 0, (1 << 32) | 3);
    builder.inode(FIFO | 0o600, 0, 0);
    builder.file(&[9; 100]);
    builder.inode(DIRECTORY, 0, 0);
    let set = builder.xattr(1, b"comment", b"hello");
    builder.inodes[ino::FILE as usize - 1].xattrs = set.into();
    builder.inodes[ino::DIR as usize - 1].xattrs = set.into();
    builder.inodes[ino::FILE as usize - 1].nlink = 2.into();
    let entry = |name: &str, ino| (name.as_bytes().to_vec(), ino);
    let root = vec![
        entry("dir", ino::DIR),
        entry("file", ino::FILE),
        entry("empty", ino::EMPTY),
        entry("link", ino::LINK),
        entry("device", ino::DEVICE),
        entry("fifo", ino::FIFO),
        entry("other", ino::OTHER),
    ];
    builder.directory(ino::ROOT, ino::ROOT, root);
    let inner = vec![entry("inner", ino::INNER), entry("again", ino::FILE)];
    builder.directory(ino::DIR, ino::ROOT, inner);
    builder.directory(ino::OTHER, ino::ROOT, vec![]);
    builder
}
