// SPDX-License-Identifier: GPL-2.0-only

//! Media of stores: block devices, DAX devices in devdax mode, and files.

use crate::file::cannot_write;
use daxfs_files::region::{examine, Region};
use daxfs_files::Mapping;
use daxfs_image::error::{Error, Result};
use daxfs_image::source::{cannot_open, open_now};
use daxfs_image::text::shown_path;
use daxfs_image::warning::warn;
use daxfs_reader::catalog::Table;
use daxfs_reader::Memory;
use rustix::fs::{flock, fstat, major, minor, FileType, FlockOperation, OFlags};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Writable memory.
pub trait Medium: Memory {
    /// Reads `into.len()` bytes at `offset`, like [`Memory::read`], but returns the device's error.
    fn get(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.read(offset, into).map_err(io::Error::other)
    }

    /// Writes `bytes` at `offset`.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Waits until all written bytes are safe from power loss.
    fn sync(&mut self) -> io::Result<()>;

    /// Drops any cache, after [`Medium::sync`], so that the next read comes from the device, which
    /// another kernel may have written.
    fn forget(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Medium for Region {
    fn get(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        Region::read(self, offset, into)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        Region::write(self, offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        Region::sync(self)
    }

    fn forget(&mut self) -> io::Result<()> {
        Region::forget(self)
    }
}

/// An open device or file.
pub struct Disk {
    /// Name for messages.
    pub name: String,
    /// Name of the device below /sys/dev; `None` for a file.
    pub device: Option<String>,
    /// Whether other kernels usually have no access, as to a block device. A file or a device in
    /// devdax mode often backs a virtual machine's memory.
    pub private: bool,
    /// Its bytes.
    pub bytes: Region,
    /// The locked device behind a mapping.
    _lock: Option<File>,
}

/// Why a [`Disk`] is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To read.
    Read,
    /// To read while no other process changes it with this program.
    Keep,
    /// To change it, while no other process does so with this program.
    Change,
    /// To change a device that must not be mounted.
    Alone,
}

impl Disk {
    /// Opens `path` for `access`.
    ///
    /// Fails if it cannot hold images, or if it is in use although `access` excludes that.
    pub fn open(path: &Path, access: Access) -> Result<Self> {
        let name = shown_path(path);
        let write = matches!(access, Access::Change | Access::Alone);
        let is_block = || {
            path.metadata()
                .is_ok_and(|found| found.file_type().is_block_device())
        };
        // EXCL fails while a block device is mounted.
        let mut alone = OFlags::empty();
        alone.set(OFlags::EXCL, access == Access::Alone && is_block());
        let file = if write {
            OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(alone.bits() as i32)
                .open(path)
        } else {
            open_now(path)
        };
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => {
                Error::refused(&name, "is in use; unmount it if it is mounted")
            }
            io::ErrorKind::PermissionDenied if write => Error::system(
                &name,
                "cannot open",
                "; run as a user who may write to it",
                error,
            ),
            _ => cannot_open(&name, error),
        })?;
        let fail = |error| Error::system(&name, "cannot examine", "", error);
        let number = fstat(&file).map_err(fail)?.st_rdev;
        let number = format!("{}:{}", major(number), minor(number));
        let Some((kind, size)) = examine(&file).map_err(fail)? else {
            let why =
                "is not a directory, file, block device or DAX device; a store needs one of these";
            return Err(Error::refused(name, why));
        };
        let device = match kind {
            FileType::BlockDevice => Some(format!("block/{number}")),
            FileType::CharacterDevice => Some(format!("char/{number}")),
            _ => None,
        };
        let locked = match access {
            Access::Read => Ok(()),
            Access::Keep => flock(&file, FlockOperation::LockShared),
            Access::Change | Access::Alone => flock(&file, FlockOperation::LockExclusive),
        };
        locked.map_err(|error| Error::system(&name, "cannot lock", "", error))?;
        let (bytes, lock) = match kind {
            FileType::CharacterDevice => {
                let mapping = if write {
                    Mapping::new(&file, size)
                } else {
                    Mapping::read_only(&file, 0, size)
                };
                let remedy = "; a DAX device must be in devdax mode to be read and written";
                let mapping =
                    mapping.map_err(|error| Error::system(&name, "cannot map", remedy, error))?;
                (Region::mapped(mapping, 0, size), Some(file))
            }
            _ => (Region::file(file, 0, size), None),
        };
        let mut disk = Disk {
            name,
            device,
            private: kind == FileType::BlockDevice,
            bytes,
            _lock: lock,
        };
        // Write back other processes' dirty pages before committing a change.
        let synced = if write { disk.bytes.sync() } else { Ok(()) };
        synced
            .and_then(|()| disk.bytes.forget())
            .map_err(|error| cannot_write(&disk.name, "", error))?;
        Ok(disk)
    }

    /// Loads the table of its store.
    pub fn load(&self) -> Result<Table> {
        daxfs_image::catalog::load(&self.bytes, &self.name)
    }

    /// Warns if a copy is damaged, because the table may be the one before the last change.
    pub fn warn_damaged(&self, table: &Table) {
        if let Some(error) = table.damaged {
            let name = &self.name;
            warn(format_args!(
                "{name}: a copy of the store's table is damaged: {error}"
            ));
        }
    }
}
