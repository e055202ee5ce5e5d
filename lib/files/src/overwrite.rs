// SPDX-License-Identifier: GPL-2.0-only

//! Protects files and devices from being overwritten by mistake.

use crate::error::{Error, Result};
use crate::memory::data_or_hole;
use daxfs_reader::layout::{CATALOG_MAGIC, MAGIC};
use daxfs_reader::signature::Section;
use daxfs_reader::{Memory, Superblock};
use rustix::fs::{fstat, stat, FileType, Stat};
use std::fs::{File, Metadata};
use std::io::{self, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

/// Bytes at the start of a device, which are zero if the device is free.
const START: u64 = 2 << 20;

/// Bytes at the end of a device, which are zero if the device is free. Backup partition tables and
/// RAID metadata are there.
const END: u64 = 1 << 20;

const PIECE: usize = 256 << 10;

/// Magic numbers that identify the content of a file or device: offset, bytes, name. The first
/// match wins.
const SIGNATURES: &[(usize, &[u8], &str)] = &[
    (0, &CATALOG_MAGIC, "a store of images"),
    (257, b"ustar", "a tar archive"),
    (0, b"PK\x03\x04", "a zip file"),
    (0, b"\x7fELF", "a program"),
    (0, b"070701", "a cpio archive"),
    (0, b"!<arch>\n", "an ar archive"),
    (0, b"QFI\xfb", "a qcow2 disk image"),
    (0, b"KDMV", "a VMDK disk image"),
    (0, b"vhdxfile", "a VHDX disk image"),
    (64, b"\x7f\x10\xda\xbe", "a VDI disk image"),
    (0, b"XFSB", "an XFS file system"),
    (0, b"hsqs", "a SquashFS image"),
    (0, b"\x45\x3d\xcd\x28", "a cramfs image"),
    (0, b"LUKS\xba\xbe", "a LUKS volume"),
    (512, b"LABELONE", "an LVM volume"),
    (512, b"EFI PART", "a GPT partition table"),
    (4096, b"EFI PART", "a GPT partition table"),
    (1080, b"\x53\xef", "an ext2, ext3 or ext4 file system"),
    (1024, b"\xe2\xe1\xf5\xe0", "an EROFS image"),
    (1024, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    (4086, b"SWAPSPACE2", "swap space"),
    (4096, b"NVDIMM_", "an NVDIMM namespace"),
    (4096, b"\xfc\x4e\x2b\xa9", "a RAID member"),
    (32769, b"CD001", "an ISO 9660 file system"),
    (65600, b"_BHRfS_M", "a Btrfs file system"),
    (3, b"NTFS    ", "an NTFS file system"),
    (3, b"EXFAT   ", "an exFAT file system"),
    (54, b"FAT1", "a FAT file system"),
    (82, b"FAT32", "a FAT file system"),
    (510, b"\x55\xaa", "a partition table"),
];

/// Compressed files: magic number, program that prints the content with `-dc`, and name.
const COMPRESSED: &[(&[u8], &str, &str)] = &[
    (b"\x1f\x8b", "gzip", "a gzip file"),
    (b"\x28\xb5\x2f\xfd", "zstd", "a zstd file"),
    (b"\xfd7zXZ\0", "xz", "an xz file"),
    (b"BZh", "bzip2", "a bzip2 file"),
    (b"\x04\x22\x4d\x18", "lz4", "an lz4 file"),
    (b"LZIP", "lzip", "an lzip file"),
    (b"\x1f\x9d", "uncompress", "a file of compress(1)"),
];

fn compressed(start: &[u8]) -> Option<&(&[u8], &'static str, &'static str)> {
    COMPRESSED
        .iter()
        .find(|(magic, ..)| start.starts_with(magic))
}

/// Returns the program that, with `-dc`, decompresses a file that starts with `start`.
pub fn decompressor(start: &[u8]) -> Option<&'static str> {
    compressed(start).map(|(_, program, _)| *program)
}

/// Returns how to decompress the input `name` with `program`, and send the result `to` its reader.
pub fn decompress_first(program: &str, name: &str, to: &str) -> String {
    if name == "standard input" {
        format!("pipe it through {program} -dc first")
    } else {
        format!("decompress it first: {program} -dc {name} {to}")
    }
}

/// Number of bytes that cover all signatures.
pub const HEAD: usize = 65608;

/// Identifies a file or device, whatever its name: its type, the number of the device or of the
/// file's filesystem, and the inode number of a file.
type Identity = (FileType, u64, u64);

fn identity(stat: &Stat) -> Identity {
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::BlockDevice | FileType::CharacterDevice => (kind, stat.st_rdev, 0),
        _ => (kind, stat.st_dev, stat.st_ino),
    }
}

