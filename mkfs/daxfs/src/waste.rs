// SPDX-License-Identifier: GPL-2.0-only

//! `info --waste`: which bytes of an image hold no data, and what option of mkdaxfs saves them.

use crate::map::{inodes, Extent};
use daxfs_check::memory::Storage;
use daxfs_check::Progress;
use daxfs_command::bar::Bar;
use daxfs_image::error::Result;
use daxfs_image::reader::buffer_for;
use daxfs_image::reader::Reader;
use daxfs_image::text::human;
use daxfs_reader::{Content, Inode};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

/// Alignment of packed files.
const PIECE_ALIGN: u64 = 8;

/// Smallest block.
const MIN_BLOCK: u64 = daxfs_reader::layout::MIN_BLOCK_SIZE as u64;

/// Bytes that could be saved.
#[derive(Debug, Serialize)]
pub struct Item {
    what: &'static str,
    /// Number of bytes.
    pub bytes: u64,
    /// The option of mkdaxfs that saves most of them.
    pub option: &'static str,
}

/// Which bytes of an image hold no data.
#[derive(Debug, Serialize)]
pub struct Waste {
    schema: &'static str,
    total_size: u64,
    /// The items, the largest first.
    pub items: Vec<Item>,
}

impl Waste {
    /// Examine the image that `reader` reads. Read the content of files of the same size.
    pub fn new<S: Storage>(reader: &Reader<'_, S>) -> Result<Self> {
        let superblock = reader.image.superblock();
        let block = u64::from(superblock.block_size);
        let mut extents = Vec::new();
        let mut same_size: HashMap<u64, Vec<Inode>> = HashMap::new();
        inodes(reader, |inode| {
            let Content::Regular { data } = inode.content else {
                return Ok(());
            };
            if inode.size > 0 && inode.original == 0 {
                extents.push(Extent {
                    offset: data,
                    size: inode.size,
                    packed: inode.packed,
                    ino: inode.ino,
                });
                same_size.entry(inode.size).or_default().push(*inode);
            }
            Ok(())
        })?;
        extents.sort_unstable_by_key(|extent| extent.offset);
        let (mut small, mut tails, mut large_blocks, mut gaps) = (0, 0, 0, 0);
        // The number of files smaller than a block, and the bytes that they take if packed.
        let (mut loose, mut pieces) = (0, 0);
        let mut at = superblock.data.offset;
        for extent in &extents {
            gaps += extent.offset.saturating_sub(at.next_multiple_of(block));
            at = at.max(extent.offset + extent.size);
            let rest = extent.size.next_multiple_of(block) - extent.size;
            if extent.packed {
                continue;
            }
            match extent.size < block {
                true => {
                    let piece = extent.size.next_multiple_of(PIECE_ALIGN);
                    small += block - piece;
                    loose += 1;
                    pieces += piece;
                }
                false => tails += rest,
            }
            large_blocks += rest - (extent.size.next_multiple_of(MIN_BLOCK) - extent.size);
        }
        // By default, too, a small file has a block for itself if no other one fits in it.
        if block == MIN_BLOCK && pieces.div_ceil(block) == loose {
            small = 0;
        }
        let mut items = vec![
            Item {
                what: "padding after the data",
                bytes: superblock.total_size.saturating_sub(superblock.data.end()),
                option: "--padding 4K",
            },
            Item {
                what: "blocks of files smaller than a block",
                bytes: small,
                option: match block > MIN_BLOCK {
                    true => "--pack",
                    false => "no --no-pack",
                },
            },
            Item {
                what: "last blocks of larger files",
                bytes: tails,
                option: "--pack",
            },
            Item {
                what: "gaps before files aligned to 2 MiB",
                bytes: gaps,
                option: "--huge-threshold 64M",
            },
            Item {
                what: "files with the same content",
                bytes: duplicates(reader, same_size)?,
                option: "no --no-dedupe",
            },
        ];
        if block > MIN_BLOCK {
            items.push(Item {
                what: "blocks larger than 4K, unless a kernel has larger pages",
                bytes: large_blocks,
                option: "--block-size 4K",
            });
        }
        items.retain(|item| item.bytes > 0);
        items.sort_by_key(|item| std::cmp::Reverse(item.bytes));
        Ok(Waste {
            schema: "daxfs-waste-1",
            total_size: superblock.total_size,
            items,
        })
    }

    /// Write it for people.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        if self.items.is_empty() {
            return writeln!(out, "Nothing is wasted.");
        }
        writeln!(out, " bytes  part  option of mkdaxfs     where")?;
        for item in &self.items {
            let part = item.bytes as f64 * 100.0 / self.total_size as f64;
            let (bytes, option, what) = (human(item.bytes), item.option, item.what);
            writeln!(out, "{bytes:>6} {part:>4.0}%  {option:20}  {what}")?;
        }
        Ok(())
    }
}

/// Return the number of bytes of files that have the content of another one but do not share it.
fn duplicates<S: Storage>(
    reader: &Reader<'_, S>,
    mut same_size: HashMap<u64, Vec<Inode>>,
) -> Result<u64> {
    same_size.retain(|_, inodes| inodes.len() > 1);
    let total = same_size.iter();
    let total = total.fold(0_u64, |sum, (size, inodes)| {
        sum.saturating_add(size.saturating_mul(inodes.len() as u64))
    });
    let bar = Bar::of("comparing", total);
    let mut bytes = 0_u64;
    for (size, inodes) in same_size {
        let mut contents = HashSet::new();
        for inode in inodes {
            let mut hash = Sha256::new();
            let mut buffer = vec![0; buffer_for(&inode)];
            reader.content(&inode, b"", &mut buffer, &mut |_, piece| {
                hash.update(piece);
                Ok(())
            })?;
            bar.advance(size);
            if !contents.insert(hash.finalize()) {
                bytes = size.saturating_add(bytes);
            }
        }
    }
    Ok(bytes)
}
