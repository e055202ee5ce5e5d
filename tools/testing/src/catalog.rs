// SPDX-License-Identifier: GPL-2.0-only

//! Tables of stores made from arbitrary bytes.

use daxfs_reader::catalog::{
    CatalogEntry, CatalogHead, Table, CATALOG_ALIGN, CATALOG_COPIES, CATALOG_MAGIC, CATALOG_SIZE,
    CATALOG_VERSION,
};

const ENTRIES: usize = 63;

const COPY: usize = size_of::<CatalogHead>() + ENTRIES * size_of::<CatalogEntry>();

/// Reads `bytes` as the copies of a table, one after the other. The first byte selects which of
/// them get a correct head and checksum.
///
/// # Panics
///
/// If the reader has a bug: if it accepts images that overlap or exceed the memory.
pub fn read(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else {
        return;
    };
    let mut memory = vec![0_u8; 8 << 20];
    for (index, start) in CATALOG_COPIES.iter().enumerate() {
        let copy = &mut memory[*start as usize..][..COPY];
        let source = rest.get(index * COPY..).unwrap_or(&[]);
        let length = source.len().min(COPY);
        copy[..length].copy_from_slice(&source[..length]);
        if (first >> index) & 1 != 0 {
            continue;
        }
        copy[..8].copy_from_slice(&CATALOG_MAGIC);
        copy[8..12].copy_from_slice(&CATALOG_VERSION.to_le_bytes());
        let count = usize::from(copy[12]) % (ENTRIES + 1);
        copy[12..16].copy_from_slice(&(count as u32).to_le_bytes());
        if (first >> index) & 4 == 0 {
            copy[24..32].copy_from_slice(&(8_u64 << 20).to_le_bytes());
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(&copy[..124]), &copy[128..][..count * 128]);
        copy[124..128].copy_from_slice(&crc.to_le_bytes());
    }
    if let Ok(Some(table)) = Table::load(&memory.as_slice()) {
        assert!(table.size <= memory.len() as u64);
        check_rules(&table);
    }
}

/// Checks that a valid table follows the rules.
pub fn check_rules(table: &Table) {
    let mut images: Vec<_> = table.images.iter().collect();
    images.sort_by_key(|image| image.range.start);
    let mut end = CATALOG_SIZE;
    for image in &images {
        let range = &image.range;
        assert!(range.start >= end && range.end > range.start);
        assert_eq!((range.start | range.end) % CATALOG_ALIGN, 0);
        assert!(!image.name.is_empty() && image.name.is_ascii());
        assert!(!image.active || !image.removed);
        end = range.end;
    }
    assert!(end <= table.size);
    assert!(images.iter().filter(|image| image.active).count() <= 1);
    let live = images.iter().filter(|image| !image.removed);
    let mut names: Vec<_> = live.map(|image| &image.name).collect();
    names.sort();
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
}
