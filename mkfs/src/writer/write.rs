// SPDX-License-Identifier: GPL-2.0-only

//! Writes the superblock and the metadata of an image.

use crate::writer::content::{Pieces, WRITTEN_AT_ONCE};
use crate::writer::options::Options;
use crate::writer::plan::{xattr_set_size, Plan};
use crate::writer::tree::{Kind, Tree};
use daxfs_files::digest::combine;
use daxfs_files::{Error, Result};
use daxfs_reader::layout::{self, SUPERBLOCK_SIZE};
use daxfs_reader::Table;
use std::fs::File;
use std::mem::{offset_of, size_of};
use std::os::unix::fs::FileExt;
use std::path::Path;
use uuid::Uuid;
use zerocopy::IntoBytes;

const SUPERBLOCK_RECORD: u64 = size_of::<layout::Superblock>() as u64;

/// Writes everything between the superblock's record and the data, and returns its CRC-32C.
pub fn metadata(tree: &Tree, plan: &Plan, image: &File, path: &Path) -> Result<u32> {
    let mut stream = CrcWriter {
        image,
        path,
        buffer: Vec::with_capacity(WRITTEN_AT_ONCE),
        offset: SUPERBLOCK_RECORD,
        crc: 0,
    };
    let table = layout::Extent {
        offset: plan.packs.offset.into(),
        length: plan.packs.length.into(),
    };
    stream.put(table.as_bytes())?;
    stream.pad(SUPERBLOCK_SIZE)?;
    inodes(&mut stream, tree, plan)?;
    dirents(&mut stream, tree, plan)?;
    names(&mut stream, tree, plan)?;
    xattrs(&mut stream, tree, plan)?;
    packs(&mut stream, tree, plan)?;
    stream.pad(plan.data.offset)?;
    stream.flush()?;
    Ok(stream.crc)
}

/// Writes bytes in order.
struct CrcWriter<'a> {
    image: &'a File,
    path: &'a Path,
    buffer: Vec<u8>,
    /// Offset of the buffer's first byte.
    offset: u64,
    crc: u32,
}

impl CrcWriter<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > WRITTEN_AT_ONCE {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes zeros up to `offset`, which is at most a block away.
    fn pad(&mut self, offset: u64) -> Result<()> {
        let length = offset - self.offset - self.buffer.len() as u64;
        self.put(&vec![0; length as usize])
    }

    fn flush(&mut self) -> Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer);
        self.image
            .write_all_at(&self.buffer, self.offset)
            .map_err(|error| Error::output(self.path, "write the image", error))?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

fn inodes(stream: &mut CrcWriter<'_>, tree: &Tree, plan: &Plan) -> Result<()> {
    stream.pad(plan.inodes.offset)?;
    for (planned, &node) in plan.records.iter().zip(&plan.order) {
        let node = tree.node(node);
        let attributes = &node.attributes;
        let size = match &node.kind {
            Kind::Regular { size, .. } => *size,
            Kind::Directory(entries) => (entries.len() * size_of::<layout::Dirent>()) as u64,
            Kind::Symlink(target) => target.len() as u64,
            Kind::Device { .. } | Kind::Fifo | Kind::Socket => 0,
        };
        let file_type = node.kind.file_type() as u16;
        let record = layout::Inode {
            mode: ((file_type << 12) | attributes.permissions).into(),
            nlink: planned.nlink.into(),
            uid: attributes.uid.into(),
            gid: attributes.gid.into(),
            size: size.into(),
            mtime_sec: attributes.mtime.0.into(),
            mtime_nsec: attributes.mtime.1.into(),
            xattrs: planned.xattrs.into(),
            flags: planned.flags.into(),
            original: planned.original.into(),
            pack: planned.pack.into(),
            data: planned.data.into(),
            parent: planned.parent.into(),
            position: planned.position.into(),
        };
        stream.put(record.as_bytes())?;
    }
    Ok(())
}

fn dirents(stream: &mut CrcWriter<'_>, tree: &Tree, plan: &Plan) -> Result<()> {
    stream.pad(plan.dirents.offset)?;
    let mut name = 0u64;
    for (planned, &node) in plan.records.iter().zip(&plan.order) {
        let Kind::Directory(entries) = &tree.node(node).kind else {
            continue;
        };
        if !entries.is_empty() {
            let record = size_of::<layout::Dirent>() as u64;
            stream.pad(plan.dirents.offset + planned.data * record)?;
        }
        for entry in entries {
            let length = tree.name(&entry.name).len() as u8;
            let record = layout::Dirent {
                hash: entry.hash.into(),
                ino: plan.numbers[entry.node as usize].into(),
                name_low: (name as u32).into(),
                name_high: ((name >> 32) as u16).into(),
                name_len: length,
                file_type: tree.node(entry.node).kind.file_type() as u8,
            };
            stream.put(record.as_bytes())?;
            name += u64::from(length);
        }
    }
    Ok(())
}

