// SPDX-License-Identifier: GPL-2.0-only

//! Assigns numbers to inodes and offsets to data.
//!
//! Inodes are numbered directory by directory, breadth first from the root, and within a directory
//! in the order of its entries. Entries and names have the same order, so a listing reads memory in
//! one direction, and a directory's inodes are adjacent.

use crate::writer::duplicates::Duplicates;
use crate::writer::options::Options;
use crate::writer::tree::{Kind, NodeId, Tree, XattrSet, ROOT};
use daxfs_files::{Error, Result};
use daxfs_reader::layout::{self, SUPERBLOCK_SIZE, TABLE_ALIGN, XATTR_ALIGN};
use daxfs_reader::{OwnedXattr, Table, XATTR_NAME_MAX};
use std::mem::size_of;

/// Entries per cache line.
const LINE: u64 = TABLE_ALIGN / size_of::<layout::Dirent>() as u64;

/// Planned fields of [`layout::Inode`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Planned {
    /// Link count.
    pub nlink: u32,
    /// Reference to the xattr set.
    pub xattrs: u32,
    /// Depends on the type.
    pub data: u64,
    /// [`layout::INODE_PACKED`] or 0.
    pub flags: u16,
    /// Regular file: inode number of the file that owns the data, or 0 for itself.
    pub original: u32,
    /// Regular file: number of the pack with the data, or 0 for this image.
    pub pack: u32,
    /// Directory: inode number of the parent.
    pub parent: u32,
    /// Directory: index of its entry in the parent.
    pub position: u32,
}

/// A file's data in the image.
#[derive(Clone, Copy, Debug)]
pub struct DataExtent {
    /// Offset in the image.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// The file.
    pub node: NodeId,
}

/// The layout of an image.
#[derive(Default)]
pub struct Plan {
    /// Alignment of file data.
    pub block_size: u32,
    /// Features that a reader may ignore.
    pub compat: u64,
    /// Features that a reader must know.
    pub incompat: u64,
    /// The node of each inode, starting with inode 1.
    pub order: Vec<NodeId>,
    /// The inode number of each node.
    pub numbers: Vec<u32>,
    /// The planned fields of each inode, starting with inode 1.
    pub records: Vec<Planned>,
    /// Indices in [`Tree::xattrs`] of the image's sets, in the image's order.
    pub xattr_sets: Vec<u32>,
    /// Data of the files that own data, by ascending offset.
    pub extents: Vec<DataExtent>,
    /// Inode table.
    pub inodes: Table,
    /// Dirent table.
    pub dirents: Table,
    /// Names and symlink targets.
    pub names: Table,
    /// Xattr sets.
    pub xattrs: Table,
    /// Packs.
    pub packs: Table,
    /// File data.
    pub data: Table,
    /// Bytes of the image.
    pub total_size: u64,
    /// Size of the output: the image, the sums of its pieces, and padding.
    pub output_size: u64,
}

impl Plan {
    /// Plans an image of `tree` with `options`, and with `duplicates` stored once.
    ///
    /// Returns [`Error::Refused`] if something exceeds the limits of the format.
    pub fn new(tree: &Tree, duplicates: &Duplicates, options: &Options) -> Result<Self> {
        let mut plan = Plan {
            block_size: options.block_size,
            compat: if options.sums { layout::COMPAT_SUMS } else { 0 },
            order: vec![ROOT],
            numbers: vec![0; tree.nodes.len()],
            records: vec![Planned {
                nlink: 2,
                parent: 1,
                position: layout::NO_POSITION,
                ..Planned::default()
            }],
            ..Plan::default()
        };
        plan.numbers[ROOT as usize] = 1;
        let (dirents, names) = plan.number(tree, options.by_node);
        check_owners(tree, &plan.order)?;
        let names = plan.place_symlinks(tree, names);
        let xattrs = plan.place_xattrs(tree)?;
        if names >> 48 != 0 {
            return Err(too_big(tree, "names"));
        }

        let inodes = plan.order.len() as u64 * size_of::<layout::Inode>() as u64;
        let mut end = SUPERBLOCK_SIZE;
        let mut table = |length: u64| {
            let offset = end.next_multiple_of(TABLE_ALIGN);
            end = offset + length;
            Table { offset, length }
        };
        plan.inodes = table(inodes);
        plan.dirents = table(dirents * size_of::<layout::Dirent>() as u64);
        plan.names = table(names);
        plan.xattrs = table(xattrs);
        if !tree.packs.is_empty() {
            if tree.packs.len() > layout::PACKS_MAX as usize {
                return Err(too_big(tree, "packs"));
            }
            plan.packs = table(tree.packs.len() as u64 * layout::PACK_SIZE);
            plan.incompat |= layout::INCOMPAT_PACKS;
        }
        plan.place_data(tree, duplicates, end, options)?;
        Ok(plan)
    }

