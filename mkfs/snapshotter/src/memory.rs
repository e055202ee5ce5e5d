// SPDX-License-Identifier: GPL-2.0-only

//! Memory for images.

use crate::config::{self, Verify};
use crate::error::{Error, Result};
use crate::record::Layer;
use rustix::fs::{fadvise, statx, Advice, AtFlags, StatxAttributes, StatxFlags, CWD};
use rustix::io::Errno;
use rustix::mount::{unmount, UnmountFlags};
use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Memory takes whole huge pages.
const HUGE: u64 = 2 << 20;

/// Memory that images are loaded into.
pub trait Memory: Send + Sync + 'static {
    /// Load the image file `image` of `layer`, and mount it on the directory `dir`, unless it is
    /// mounted there.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], or those of loading and mounting. Nothing is mounted then.
    fn load(&self, image: &Path, layer: &Layer, dir: &Path) -> Result<()>;

    /// Unmount the image on `dir`, if one is mounted there. Its memory is free when nobody uses its
    /// files.
    ///
    /// # Errors
    ///
    /// Those of umount(2).
    fn unload(&self, dir: &Path) -> Result<()>;

    /// Count the image of `layer` on `dir` as loaded if it is mounted there, since an earlier run.
    fn adopt(&self, layer: &Layer, dir: &Path);
}

/// Lock a mutex whose content is valid at any time.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The memory of this machine, through the kernel's daxfs.
pub struct Kernel {
    config: config::Memory,
    /// The images by directory. Each is locked while it is loaded or unloaded.
    images: Mutex<HashMap<PathBuf, Arc<Mutex<()>>>>,
    /// Bytes that each of them takes, or will take.
    sizes: Mutex<HashMap<PathBuf, u64>>,
}

impl Kernel {
    /// Return memory as `config` says.
    pub fn new(config: &config::Memory) -> Self {
        Kernel {
            config: config.clone(),
            images: Mutex::default(),
            sizes: Mutex::default(),
        }
    }

    /// Return the lock of the image on `dir`.
    fn image(&self, dir: &Path) -> Arc<Mutex<()>> {
        Arc::clone(lock(&self.images).entry(dir.into()).or_default())
    }

    /// Set memory aside for the image file `image`.
    fn reserve(&self, image: &Path, layer: &Layer, dir: &Path) -> Result<()> {
        let size = layer.size.next_multiple_of(HUGE);
        let mut sizes = lock(&self.sizes);
        let used: u64 = sizes.values().sum();
        let limit = self.config.limit;
        if limit > 0 && used.saturating_add(size) > limit {
            let why = format!(
                "needs {size} bytes of memory, {used} of {limit} are in use; remove images, or raise memory.limit in the configuration"
            );
            return Err(Error::Full {
                path: image.into(),
                why,
            });
        }
        sizes.insert(dir.into(), size);
        Ok(())
    }

    /// Return the mount options.
    fn options(&self, layer: &Layer) -> Vec<String> {
        let digest = format!("digest={}", layer.sha256);
        match self.config.verify {
            Verify::Lazy => vec![digest, "verify=lazy".into()],
            Verify::Full => vec![digest],
            Verify::None => Vec::new(),
        }
    }
}

impl Memory for Kernel {
    fn load(&self, image: &Path, layer: &Layer, dir: &Path) -> Result<()> {
        let gate = self.image(dir);
        let _locked = lock(&gate);
        if is_mounted(dir)? {
            return Ok(());
        }
        match DirBuilder::new().mode(0o755).create(dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(Error::io(dir, "create")(error));
            }
            _ => {}
        }
        self.reserve(image, layer, dir)?;
        let loaded = daxfs::load(image, dir, self.config.kind, &self.options(layer));
        if let Err(error) = loaded {
            lock(&self.sizes).remove(dir);
            return Err(error.into());
        }
        // The file need not be in memory as well.
        if let Ok(file) = File::open(image) {
            let _ = fadvise(&file, 0, None, Advice::DontNeed);
        }
        Ok(())
    }

    fn unload(&self, dir: &Path) -> Result<()> {
        let gate = self.image(dir);
        let _locked = lock(&gate);
        while is_mounted(dir)? {
            let result = match unmount(dir, UnmountFlags::NOFOLLOW) {
                // A container that ends may still have it. The memory is free when it has ended.
                Err(Errno::BUSY) => unmount(dir, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH),
                result => result,
            };
            result.map_err(|error| Error::io(dir, "unmount")(error.into()))?;
        }
        lock(&self.sizes).remove(dir);
        lock(&self.images).remove(dir);
        Ok(())
    }

    fn adopt(&self, layer: &Layer, dir: &Path) {
        if is_mounted(dir).unwrap_or(false) {
            lock(&self.sizes).insert(dir.into(), layer.size.next_multiple_of(HUGE));
        }
    }
}

/// Return whether something is mounted on `dir`.
fn is_mounted(dir: &Path) -> Result<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    match statx(CWD, dir, flags, StatxFlags::empty()) {
        Ok(found) => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(Error::io(dir, "examine")(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points() {
        assert!(is_mounted(Path::new("/proc")).unwrap());
        assert!(!is_mounted(Path::new("/proc/self")).unwrap());
        assert!(!is_mounted(Path::new("/nonexistent")).unwrap());
    }

    #[test]
    fn limit() {
        let config = config::Memory {
            limit: 5 << 20,
            ..config::Memory::default()
        };
        let memory = Kernel::new(&config);
        let layer = |size| Layer {
            size,
            inodes: 1,
            sha256: String::new(),
        };
        let image = Path::new("image");
        memory.reserve(image, &layer(1), Path::new("a")).unwrap();
        memory.reserve(image, &layer(HUGE), Path::new("b")).unwrap();
        let error = memory
            .reserve(image, &layer(1), Path::new("c"))
            .unwrap_err();
        assert_eq!(error.code(), tonic::Code::ResourceExhausted);
        assert!(
            error
                .to_string()
                .contains("needs 2097152 bytes of memory, 4194304 of 5242880"),
            "{error}"
        );
        memory.unload(Path::new("b")).unwrap();
        memory.reserve(image, &layer(1), Path::new("c")).unwrap();
    }
}
