// SPDX-License-Identifier: GPL-2.0-only

//! The maps of sparse members: which ranges of the file the archive contains.

use super::super::stream::Stream;
use super::{unsigned, BLOCK};
use crate::input::budget::Budget;
use crate::writer::origin::Piece;
use daxfs_files::Reason;
use tar::{GnuExtSparseHeader, GnuHeader, GnuSparseHeader};

/// Why a member's map is refused.
pub const MALFORMED: &str = "the map of a sparse file is malformed";

/// Offset and length of each piece.
pub type Map = Vec<(u64, u64)>;

/// Reads the map in a header of GNU's old format and in the blocks after it. Returns the map and
/// the size of the file.
pub fn old(
    header: &GnuHeader,
    stream: &mut Stream<'_>,
    budget: &Budget,
) -> Result<(Map, u64), Reason> {
    let mut map = Map::new();
    let mut add = |entries: &[GnuSparseHeader]| {
        for entry in entries.iter().filter(|entry| !entry.is_empty()) {
            let piece = unsigned(&entry.offset).zip(unsigned(&entry.numbytes));
            map.push(piece.ok_or(MALFORMED)?);
        }
        Ok::<_, Reason>(())
    };
    add(&header.sparse)?;
    let mut more = header.is_extended();
    while more {
        let mut block = GnuExtSparseHeader::new();
        stream.read_exact(block.as_mut_bytes())?;
        budget.take_pieces(block.sparse.len() as u64)?;
        add(&block.sparse)?;
        more = block.is_extended();
    }
    let size = unsigned(&header.realsize).ok_or("the size of a sparse file is malformed")?;
    Ok((map, size))
}

/// Reads the map before a member's data in version 1.0; together they are `size` bytes. Returns the
/// map and its size.
pub fn new(stream: &mut Stream<'_>, size: u64, budget: &Budget) -> Result<(Map, u64), Reason> {
    let mut block = [0; BLOCK];
    let (mut at, mut used) = (BLOCK, 0);
    // The number of pieces, then two numbers per piece, each followed by a newline.
    let mut numbers: Vec<u64> = Vec::new();
    let mut digits: Vec<u8> = Vec::new();
    loop {
        let wanted = numbers
            .first()
            .map(|count| count.saturating_mul(2).saturating_add(1));
        if wanted == Some(numbers.len() as u64) {
            break;
        }
        if at == BLOCK {
            if used / BLOCK as u64 >= size.div_ceil(BLOCK as u64) {
                return Err(MALFORMED.into());
            }
            stream.read_exact(&mut block)?;
            (at, used) = (0, used + BLOCK as u64);
        }
        match block[at] {
            b'\n' => {
                let number = decimal(&digits).ok_or(MALFORMED)?;
                if numbers.is_empty() {
                    budget.take_pieces(number)?;
                }
                numbers.push(number);
                digits.clear();
            }
            _ if digits.len() > 20 => return Err(MALFORMED.into()),
            digit => digits.push(digit),
        }
        at += 1;
    }
    let pairs = numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1]));
    Ok((pairs.collect(), used))
}

/// Returns the pieces of `map` in a file of `size` bytes: contiguous bytes from `offset`, `stored`
/// in total.
pub fn pieces(map: &Map, offset: u64, stored: u64, size: u64) -> Result<Vec<Piece>, Reason> {
    let mut pieces = Vec::new();
    let (mut end, mut total) = (0, 0u64);
    for &(at, length) in map {
        let wrong = || format!("{MALFORMED} at {at}");
        let next = at.checked_add(length).ok_or_else(wrong)?;
        if at < end || next > size {
            return Err(wrong().into());
        }
        if length > 0 {
            pieces.push(Piece {
                at,
                length,
                offset: offset + total,
            });
        }
        end = next;
        total += length;
    }
    if total != stored {
        let why = format!("has {total} bytes, the archive {stored}");
        return Err(format!("the map of a sparse file {why}").into());
    }
    Ok(pieces)
}

/// Parses a decimal number.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
