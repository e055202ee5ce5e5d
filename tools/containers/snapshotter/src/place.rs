// SPDX-License-Identifier: GPL-2.0-only

//! Places for images, and the end of their memory.

use crate::error::{Error, Result};
use crate::record::Layer;
use daxfs_load::mountinfo;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A directory for each filesystem that daxfs has mounted, also where this process does not see it.
const SYSFS: &str = "/sys/fs/daxfs";

/// Result of [`crate::memory::Memory::evict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// The image is unmounted, and its memory is free.
    Free,
    /// The image is unmounted, but another mount still uses its memory.
    Elsewhere,
    /// The memory is not free: processes use the image, which stays mounted, or another snapshot has the same
    /// image.
    Used,
}

/// A mounted filesystem, as the kernel's sysfs shows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Filesystem {
    /// Its directory, which another filesystem has after this one, with another inode number.
    path: PathBuf,
    ino: u64,
}

impl Filesystem {
    /// Return the filesystem that is mounted on `dir`, if the kernel shows it.
    pub fn on(dir: &Path) -> Result<Option<Self>> {
        Self::on_in(Path::new(SYSFS), dir)
    }

    /// Return what [`Filesystem::on`] does, with a directory as /sys/fs/daxfs.
    pub(crate) fn on_in(sysfs: &Path, dir: &Path) -> Result<Option<Self>> {
        let status =
            mountinfo::status(dir).map_err(|error| Error::io(dir, "examine")(error.into()))?;
        let name = format!("{}:{}", status.stx_dev_major, status.stx_dev_minor);
        let path = sysfs.join(name);
        let ino = std::fs::metadata(&path).map(|found| found.ino()).ok();
        Ok(ino.map(|ino| Filesystem { path, ino }))
    }

    /// Return whether some mount or process still has it.
    pub fn is_there(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.ino)
    }
}

/// Memory for images.
pub trait Place: Send + Sync + 'static {
    /// Check that the place exists.
    ///
    /// Return [`Error::Unsupported`], or the system's errors.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Load the image file `image` of `layer` and mount it on `dir`, where nothing is mounted, with these mount
    /// options.
    fn load(&self, image: &Path, layer: &Layer, dir: &Path, options: &[String]) -> Result<()>;

    /// Free the memory of the image that was mounted on `dir`. It was the filesystem `before`, if that is known.
    ///
    /// The image counts as loaded after an error.
    fn release(&self, dir: &Path, before: Option<Filesystem>) -> Result<Evicted>;

    /// As [`crate::memory::Memory::size`].
    fn size(&self, dir: &Path) -> u64;

    /// As [`crate::memory::Memory::adopt`].
    fn adopt(&self, layers: &[Loaded<'_>]) -> Result<()>;
}

/// A layer of an earlier run.
pub struct Loaded<'a> {
    /// The layer.
    pub layer: &'a Layer,
    /// The directory that its image is mounted on.
    pub dir: &'a Path,
    /// It is mounted there now.
    pub mounted: bool,
}

/// Lock a mutex whose content is valid at any time.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
