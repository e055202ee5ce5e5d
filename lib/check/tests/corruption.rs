// SPDX-License-Identifier: GPL-2.0-only

//! Whatever bytes an image contains, now or a moment later, the reader and the checker terminate,
//! do not panic, and use no more memory than the size of the image.

use daxfs_check::check;
use daxfs_files::memory::Storage;
use daxfs_reader::{self as image, Problem};
use daxfs_testing::builder::{seal, Builder, DIRECTORY, FIFO};
use daxfs_testing::memory::Hooked;
use daxfs_testing::overlay;
use daxfs_testing::reader::read_everything;
use daxfs_testing::specimen::specimen;
use proptest::collection::vec;
use proptest::prelude::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::LazyLock;

/// Counts the current thread's allocations.
struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    NOW.set(NOW.get() + bytes);
    PEAK.set(PEAK.get().max(NOW.get()));
}

// SAFETY: every call goes unchanged to the system's allocator; counting allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs reader and checker, and compares their memory use with the size of the image.
fn survive<S: Storage>(memory: &S) {
    NOW.set(0);
    PEAK.set(0);
    let mut findings = 0;
    check(memory, &mut |_| {
        findings += 1;
        if findings < 100_000 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    let limit = 2 * memory.size() as isize + (1 << 20);
    assert!(PEAK.get() < limit, "{} bytes allocated", PEAK.get());
    read_everything(memory);
}

static SPECIMEN: LazyLock<Vec<u8>> = LazyLock::new(specimen);

/// A directory with many names below another, so that a damaged look-up can go far astray.
static WIDE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut builder = Builder::default();
    let root = builder.inode(DIRECTORY, 0, 0);
    let inner = builder.inode(DIRECTORY, 0, 0);
    let fifo = builder.inode(FIFO, 0, 0);
    builder.inodes[2].nlink = 300.into();
    builder.directory(root, root, vec![(b"inner".to_vec(), inner)]);
    let names = (0..300)
        .map(|n| (format!("name{n}").into_bytes(), fifo))
        .collect();
    builder.directory(inner, root, names);
    builder.image()
});

/// Occasionally flips a bit of what was read, never the same way twice, or fails.
fn flicker(state: &Cell<u64>, offset: u64, into: &mut [u8]) -> image::Result<()> {
    let random = state.get().wrapping_mul(6_364_136_223_846_793_005);
    state.set(random.wrapping_add(1));
    let random = (state.get() >> 32) as usize;
    if offset >= 256 && !into.is_empty() {
        match random % 32 {
            0..=3 => {
                let at = (random >> 8) % into.len();
                into[at] ^= 1 << ((random >> 5) & 7);
            }
            4 => return Err(image::Error::new(Problem::Unreadable, offset, 0)),
            _ => (),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn damaged_images(seeds in vec(any::<u32>(), 1..12)) {
        survive(&overlay::damaged(&SPECIMEN, &seeds).as_slice());
    }

    #[test]
    fn flickering_memory(wide in any::<bool>(), seed in any::<u64>()) {
        let image = if wide { &WIDE } else { &SPECIMEN };
        let state = Cell::new(seed);
        survive(&Hooked(image, |offset, into: &mut [u8]| flicker(&state, offset, into)));
    }

    #[test]
    fn noise(bytes in vec(any::<u8>(), 0..10_000), magic in any::<bool>()) {
        let mut bytes = bytes;
        if magic && bytes.len() > 4096 {
            bytes[..136].copy_from_slice(&SPECIMEN[..136]);
            let size = bytes.len() as u64 / 4096 * 4096;
            bytes[32..40].copy_from_slice(&size.to_le_bytes());
            seal(&mut bytes);
        }
        survive(&bytes.as_slice());
    }
}