/// Decides what an output may overwrite.
///
/// By default it may replace a daxfs image, zeros, or nothing.
#[derive(Default)]
pub struct Overwrite {
    force: bool,
    /// Inputs, which must never be overwritten.
    inputs: Vec<Identity>,
    /// Input directories, in which no file may be created.
    directories: Vec<PathBuf>,
    /// Whether an input is an image. If the output is one too, the user may have forgotten to name
    /// the output.
    image: bool,
}

impl Overwrite {
    /// Creates the rules. `force` allows overwriting anything but an input.
    pub fn new(force: bool) -> Self {
        Overwrite {
            force,
            ..Overwrite::default()
        }
    }

    /// Adds an input file or device; `-` is standard input. Ignores a file that does not exist:
    /// reading it fails later.
    pub fn input(&mut self, path: &Path) {
        let stdin = path.as_os_str() == "-";
        let stat = if stdin {
            fstat(io::stdin())
        } else {
            stat(path)
        };
        let Ok(stat) = stat else {
            return;
        };
        let identity = identity(&stat);
        match identity.0 {
            FileType::RegularFile | FileType::BlockDevice => self.inputs.push(identity),
            // Standard input and output may both be the terminal.
            FileType::CharacterDevice if !stdin => self.inputs.push(identity),
            _ => (),
        }
    }

    /// Adds an input file or device. If it is an image, other images must not be overwritten.
    pub fn content(&mut self, path: &Path) {
        self.input(path);
        self.image |= is_image(path);
    }

    /// Adds an input file, or an input directory in which no file may be created.
    pub fn container(&mut self, path: &Path) {
        self.input(path);
        if path.is_dir() {
            self.directories.extend(path.canonicalize());
        }
    }

    /// Fails if `directory` is inside an input directory, where no file may be created.
    pub fn check_directory(&self, directory: &Path) -> Result<()> {
        let part = |found: PathBuf| {
            self.directories
                .iter()
                .any(|input| found.starts_with(input))
        };
        if directory.canonicalize().is_ok_and(part) {
            let why = "is part of an input; write the image to another directory";
            return Err(Error::refused(directory, why));
        }
        Ok(())
    }

    /// Fails if `file` is an input. `path` is its name for messages.
    pub fn check_input(&self, path: &Path, file: &File) -> Result<()> {
        let stat = fstat(file).map_err(|error| Error::output(path, "examine", error))?;
        self.check_identity(path, &stat)
    }

    fn check_identity(&self, path: &Path, stat: &Stat) -> Result<()> {
        if self.inputs.contains(&identity(stat)) {
            let why = "is an input as well; name another file for the output, which comes last";
            return Err(Error::refused(path, why));
        }
        Ok(())
    }

    fn check_image(&self, path: &Path) -> Result<()> {
        if self.image {
            let why =
                "holds a daxfs image, and so does an input; name the output, which comes last, \
                       or give --force to overwrite this image";
            return Err(Error::refused(path, why));
        }
        Ok(())
    }

    /// Fails if the regular file `path` is an input, or holds something other than an image.
    pub fn check_file(&self, path: &Path) -> Result<()> {
        // By its identity alone, because an unreadable file may be replaced.
        let found = stat(path).map_err(|error| Error::output(path, "examine", error))?;
        self.check_identity(path, &found)?;
        if self.force {
            return Ok(());
        }
        let failed = |error| Error::output(path, "find out what it holds", error);
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let read = |offset, into: &mut [u8]| file.read_exact_at(into, offset);
        let mut head = vec![0; size.min(HEAD as u64) as usize];
        read(0, &mut head).map_err(failed)?;
        if head.starts_with(&MAGIC) {
            return self.check_image(path);
        }
        let mut at = 0;
        while at < size {
            let (hole, end) =
                data_or_hole(&file, at, size).map_err(|error| failed(error.into()))?;
            if !hole && !all_zero(at, end, read).map_err(failed)? {
                return Err(occupied(path, &head, "name another file"));
            }
            at = end;
        }
        Ok(())
    }

    /// Fails if the file `path`, which will not hold an image, is an input or not empty.
    pub fn check_new(&self, path: &Path) -> Result<()> {
        let found = stat(path).map_err(|error| Error::output(path, "examine", error))?;
        self.check_identity(path, &found)?;
        if self.force || found.st_size == 0 {
            return Ok(());
        }
        let why = "exists; name another file, or give --force to overwrite it";
        Err(Error::refused(path, why))
    }

