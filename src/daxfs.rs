// SPDX-License-Identifier: GPL-2.0-only

//! daxfs: a read-only filesystem for memory.
//!
//! An image fills one contiguous region of byte-addressable memory. We read inodes, directory
//! entries and file data from it by loads. The modules; each uses only modules after it:
//!
//! * [`super_block`], [`dir`], [`file`], [`xattr`]: the filesystem, which implements the traits of
//!   [`linux::fs`]
//! * [`inode`]: inodes of an image
//! * [`lazy`]: images that are verified while they are used
//! * [`packs`]: memory in which several images share their files' data
//! * [`mount`]: a mounted image
//! * [`verify`], [`signature`]: checking an image against a trusted SHA-256, and its signature
//! * [`source`], [`options`]: opening the memory, mount options
//! * [`usage`], [`backing`]: counters, the memory of an image or a pack
//! * [`memory`]: memory that can hold an image, and the only way to read it
//! * [`prelude`]: what most files above `linux` use
//! * [`image`]: the format and its reader, which the user-space tools compile too
//! * [`linux`]: the kernel behind safe types
//! * [`bindings`]: the C interface, generated
//!
//! Kconfig can omit features. [`options`] refuses mount options that need an omitted one.

#![deny(unsafe_code)]

use crate::prelude::*;

mod backing;
#[allow(unsafe_code)]
mod bindings;
mod dir;
mod file;
// The tools use everything, the module only some of it.
#[allow(dead_code, unreachable_pub, unused_imports)]
mod image;
mod inode;
mod lazy;
#[allow(unsafe_code)]
mod linux;
mod memory;
mod mount;
mod options;
mod packs;
mod prelude;
#[cfg_attr(not(CONFIG_DAXFS_FS_SIGNATURES), path = "without/signature.rs")]
mod signature;
mod source;
mod super_block;
mod usage;
mod verify;
mod xattr;

module! {
    type: Module,
    name: "daxfs",
    authors: ["The daxfs developers"],
    description: "Read-only filesystem for memory",
    license: "GPL",
    alias: ["fs-daxfs"],
    params: {
        require_signatures: u8 {
            default: 0,
            description: "If not 0, mount only images with a signature that the kernel trusts",
        },
    },
}

#[pin_data]
struct Module {
    #[pin]
    registration: linux::fs::Registration<mount::DaxFs>,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        if super_block::signatures_required() {
            // Otherwise it could be loaded again without the parameter.
            linux::keep_loaded();
        }
        try_pin_init!(Self {
            registration <- linux::fs::Registration::new(module, mount::Shared {
                directory: usage::Directory::in_fs(c"daxfs")?,
                _memory: memory::Resources::new()?,
                keyring: signature::Keyring::new(c".daxfs")?,
                lanes: verify::Lanes::new()?,
            }),
        })
    }
}
