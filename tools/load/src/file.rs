// SPDX-License-Identifier: GPL-2.0-only

//! Image files.

use daxfs_files::bar::Bar;
use daxfs_files::device::Device;
use daxfs_files::digest::{combine, hex};
use daxfs_files::region::Region;
use daxfs_files::Progress;
use daxfs_image::error::{Error, Result};
use daxfs_image::reader::Reader;
use daxfs_image::source::{name_of, open_input, superblock, NO_ORDER};
use daxfs_image::text::shown_path;
use daxfs_reader::layout::{Pack, DIGEST_PIECE};
use daxfs_reader::signature::Section;
use daxfs_reader::{Image, Memory, Superblock};
use rustix::fs::sendfile;
use sha2::{Digest, Sha256};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use zerocopy::IntoBytes;

/// Bytes to copy at a time, a part of [`DIGEST_PIECE`].
const PIECE: usize = 1 << 20;

const SUPERBLOCK: usize = 4096;

/// Returns the error for writing to `target`, or to ` part` of it.
pub(crate) fn cannot_write(target: &str, part: &str, error: io::Error) -> Error {
    Error::system(target, format!("cannot write{part}"), "", error)
}

/// Returns the size of `image` including its table of sums and its signature, a multiple of the
/// block size.
fn stored_size<M: Memory>(image: &Image<'_, M>) -> u64 {
    let superblock = image.superblock();
    let section = Section::find(image.memory(), superblock).ok().flatten();
    let end = section.map_or(0, |section| section.table.end());
    let end = end.next_multiple_of(superblock.block_size.into());
    superblock.stored_size().max(end)
}

/// An image file with a valid superblock.
pub struct ImageFile {
    /// Its name.
    pub path: PathBuf,
    file: File,
    /// Size of the image including the sums of its pieces and its signature, a multiple of the page
    /// size.
    pub size: u64,
    /// Its superblock.
    pub superblock: Superblock,
    /// The block of the superblock, as stored.
    block: [u8; SUPERBLOCK],
    /// The modification time when it was opened.
    modified: Option<SystemTime>,
}

impl ImageFile {
    /// Opens the image file `path`; `-` is standard input.
    pub fn open(path: &Path) -> Result<Self> {
        let name = name_of(path);
        let file = open_input(path)?;
        let status = file.metadata();
        let status = status.map_err(|error| Error::system(&name, "cannot examine", "", error))?;
        if status.file_type().is_fifo() {
            return Err(Error::refused(name, NO_ORDER));
        }
        let memory = Region::of(&file)
            .map_err(|error| Error::system(&name, "cannot get its size", "", error))?;
        let superblock = superblock(&memory, &name)?;
        let mut block = [0; SUPERBLOCK];
        let stored = Memory::read(&memory, 0, &mut block);
        stored.map_err(|error| Error::image(&name, b"", error))?;
        Ok(ImageFile {
            path: path.into(),
            size: stored_size(&Image::new(&memory, &superblock)),
            superblock,
            block,
            modified: status.modified().ok(),
            file,
        })
    }

    /// Returns the table of its packs.
    pub fn packs(&self) -> Result<Vec<Pack>> {
        let name = name_of(&self.path);
        let memory = Region::of(&self.file)
            .map_err(|error| Error::system(&name, "cannot get its size", "", error))?;
        Reader::new(Image::new(&memory, &self.superblock), &name).packs()
    }

