// SPDX-License-Identifier: GPL-2.0

//! The image file.

use crate::text::{cause, remedy, shown_path};
use crate::Result;
use daxfs::bar::Bar;
use daxfs::device::Device;
use daxfs::image::Superblock;
use daxfs::memory::FileMemory;
use daxfs::{Overwrite, Progress};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes that are copied together.
const PIECE: usize = 1 << 20;

/// An image file with a valid superblock.
pub struct ImageFile {
    /// Its name.
    pub path: PathBuf,
    file: File,
    /// Bytes of the image, a multiple of the page size.
    pub size: u64,
}

impl ImageFile {
    /// Opens the image file `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let name = shown_path(path);
        let fail = |what: &str, error| format!("{name}: cannot {what}: {}", cause(&error));
        let file = File::open(path).map_err(|error| fail("open", error))?;
        let memory = FileMemory::new(&file).map_err(|error| fail("tell its size", error))?;
        let superblock = Superblock::load(&memory)
            .map_err(|error| format!("{name}: {error}{}", remedy(error.problem)))?;
        Ok(ImageFile {
            path: path.into(),
            size: superblock.total_size,
            file,
        })
    }

    /// Write the image to the block or DAX device `path`, and compare what is there then.
    ///
    /// What the device holds is overwritten only if that is an image or zeros, unless `force`.
    pub fn write(&self, path: &Path, force: bool) -> Result<()> {
        let bar = Bar::of("copying", self.size);
        let mut overwrite = Overwrite::new(force);
        overwrite.input(&self.path);
        Device::open(path)
            .and_then(|device| {
                device.check_free(&overwrite)?;
                device.write(&self.file, self.size, &bar)
            })
            .map_err(|error| error.to_string())
    }

    /// Hands the image to `put`, piece by piece with the offset of each; pieces of zeros are left out if
    /// `sparse`. Shows how far it is on a terminal.
    pub fn copy(
        &self,
        sparse: bool,
        mut put: impl FnMut(u64, &[u8]) -> std::io::Result<()>,
    ) -> Result<()> {
        let bar = Bar::of("copying", self.size);
        let mut reader = (&self.file).take(self.size);
        let mut piece = vec![0; PIECE];
        let mut offset = 0;
        while offset < self.size {
            let length = piece.len().min((self.size - offset) as usize);
            let piece = &mut piece[..length];
            reader.read_exact(piece).map_err(|error| {
                let name = shown_path(&self.path);
                format!("{name}: cannot read: {}", cause(&error))
            })?;
            if !sparse || piece.iter().any(|&byte| byte != 0) {
                put(offset, piece).map_err(|error| {
                    let why = cause(&error);
                    format!("cannot write byte {offset} of the copy: {why}")
                })?;
            }
            offset += length as u64;
            bar.advance(length as u64);
        }
        Ok(())
    }
}
