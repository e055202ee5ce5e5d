// SPDX-License-Identifier: GPL-2.0-only

//! Whatever the bytes of an image say, now or a moment later, the reader and the checker come to an
//! end, do not panic, and take no more memory than the image is large.

use daxfs_check::check;
use daxfs_check::memory::Storage;
use daxfs_reader::{self as image, Memory, Problem};
use daxfs_testing::builder::{seal, specimen, superblock, Builder, DIRECTORY, FIFO};
use daxfs_testing::reader::read_everything;
use proptest::collection::vec;
use proptest::prelude::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::LazyLock;

/// Counts what the current thread has allocated.
struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    NOW.set(NOW.get() + bytes);
    PEAK.set(PEAK.get().max(NOW.get()));
}

// SAFETY: every call goes to the system's allocator as it is; counting allocates nothing.
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

/// Run reader and checker, and holds their memory against the size of the image.
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

/// One damage.
#[derive(Clone, Debug)]
enum Damage {
    /// A bit anywhere in the metadata.
    Bit(usize, u8),
    /// A number at a multiple of four bytes anywhere in the metadata.
    Word(usize, u32),
    /// A 64-bit number in the superblock.
    Superblock(usize, u64),
    /// A record of 16 bytes copied over another.
    Record(usize, usize),
    /// The image ends here.
    Truncate(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let number = prop_oneof![
        0..16u32,
        any::<u32>(),
        (0..32u32).prop_map(|bit| 1 << bit),
        (0..32u32).prop_map(|bit| u32::MAX >> bit),
    ];
    let wide = prop_oneof![
        0..64u64,
        any::<u64>(),
        (0..64u32).prop_map(|bit| 1 << bit),
        (0..64u32).prop_map(|bit| u64::MAX >> bit),
        (0..600u64).prop_map(|block| block * 4096),
    ];
    prop_oneof![
        4 => (any::<usize>(), 0..8u8).prop_map(|(at, bit)| Damage::Bit(at, bit)),
        6 => (any::<usize>(), number).prop_map(|(at, word)| Damage::Word(at, word)),
        2 => (0..32usize, wide).prop_map(|(at, word)| Damage::Superblock(at, word)),
        4 => (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Damage::Record(from, to)),
        1 => any::<usize>().prop_map(Damage::Truncate),
    ]
}

fn apply(image: &mut Vec<u8>, damage: &Damage, metadata: usize) {
    let length = metadata.min(image.len()).saturating_sub(16) / 16 * 16;
    if length == 0 {
        return;
    }
    match *damage {
        Damage::Bit(at, bit) => image[at % length] ^= 1 << bit,
        Damage::Word(at, word) => {
            let at = at % length / 4 * 4;
            image[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        Damage::Superblock(at, word) => {
            let at = at * 8 % length;
            image[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        Damage::Record(from, to) => {
            let from = from % length / 16 * 16;
            let record: Vec<u8> = image[from..from + 16].into();
            let to = to % length / 16 * 16;
            image[to..to + 16].copy_from_slice(&record);
        }
        Damage::Truncate(at) => image.truncate(at % (image.len() + 1)),
    }
}

/// A directory of many names below another, so that a damaged look-up has room to go astray.
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

/// Memory in which a bit is wrong now and then, never the same twice.
struct Flickering<'a> {
    bytes: &'a [u8],
    state: Cell<u64>,
}

impl Memory for Flickering<'_> {
    fn size(&self) -> u64 {
        self.bytes.size()
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> image::Result<()> {
        self.bytes.read(offset, into)?;
        let random = self
            .state
            .get()
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.state.set(random);
        let random = (random >> 32) as usize;
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

    daxfs_reader::hashes!();
}

impl Storage for Flickering<'_> {
    fn hole(&self, offset: u64) -> image::Result<(bool, u64)> {
        self.bytes.hole(offset)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn damaged_images(wide in any::<bool>(), damages in vec(damage(), 1..12), repair in 0..4) {
        let mut image = if wide { WIDE.clone() } else { specimen() };
        let metadata = superblock(&image).data.offset.get() as usize;
        for damage in &damages {
            apply(&mut image, damage, metadata);
        }
        if repair > 0 {
            seal(&mut image);
        }
        survive(&image.as_slice());
    }

    #[test]
    fn flickering_memory(wide in any::<bool>(), seed in any::<u64>()) {
        let image = if wide { WIDE.clone() } else { specimen() };
        survive(&Flickering { bytes: &image, state: Cell::new(seed) });
    }

    #[test]
    fn noise(bytes in vec(any::<u8>(), 0..10_000), magic in any::<bool>()) {
        let mut bytes = bytes;
        if magic && bytes.len() > 4096 {
            let head = specimen()[..136].to_vec();
            bytes[..136].copy_from_slice(&head);
            let size = bytes.len() as u64 / 4096 * 4096;
            bytes[32..40].copy_from_slice(&size.to_le_bytes());
            seal(&mut bytes);
        }
        survive(&bytes.as_slice());
    }
}
