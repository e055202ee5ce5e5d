// SPDX-License-Identifier: GPL-2.0-only

//! daxfs: a read-only filesystem for memory.
//!
//! One contiguous region of byte-addressable memory holds an image. Inodes, directory entries and
//! file data are read from it by loads. The modules, each of which uses only those after it:
//!
//! * [`super_block`], [`dir`], [`file`], [`xattr`], [`export`]: the filesystem, one file for each
//!   trait of [`linux::fs`] that it implements
//! * [`inode`]: inodes of an image
//! * [`mount`]: a mounted image
//! * [`signature`]: who signed an image
//! * [`verify`]: comparing an image with a trusted SHA-256
//! * [`source`], [`options`], [`usage`]: opening the memory, mount options, counters
//! * [`memory`]: memory that can hold an image, and the only way to read it
//! * [`image`]: the format and its reader, which the user-space tools compile too
//! * [`linux`]: the kernel behind safe types
//! * [`bindings`]: the C interface, generated

#![deny(unsafe_code)]

use kernel::{prelude::*, sync::Arc};

#[allow(unsafe_code)]
mod bindings;
mod dir;
mod export;
mod file;
// The tools use all of it, the module only a part.
#[allow(dead_code, unreachable_pub, unused_imports)]
mod image;
mod inode;
#[allow(unsafe_code)]
mod linux;
mod memory;
mod mount;
mod options;
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
                directory: linux::sysfs::Directory::in_fs(c"daxfs")?,
                memory: memory::Resources::new()?,
                keyring: Arc::new(linux::Keyring::new(signature::KEYRING)?, GFP_KERNEL)?,
            }),
        })
    }
}
