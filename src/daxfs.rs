// SPDX-License-Identifier: GPL-2.0

//! daxfs: a read-only filesystem for memory.
//!
//! One contiguous region of byte-addressable memory holds an image; inodes, directory entries and file
//! data are served by loads from it. The rooms, in the direction in which data flows:
//!
//! * [`memory`]: where the bytes live, and the only way to read them
//! * [`image`]: the format and its reader; the user-space tools compile the same files
//! * [`source`], [`options`], [`super_block`], [`inode`], [`dir`], [`file`], [`xattr`], [`export`], [`usage`]: the filesystem, in
//!   safe Rust
//! * [`vfs`]: the kernel's interface to filesystems behind a safe trait
//! * [`bindings`]: the C side, generated

use kernel::{debugfs::Dir, prelude::*};

mod bindings;
mod dir;
mod export;
mod file;
// The tools make and check what the module only reads.
#[allow(dead_code, unreachable_pub, unused_imports)]
mod image;
mod inode;
mod memory;
mod options;
mod source;
mod super_block;
mod usage;
mod vfs;
mod xattr;

module! {
    type: Module,
    name: "daxfs",
    authors: ["The daxfs developers"],
    description: "Read-only filesystem for memory",
    license: "GPL",
    alias: ["fs-daxfs"],
}

#[pin_data]
struct Module {
    // Dropped before what its mounts need.
    #[pin]
    registration: vfs::Registration<super_block::DaxFs>,
    _memory: memory::Memory,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _memory: memory::Memory::new(module)?,
            registration <- vfs::Registration::new(module, Dir::new(c"daxfs")),
        })
    }
}