    /// Fails if the device `path` of `size` bytes holds something other than an image. Reads only
    /// its start and its end, with `read`.
    pub fn check_device(
        &self,
        path: &Path,
        size: u64,
        mut read: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
    ) -> Result<()> {
        if self.force {
            return Ok(());
        }
        let failed = |error| Error::output(path, "find out what it holds", error);
        let mut head = vec![0; size.min(HEAD as u64) as usize];
        read(0, &mut head).map_err(failed)?;
        if head.starts_with(&MAGIC) {
            return self.check_image(path);
        }
        let start = size.min(START);
        let end = size.saturating_sub(END).max(start);
        let free = all_zero(0, start, &mut read).map_err(failed)?
            && all_zero(end, size, &mut read).map_err(failed)?;
        if !free {
            return Err(occupied(path, &head, "name another device"));
        }
        Ok(())
    }

    /// Fails if the `size` bytes at `start` in `path`, which `memory` reads, hold something other
    /// than an image and zeros.
    pub fn check_part(
        &self,
        path: &Path,
        start: u64,
        size: u64,
        memory: &impl Memory,
    ) -> Result<()> {
        if self.force {
            return Ok(());
        }
        let image = Superblock::load(memory).ok();
        if image.is_some() {
            self.check_image(path)?;
        }
        let end = image.map_or(0, |superblock| {
            let section = Section::find(memory, &superblock).ok().flatten();
            let end = section.map_or(0, |section| section.table.end());
            superblock.stored_size().max(end)
        });
        let failed = |error| Error::output(path, "find out what it holds", error);
        let read = |at, into: &mut [u8]| memory.read(at, into).map_err(io::Error::other);
        if all_zero(end, size, read).map_err(failed)? {
            return Ok(());
        }
        let last = start + size - 1;
        let why = format!(
            "holds data other than a daxfs image in the bytes {start} to {last}, which would be lost; \
             name another file or range, or give --force to overwrite them"
        );
        Err(Error::refused(path, why))
    }
}

/// Returns true if `path` is an image in a file or on a block device; `-` is standard input.
fn is_image(path: &Path) -> bool {
    // Opening a FIFO would wait, or make its writer fail.
    let readable = |found: Metadata| found.is_file() || found.file_type().is_block_device();
    let file = if path.as_os_str() == "-" {
        io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else if path.metadata().is_ok_and(readable) {
        File::open(path)
    } else {
        return false;
    };
    let mut start = [0; MAGIC.len()];
    // Standard input may already be partly read.
    let read = file.and_then(|file| file.read_exact_at(&mut start, (&file).stream_position()?));
    read.is_ok() && start == MAGIC
}

/// Returns whether the bytes from `start` to `end` are zero.
fn all_zero(
    start: u64,
    end: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<bool> {
    let mut buffer = vec![0; PIECE];
    let mut at = start;
    while at < end {
        let piece = &mut buffer[..(end - at).min(PIECE as u64) as usize];
        read(at, piece)?;
        if piece.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        at += piece.len() as u64;
    }
    Ok(true)
}

/// Identifies the content of a file or device by its first bytes, at most [`HEAD`].
pub fn occupant(head: &[u8]) -> Option<&'static str> {
    let found = SIGNATURES.iter().find(|(offset, magic, _)| {
        let bytes = head.get(*offset..offset + magic.len());
        bytes == Some(*magic)
    });
    let name = compressed(head).map(|(.., name)| *name);
    name.or_else(|| found.map(|(.., name)| *name))
}

fn occupied(path: &Path, head: &[u8], remedy: &str) -> Error {
    let what = occupant(head).unwrap_or("data other than a daxfs image");
    let why =
        format!("holds {what}, which would be lost; {remedy}, or give --force to overwrite it");
    Error::refused(path, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_fit() {
        for (offset, magic, _) in SIGNATURES {
            assert!(offset + magic.len() <= HEAD);
        }
    }

    #[test]
    fn devices() {
        let size = 8 << 20;
        let check = |at: usize, bytes: &[u8], force| {
            let mut device = vec![0; size];
            device[at..at + bytes.len()].copy_from_slice(bytes);
            let read = |offset: u64, into: &mut [u8]| {
                let start = offset as usize;
                into.copy_from_slice(&device[start..start + into.len()]);
                Ok(())
            };
            let overwrite = Overwrite::new(force);
            let checked = overwrite.check_device(Path::new("device"), size as u64, read);
            checked.map_err(|error| error.to_string())
        };
        assert_eq!(check(0, b"", false), Ok(()));
        assert_eq!(check(0, &MAGIC, false), Ok(()));
        for (offset, magic, name) in SIGNATURES {
            let error = check(*offset, magic, false).unwrap_err();
            let name =
                format!("device: holds {name}, which would be lost; name another device, or");
            assert!(error.starts_with(&name), "{error}");
            assert_eq!(check(*offset, magic, true), Ok(()));
        }
        for at in [9, (2 << 20) - 1, size - 512, size - (1 << 20)] {
            let error = check(at, b"x", false).unwrap_err();
            assert!(
                error.contains("holds data other than a daxfs image"),
                "{error}"
            );
        }
    }
}
