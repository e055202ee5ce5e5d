// SPDX-License-Identifier: GPL-2.0-only

//! Assigns offsets to files' data.

use crate::writer::duplicates::Duplicates;
use crate::writer::options::{Options, Tails};
use crate::writer::plan::{too_big, DataExtent, Plan};
use crate::writer::tree::{Kind, Location, NodeId, Tree};
use daxfs_files::Result;
use daxfs_reader::layout::{self, HUGE_SIZE};
use daxfs_reader::Table;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Alignment of packed files in bytes.
const PIECE_ALIGN: u64 = 8;

/// Largest image. Processors address at most 52 bits, and even holes need memory for their sums.
const LARGEST: u64 = 1 << 52;

/// A gap between files' data: its length and its offset.
type Hole = (u64, u64);

/// Assigns consecutive offsets.
struct Arranger<'a> {
    tree: &'a Tree,
    block: u64,
    /// See [`Options::dense`].
    dense: bool,
    /// Limit of the offsets.
    limit: u64,
    /// Start of the data, and end of the data placed so far.
    start: u64,
    end: u64,
    extents: Vec<DataExtent>,
}

impl Arranger<'_> {
    /// Places `node` at the end, rounded up to a multiple of `align`.
    fn put(&mut self, node: NodeId, size: u64, align: u64) -> Result<()> {
        let offset = self.end;
        let end = offset
            .checked_add(size)
            .and_then(|end| end.checked_next_multiple_of(align));
        match end.filter(|&end| end <= self.limit) {
            Some(end) => self.end = end,
            None => return Err(too_big(self.tree, "file data")),
        }
        self.extents.push(DataExtent { offset, size, node });
        Ok(())
    }

    /// Places files at multiples of the block size, and those in `huge` at multiples of 2 MiB. Both
    /// lists are in the order of inode numbers; `small` is also sorted by the number of blocks.
    ///
    /// Fills the gaps between huge files with small files, in each the largest that fits first,
    /// because the smallest ones fit everywhere.
    fn blocks(
        &mut self,
        huge: Vec<(u64, NodeId)>,
        mut small: BTreeMap<u64, VecDeque<(u64, NodeId)>>,
        numbers: &[u32],
    ) -> Result<()> {
        for (size, node) in huge {
            let aligned = self.end.next_multiple_of(HUGE_SIZE);
            let room = |end: u64| (aligned - end) / self.block;
            let mut free = room(self.end);
            while let Some((&blocks, nodes)) = small.range_mut(..=free).next_back() {
                match nodes.pop_front() {
                    Some((size, node)) => {
                        self.put(node, size, self.block)?;
                        free -= blocks;
                    }
                    None => drop(small.remove(&blocks)),
                }
            }
            if !self.dense || free * self.block <= size / 8 {
                self.end = aligned;
            }
            self.put(node, size, self.block)?;
        }
        // Place the rest in the order of inode numbers, so that neighbours in the tree are
        // neighbours in memory.
        let mut rest: Vec<(u64, NodeId)> = small.into_values().flatten().collect();
        rest.sort_unstable_by_key(|&(_, node)| numbers[node as usize]);
        for (size, node) in rest {
            self.put(node, size, self.block)?;
        }
        Ok(())
    }

    /// Returns the gaps before and between the files placed so far, and if `tails` the unused ends
    /// of files' last blocks.
    fn holes(&self, tails: bool) -> BTreeSet<Hole> {
        let mut holes = BTreeSet::new();
        // The first file may be aligned to 2 MiB.
        let first = self.extents.first().map_or(self.end, |first| first.offset);
        if self.start < first {
            holes.insert((first - self.start, self.start));
        }
        let next = self.extents.iter().skip(1).map(|extent| extent.offset);
        for (extent, next) in self.extents.iter().zip(next.chain([self.end])) {
            let end = extent.offset + extent.size;
            let whole = end.next_multiple_of(self.block);
            // If the last of 2 MiB were shared, the file would lose a huge mapping.
            let start = if !tails || whole % HUGE_SIZE == 0 {
                whole
            } else {
                end.next_multiple_of(PIECE_ALIGN)
            };
            if start < next {
                holes.insert((next - start, start));
            }
        }
        holes
    }

    /// Places `pieces`, which are in the order of inode numbers, in the gaps, largest first and
    /// each in the tightest gap. Pieces that fit nowhere follow all other data. If `tails`, files'
    /// last blocks are gaps too.
    fn pack(&mut self, pieces: Vec<(u64, NodeId)>, tails: bool) -> Result<()> {
        let mut holes = self.holes(tails);
        let mut largest: Vec<usize> = (0..pieces.len()).collect();
        largest.sort_by_key(|&index| std::cmp::Reverse(pieces[index].0));
        let mut rest = Vec::new();
        for index in largest {
            let (size, node) = pieces[index];
            let Some(&hole) = holes.range((size, 0)..).next() else {
                rest.push(index);
                continue;
            };
            holes.remove(&hole);
            let (length, offset) = hole;
            self.extents.push(DataExtent { offset, size, node });
            let used = size.next_multiple_of(PIECE_ALIGN);
            if used < length {
                holes.insert((length - used, offset + used));
            }
        }
        rest.sort_unstable();
        for index in rest {
            let (size, node) = pieces[index];
            self.put(node, size, PIECE_ALIGN)?;
        }
        self.extents.sort_unstable_by_key(|extent| extent.offset);
        Ok(())
    }
}