    /// Numbers the inodes and places the directory entries. Returns the number of entries and the
    /// total length of their names.
    fn number(&mut self, tree: &Tree, by_node: bool) -> (u64, u64) {
        let (mut dirents, mut names) = (0, 0);
        // `order` grows while the loop walks it: breadth first.
        let mut ino = 0;
        while ino < self.order.len() {
            let Kind::Directory(entries) = &tree.node(self.order[ino]).kind else {
                ino += 1;
                continue;
            };
            let count = entries.len() as u64;
            // Let each directory use as few cache lines as possible.
            if count > 0 && dirents % LINE + count.min(LINE) > LINE {
                dirents += LINE - dirents % LINE;
            }
            self.records[ino].data = dirents;
            dirents += count;
            let mut entries: Vec<_> = entries.iter().enumerate().collect();
            if by_node {
                entries.sort_unstable_by_key(|(_, entry)| entry.node);
            }
            for (position, entry) in entries {
                self.add(tree, entry.node, ino, position);
                names += tree.name(&entry.name).len() as u64;
            }
            ino += 1;
        }
        (dirents, names)
    }

    /// Counts a name of `node`, and numbers the node at its first name.
    fn add(&mut self, tree: &Tree, node: NodeId, parent: usize, position: usize) {
        let number = &mut self.numbers[node as usize];
        if *number != 0 {
            self.records[*number as usize - 1].nlink += 1;
            return;
        }
        self.order.push(node);
        *number = self.order.len() as u32;
        let mut planned = Planned {
            nlink: 1,
            ..Planned::default()
        };
        match tree.node(node).kind {
            Kind::Directory(_) => {
                self.records[parent].nlink += 1;
                planned.nlink = 2;
                planned.parent = parent as u32 + 1;
                planned.position = position as u32;
            }
            Kind::Device { major, minor, .. } => {
                planned.data = (u64::from(major) << 32) | u64::from(minor);
            }
            _ => (),
        }
        self.records.push(planned);
    }

    /// Places the targets of symlinks after the names. Returns the end of both.
    fn place_symlinks(&mut self, tree: &Tree, mut end: u64) -> u64 {
        for (planned, &node) in self.records.iter_mut().zip(&self.order) {
            if let Kind::Symlink(target) = &tree.node(node).kind {
                planned.data = end;
                end += target.len() as u64;
            }
        }
        end
    }

    /// Places the xattr sets in the order of the inodes that use them; returns their size.
    fn place_xattrs(&mut self, tree: &Tree) -> Result<u64> {
        let mut references = vec![0; tree.xattrs.len()];
        let mut end = 0u64;
        for (planned, &node) in self.records.iter_mut().zip(&self.order) {
            let set = tree.node(node).attributes.xattrs;
            if set == 0 {
                continue;
            }
            let reference = &mut references[set as usize];
            if *reference == 0 {
                check_xattrs(tree, node, &tree.xattrs[set as usize])?;
                *reference = u32::try_from(end / XATTR_ALIGN + 1)
                    .map_err(|_| too_big(tree, "extended attributes"))?;
                self.xattr_sets.push(set);
                end += xattr_set_size(&tree.xattrs[set as usize]).next_multiple_of(XATTR_ALIGN);
            }
            planned.xattrs = *reference;
        }
        Ok(end)
    }
}

/// Returns the size of an xattr set in the image, without padding.
pub fn xattr_set_size(set: &XattrSet) -> u64 {
    let mut size = size_of::<layout::XattrSet>() as u64;
    for xattr in set {
        let length = size_of::<layout::XattrEntry>() + xattr.name.len() + xattr.value.len();
        size = size.next_multiple_of(4) + length as u64;
    }
    size
}

/// Fails for the owner or group -1, which no file can have: chown(2) would keep the old one.
fn check_owners(tree: &Tree, nodes: &[NodeId]) -> Result<()> {
    for &node in nodes {
        let attributes = &tree.node(node).attributes;
        for (what, option, id) in [
            ("owner", "--uid", attributes.uid),
            ("group", "--gid", attributes.gid),
        ] {
            if id == u32::MAX {
                let why =
                    format!("its {what} is {id}, which is not a valid id; set one with {option}");
                return Err(Error::refused(&tree.path(node), why));
            }
        }
    }
    Ok(())
}

/// Fails for a set that exceeds the limits of the format, which archives can contain but
/// filesystems cannot.
fn check_xattrs(tree: &Tree, node: NodeId, set: &XattrSet) -> Result<()> {
    let refuse = |what: String| Err(Error::refused(&tree.path(node), what));
    if set.len() > layout::XATTR_COUNT_MAX as usize {
        let (count, limit) = (set.len(), layout::XATTR_COUNT_MAX);
        return refuse(format!(
            "{count} extended attributes are more than the {limit} that Linux can list; remove some"
        ));
    }
    // Linux counts the prefix.
    let name = |xattr: &OwnedXattr| xattr.prefix.text().len() + xattr.name.len();
    if let Some(long) = set.iter().map(name).find(|&length| length > XATTR_NAME_MAX) {
        return refuse(format!(
            "the name of an extended attribute has {long} bytes, and Linux allows {XATTR_NAME_MAX}; remove it"
        ));
    }
    let limit = layout::XATTR_VALUE_MAX as usize;
    if let Some(long) = set.iter().find(|xattr| xattr.value.len() > limit) {
        let length = long.value.len();
        return refuse(format!(
            "an extended attribute of {length} bytes is longer than the {limit} that Linux allows; remove it"
        ));
    }
    Ok(())
}

pub(crate) fn too_big(tree: &Tree, what: &str) -> Error {
    let why = format!("the tree has more {what} than one image can hold; split the tree");
    Error::refused(&tree.title(), why)
}
