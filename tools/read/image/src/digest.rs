// SPDX-License-Identifier: GPL-2.0-only

//! The SHA-256 of an image, compared with the one in its superblock.

use crate::error::{Error, Result};
use crate::source::{Opened, Watched};
use daxfs_check::digest::{digest, hex};
use daxfs_command::bar::Bar;
use daxfs_command::signals::Interrupt;
use daxfs_reader::Image;

/// Return the SHA-256 of `image`, as the mount option `digest=` takes it.
pub fn digest_of(image: &Opened) -> Result<[u8; 32]> {
    digest_until(image, &Interrupt::none())
}

/// Do what [`digest_of`] does until a signal arrives.
pub fn digest_until(image: &Opened, interrupt: &Interrupt) -> Result<[u8; 32]> {
    let size = image.superblock.total_size;
    let bar = Bar::of("reading", size);
    let watched = Watched {
        source: &image.source,
        interrupt,
    };
    let sum = digest(&Image::new(&watched, &image.superblock), &bar);
    drop(bar);
    interrupt.check()?;
    let sum = sum.map_err(|error| Error::image(&image.name, b"", error))?;
    if sum != image.superblock.sha256 {
        return Err(Error::Digest {
            name: image.name.clone(),
            found: hex(&sum),
            stored: hex(&image.superblock.sha256),
        });
    }
    Ok(sum)
}
