// SPDX-License-Identifier: GPL-2.0-only

//! The info block that gives an NVDIMM struct pages, without which it is not capable of DAX.
//!
//! A namespace without labels has them if there is a block of the form `struct nd_pfn_sb`
//! (drivers/nvdimm/pfn.h) 4 KiB after its start. `ndctl create-namespace` writes the same from inside a guest,
//! which cannot write here.

/// Offset of the info block.
pub const OFFSET: u64 = 4096;

/// Offset of the data after the info block; mappings of this size are possible.
pub const DATA: u64 = 2 << 20;

/// Bytes of the info block.
const SIZE: usize = 4096;

/// Size of a page in the guest.
const PAGE: u32 = 4096;

/// Size of `struct page`.
const STRUCT_PAGE: u16 = 64;

/// The struct pages are in the guest's ordinary memory (`PFN_MODE_RAM`).
const MODE_RAM: u32 = 1;

/// Return the info block of an NVDIMM of `size` bytes, whose data starts at [`DATA`].
pub fn info_block(size: u64, uuid: &[u8; 16]) -> Vec<u8> {
    let mut block = Vec::with_capacity(SIZE);
    block.extend(b"NVDIMM_PFN_INFO\0");
    block.extend(uuid);
    // UUID of the parent: none without labels. Flags.
    block.extend([0; 16 + 4]);
    // Version 1.4.
    block.extend(1u16.to_le_bytes());
    block.extend(4u16.to_le_bytes());
    block.extend(DATA.to_le_bytes());
    block.extend(((size - DATA) / u64::from(PAGE)).to_le_bytes());
    block.extend(MODE_RAM.to_le_bytes());
    // Padding at the start and at the end.
    block.extend([0; 4 + 4]);
    block.extend((DATA as u32).to_le_bytes());
    block.extend(PAGE.to_le_bytes());
    block.extend(STRUCT_PAGE.to_le_bytes());
    block.resize(SIZE - 8, 0);
    let sum = fletcher64(&block);
    block.extend(sum.to_le_bytes());
    block
}

/// Return the checksum that libnvdimm uses: Fletcher's, over words of 32 bits. The checksum itself counts as zero.
fn fletcher64(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(4).chain([&[0; 4][..]; 2]);
    let (low, high) = words.fold((0u32, 0u32), |(low, high), word| {
        let word = word
            .iter()
            .rev()
            .fold(0, |word, &byte| (word << 8) | u32::from(byte));
        let low = low.wrapping_add(word);
        (low, high.wrapping_add(low))
    });
    (u64::from(high) << 32) | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksum of the block that qemu/pfn-header writes for this size, whose UUID is this text.
    #[test]
    fn as_the_kernel_expects() {
        let block = info_block(10 << 20, b"daxfs qemu/vm\0\0\0");
        assert_eq!(block.len(), SIZE);
        assert_eq!(block[SIZE - 8..], EXPECTED.to_le_bytes());
        assert_eq!(block[64..72], 2048u64.to_le_bytes()[..]);
    }

    const EXPECTED: u64 = 0x7a4a_fa06_25af_4822;
}
