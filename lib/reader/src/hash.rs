// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The hash that orders a directory: XXH32 with seed 0.

/// Returns the hash of a name.
#[inline]
pub fn name_hash(name: &[u8]) -> u32 {
    xxhash_rust::xxh32::xxh32(name, 0)
}