impl Plan {
    /// Places files' data after the metadata, which ends at `metadata`.
    ///
    /// Among identical files, the one with the smallest inode number owns the data, which the
    /// others share.
    pub(crate) fn place_data(
        &mut self,
        tree: &Tree,
        duplicates: &Duplicates,
        metadata: u64,
        options: &Options,
    ) -> Result<()> {
        let block = u64::from(self.block_size);
        // Files below this size are packed.
        let packed = match options.tails {
            Tails::None => 0,
            Tails::Small => u64::from(layout::MIN_BLOCK_SIZE),
            Tails::All => block,
        };
        let mut huge = Vec::new();
        let mut small: BTreeMap<u64, VecDeque<(u64, NodeId)>> = BTreeMap::new();
        let mut pieces = Vec::new();
        // Identical files by representative, the first of them; and the others.
        let mut firsts = HashMap::new();
        let mut others = Vec::new();
        for &node in &self.order {
            let size = match tree.node(node).kind {
                Kind::Regular {
                    size,
                    location: Location::Pack { pack, ino },
                } if size > 0 => {
                    let planned = &mut self.records[self.numbers[node as usize] as usize - 1];
                    (planned.pack, planned.original) = (pack + 1, ino);
                    continue;
                }
                Kind::Regular { size, .. } if size > 0 => size,
                _ => continue,
            };
            let first = *firsts
                .entry(duplicates.representative(node))
                .or_insert(node);
            if first != node {
                others.push((node, first));
            } else if size < packed {
                pieces.push((size, node));
            } else if size >= options.huge_threshold.max(1) {
                huge.push((size, node));
            } else {
                let nodes = small.entry(size.div_ceil(block)).or_default();
                nodes.push_back((size, node));
            }
        }

        let start = metadata.next_multiple_of(block);
        let mut arranger = Arranger {
            tree,
            block,
            dense: options.dense,
            limit: LARGEST.saturating_sub(options.padding.max(HUGE_SIZE)),
            start,
            end: start,
            extents: Vec::new(),
        };
        arranger.blocks(huge, small, &self.numbers)?;
        arranger.pack(pieces, options.tails == Tails::All)?;
        let end = arranger.end.next_multiple_of(block);
        self.extents = arranger.extents;
        self.data = Table {
            offset: start,
            length: end - start,
        };
        self.note_places(block);
        for (node, first) in others {
            self.incompat |= layout::INCOMPAT_SHARED;
            let number = self.numbers[first as usize];
            let first = self.records[number as usize - 1];
            let planned = &mut self.records[self.numbers[node as usize] as usize - 1];
            (planned.original, planned.data, planned.flags) = (number, first.data, first.flags);
        }
        // The sums use the padding.
        let sums = if options.sums {
            layout::pieces(end) * layout::SUM_SIZE
        } else {
            0
        };
        let padded = end
            .checked_add(sums)
            .and_then(|end| end.checked_next_multiple_of(options.padding));
        self.output_size = match padded {
            Some(size) if size <= LARGEST => size,
            _ => return Err(too_big(tree, "file data")),
        };
        self.total_size = if options.sums { end } else { self.output_size };
        Ok(())
    }

    /// Records in the inodes the offsets of their data, and whether they share blocks.
    fn note_places(&mut self, block: u64) {
        let mut before = 0;
        for (index, extent) in self.extents.iter().enumerate() {
            let end = extent.offset + extent.size;
            let next = self.extents.get(index + 1).map(|next| next.offset);
            let alone = extent.offset % block == 0
                && before <= extent.offset
                && next.is_none_or(|next| next >= end.next_multiple_of(block));
            before = end;
            let planned = &mut self.records[self.numbers[extent.node as usize] as usize - 1];
            planned.data = extent.offset;
            if !alone {
                planned.flags = layout::INODE_PACKED;
                self.incompat |= layout::INCOMPAT_PACKED;
            }
        }
    }
}