    /// Returns the block device, unless it is a file.
    pub(crate) fn device(&self) -> Option<BorrowedFd<'_>> {
        let is_device = |status: Metadata| status.file_type().is_block_device();
        let is_device = self.file.metadata().is_ok_and(is_device);
        is_device.then(|| self.file.as_fd())
    }

    /// Writes the image to `device`, and verifies it.
    pub fn write_to(&self, device: &Device, progress: &dyn Progress) -> Result<()> {
        Ok(device.write(&self.file, self.size, progress)?)
    }

    /// Copies the image to the empty file `target`, within the kernel.
    pub(crate) fn send(&self, target: &File) -> Result<()> {
        let bar = Bar::of("copying", self.size);
        let mut offset = 0;
        while offset < self.size {
            let length = PIECE.min((self.size - offset) as usize);
            let sent = sendfile(target, &self.file, Some(&mut offset), length);
            let fail = |error| {
                let operation = format!("cannot copy byte {offset}");
                Error::system(name_of(&self.path), operation, "", error)
            };
            match sent.map_err(fail)? {
                0 => return Err(self.changed()),
                sent => bar.advance(sent as u64),
            }
        }
        self.check_same()
    }

    /// Passes the image to `put` in pieces, each with its offset, and shows a progress bar.
    pub fn copy(&self, put: impl FnMut(u64, &[u8]) -> io::Result<()>) -> Result<()> {
        self.pass("", |_, _| (), put)
    }

    /// Like [`ImageFile::copy`], but to `target`, and returns the SHA-256 of the copy.
    ///
    /// Fails if the SHA-256 differs from the superblock's.
    pub fn copy_checked(
        &self,
        target: &str,
        put: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> Result<()> {
        let mut same = false;
        let (mut pieces, mut hash) = (Vec::new(), Sha256::new());
        let see = |offset: u64, bytes: &[u8]| {
            let end = self.superblock.total_size.min(offset + bytes.len() as u64);
            // The image does not include the pieces' sums and the signature.
            let mut bytes = &bytes[..end.saturating_sub(offset) as usize];
            if bytes.is_empty() {
                return;
            }
            if offset == 0 {
                same = bytes.starts_with(&self.block);
                let record = self.superblock.record();
                hash.update(record.as_bytes());
                bytes = &bytes[record.as_bytes().len()..];
            }
            hash.update(bytes);
            if end % DIGEST_PIECE == 0 || end == self.superblock.total_size {
                pieces.push(hash.finalize_reset().into());
            }
        };
        self.pass(target, see, put)?;
        if !same {
            return Err(self.changed());
        }
        let name = shown_path(&self.path);
        let found = combine(pieces);
        if found != self.superblock.sha256 {
            let (found, stored) = (hex(&found), hex(&self.superblock.sha256));
            return Err(Error::Digest {
                name,
                found,
                stored,
            });
        }
        Ok(())
    }

    /// Passes the image to `see` and to `put`, which writes it to `target`.
    fn pass(
        &self,
        target: &str,
        mut see: impl FnMut(u64, &[u8]),
        mut put: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> Result<()> {
        let bar = Bar::of("copying", self.size);
        let mut piece = vec![0; PIECE];
        let mut offset = 0;
        while offset < self.size {
            let length = piece.len().min((self.size - offset) as usize);
            let piece = &mut piece[..length];
            let read = self.file.read_exact_at(piece, offset);
            read.map_err(|error| Error::system(name_of(&self.path), "cannot read", "", error))?;
            see(offset, piece);
            put(offset, piece).map_err(|error| {
                let part = format!(" byte {offset} of the copy");
                cannot_write(target, &part, error)
            })?;
            offset += length as u64;
            bar.advance(length as u64);
        }
        self.check_same()
    }

    fn check_same(&self) -> Result<()> {
        let mut block = [0; SUPERBLOCK];
        let read = self.file.read_exact_at(&mut block, 0);
        let now = self.file.metadata().and_then(|status| status.modified());
        if read.is_err() || block != self.block || now.ok() != self.modified {
            return Err(self.changed());
        }
        Ok(())
    }

    fn changed(&self) -> Error {
        let why = "another program changed it while it was copied; try again";
        Error::refused(shown_path(&self.path), why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that is replacing the image may have written only the superblock so far.
    #[test]
    fn modified() {
        let small = include_bytes!("../../../lib/reader/tests/small.daxfs");
        let copy = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&copy, small).unwrap();
        copy.as_file().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let image = ImageFile::open(copy.path()).unwrap();
        image.copy(|_, _| Ok(())).unwrap();
        let put = |_, _: &[u8]| copy.as_file().write_all_at(&[0], image.size);
        let error = image.copy(put).unwrap_err().to_string();
        assert!(error.contains("another program changed it"), "{error}");
    }
}
