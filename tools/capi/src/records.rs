// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The structures of `daxfs.h`.

use daxfs_reader::{layout, Content, Inode, Superblock};
use std::mem::{offset_of, size_of};

/// `struct daxfs_info`.
#[allow(missing_docs)] // The header says it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Info {
    pub size: u64,
    pub inodes: u64,
    pub build_sec: i64,
    pub build_nsec: u32,
    pub block_size: u32,
    pub uuid: [u8; 16],
    pub sha256: [u8; 32],
    pub label: [u8; 72],
}

impl Info {
    pub(crate) fn new(superblock: &Superblock) -> Self {
        let mut label = [0; 72];
        label[..superblock.label.len()].copy_from_slice(&superblock.label);
        Info {
            size: superblock.total_size,
            inodes: superblock.inode_count(),
            build_sec: superblock.build_time.0,
            build_nsec: superblock.build_time.1,
            block_size: superblock.block_size,
            uuid: superblock.uuid,
            sha256: superblock.sha256,
            label,
        }
    }
}

/// `struct daxfs_pack`.
#[allow(missing_docs)] // The header says it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Pack {
    pub size: u64,
    pub sha256: [u8; 32],
}

impl Pack {
    pub(crate) fn new(record: &layout::Pack) -> Self {
        Pack {
            size: record.total_size.get(),
            sha256: record.sha256,
        }
    }
}

/// `struct daxfs_stat`.
#[allow(missing_docs)] // The header says it.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Stat {
    pub size: u64,
    pub offset: u64,
    pub mtime_sec: i64,
    pub mtime_nsec: u32,
    pub ino: u32,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub major: u32,
    pub minor: u32,
}

impl Stat {
    pub(crate) fn new(inode: &Inode) -> Self {
        let mut stat = Stat {
            size: inode.size,
            mtime_sec: inode.mtime_sec,
            mtime_nsec: inode.mtime_nsec,
            ino: inode.ino,
            mode: inode.mode.into(),
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            ..Stat::default()
        };
        match inode.content {
            Content::Regular { data } => stat.offset = data,
            Content::Device { major, minor } => (stat.major, stat.minor) = (major, minor),
            _ => (),
        }
        stat
    }
}

/// `struct daxfs_dirent`.
#[allow(missing_docs)] // The header says it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Entry {
    pub stat: Stat,
    pub length: u8,
    pub name: [u8; 256],
}

impl Entry {
    pub(crate) fn new(inode: &Inode, text: &[u8]) -> Self {
        let mut name = [0; 256];
        name[..text.len()].copy_from_slice(text);
        Entry {
            stat: Stat::new(inode),
            length: text.len() as u8,
            name,
        }
    }
}

// Changing these breaks compiled programs.
const _: () = {
    assert!(size_of::<Info>() == 152 && offset_of!(Info, label) == 80);
    assert!(size_of::<Pack>() == 40 && offset_of!(Pack, sha256) == 8);
    assert!(size_of::<Stat>() == 56 && offset_of!(Stat, minor) == 52);
    assert!(size_of::<Entry>() == 320 && offset_of!(Entry, name) == 57);
};
