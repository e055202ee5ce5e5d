// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The hash that orders a directory: XXH32 with seed 0.
//!
//! This follows the xxHash specification (algorithm XXH32), as `lib/xxhash.c` of the kernel does.

const PRIME1: u32 = 0x9e37_79b1;
const PRIME2: u32 = 0x85eb_ca77;
const PRIME3: u32 = 0xc2b2_ae3d;
const PRIME4: u32 = 0x27d4_eb2f;
const PRIME5: u32 = 0x1656_67b1;

/// Return the hash of a name.
#[inline]
pub fn name_hash(name: &[u8]) -> u32 {
    let mut stripes = name.chunks_exact(16);
    let mut hash = if name.len() < 16 {
        PRIME5
    } else {
        let mut lanes = [
            PRIME1.wrapping_add(PRIME2),
            PRIME2,
            0,
            0u32.wrapping_sub(PRIME1),
        ];
        for stripe in &mut stripes {
            for (lane, bytes) in lanes.iter_mut().zip(stripe.chunks_exact(4)) {
                *lane = lane
                    .wrapping_add(word(bytes).wrapping_mul(PRIME2))
                    .rotate_left(13)
                    .wrapping_mul(PRIME1);
            }
        }
        lanes[0]
            .rotate_left(1)
            .wrapping_add(lanes[1].rotate_left(7))
            .wrapping_add(lanes[2].rotate_left(12))
            .wrapping_add(lanes[3].rotate_left(18))
    };
    hash = hash.wrapping_add(name.len() as u32);

    let mut words = stripes.remainder().chunks_exact(4);
    for bytes in &mut words {
        hash = hash
            .wrapping_add(word(bytes).wrapping_mul(PRIME3))
            .rotate_left(17)
            .wrapping_mul(PRIME4);
    }
    for &byte in words.remainder() {
        hash = hash
            .wrapping_add(u32::from(byte).wrapping_mul(PRIME5))
            .rotate_left(11)
            .wrapping_mul(PRIME1);
    }

    hash = (hash ^ (hash >> 15)).wrapping_mul(PRIME2);
    hash = (hash ^ (hash >> 13)).wrapping_mul(PRIME3);
    hash ^ (hash >> 16)
}

/// Return four bytes as a little-endian word.
#[inline]
fn word(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, &byte| (word << 8) | u32::from(byte))
}