fn names(stream: &mut CrcWriter<'_>, tree: &Tree, plan: &Plan) -> Result<()> {
    stream.pad(plan.names.offset)?;
    for &node in &plan.order {
        if let Kind::Directory(entries) = &tree.node(node).kind {
            for entry in entries {
                stream.put(tree.name(&entry.name))?;
            }
        }
    }
    for &node in &plan.order {
        if let Kind::Symlink(target) = &tree.node(node).kind {
            stream.put(target)?;
        }
    }
    Ok(())
}

fn packs(stream: &mut CrcWriter<'_>, tree: &Tree, plan: &Plan) -> Result<()> {
    if tree.packs.is_empty() {
        return Ok(());
    }
    stream.pad(plan.packs.offset)?;
    for pack in &tree.packs {
        let record = layout::Pack {
            sha256: pack.sha256,
            total_size: pack.total_size.into(),
            reserved: [0; 24],
        };
        stream.put(record.as_bytes())?;
    }
    Ok(())
}

fn xattrs(stream: &mut CrcWriter<'_>, tree: &Tree, plan: &Plan) -> Result<()> {
    stream.pad(plan.xattrs.offset)?;
    for &set in &plan.xattr_sets {
        let set = &tree.xattrs[set as usize];
        let length = xattr_set_size(set);
        let head = layout::XattrSet {
            length: (length as u32).into(),
            count: (set.len() as u32).into(),
        };
        let mut bytes = head.as_bytes().to_vec();
        for xattr in set {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            let head = layout::XattrEntry {
                value_len: (xattr.value.len() as u32).into(),
                name_len: xattr.name.len() as u8,
                prefix: xattr.prefix as u8,
                ..layout::XattrEntry::default()
            };
            bytes.extend_from_slice(head.as_bytes());
            bytes.extend_from_slice(&xattr.name);
            bytes.extend_from_slice(&xattr.value);
        }
        bytes.resize(
            bytes.len().next_multiple_of(layout::XATTR_ALIGN as usize),
            0,
        );
        stream.put(&bytes)?;
    }
    Ok(())
}

/// Returns the superblock of an image written in `pieces`, whose metadata has this CRC-32C; also
/// returns the SHA-256 of each piece.
pub fn superblock(
    tree: &Tree,
    plan: &Plan,
    options: &Options,
    metadata_crc: u32,
    pieces: &Pieces,
) -> (layout::Superblock, Vec<[u8; 32]>) {
    let extent = |table: &Table| layout::Extent {
        offset: table.offset.into(),
        length: table.length.into(),
    };
    let newest = tree.nodes.iter().map(|node| node.attributes.mtime).max();
    let time = options.time.or(newest).unwrap_or_default();
    let mut label = [0; 64];
    label[..options.label.len()].copy_from_slice(options.label.as_bytes());
    let mut record = layout::Superblock {
        magic: layout::MAGIC,
        version: layout::VERSION.into(),
        block_size: plan.block_size.into(),
        compat: plan.compat.into(),
        incompat: plan.incompat.into(),
        total_size: plan.total_size.into(),
        build_sec: time.0.into(),
        build_nsec: time.1.into(),
        root: 1.into(),
        uuid: [0; 16],
        label,
        inodes: extent(&plan.inodes),
        dirents: extent(&plan.dirents),
        names: extent(&plan.names),
        xattrs: extent(&plan.xattrs),
        data: extent(&plan.data),
        metadata_crc: metadata_crc.into(),
        sha256: [0; 32],
        crc: 0.into(),
    };
    record.uuid = options
        .uuid
        .unwrap_or_else(|| derive_uuid(&combine(pieces.sums(&record))))
        .into_bytes();
    let sums: Vec<_> = pieces.sums(&record).collect();
    record.sha256 = combine(sums.iter().copied());
    let crc = crc32c::crc32c(&record.as_bytes()[..offset_of!(layout::Superblock, crc)]);
    record.crc = crc.into();
    (record, sums)
}

/// Returns a version 8 UUID that depends only on `digest`, which covers an image without its UUID,
/// or everything that determines the image.
pub fn derive_uuid(digest: &[u8; 32]) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Uuid::new_v8(bytes)
}
