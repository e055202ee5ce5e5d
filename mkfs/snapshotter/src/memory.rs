// SPDX-License-Identifier: GPL-2.0-only

//! Memory for images.

use crate::config::{self, Verify};
use crate::error::{Error, Result};
use crate::record::Layer;
use crate::room::Room;
use crate::tree::mount_list;
use daxfs::mountinfo;
use rustix::fs::{fadvise, Advice, StatxAttributes};
use rustix::io::Errno;
use rustix::mount::{fsopen, unmount, FsOpenFlags, UnmountFlags};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Memory that images are loaded into.
pub trait Memory: Send + Sync + 'static {
    /// Check that images can be loaded at all.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`].
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Load the image file `image` of `layer`, and mount it on the directory `dir`, unless it is
    /// mounted there.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::Unsupported`] if something else is mounted there, or those of loading and mounting. Nothing is mounted then.
    fn load(&self, image: &Path, layer: &Layer, dir: &Path) -> Result<()>;

    /// Unmount the image on `dir`, if one is mounted there. Its memory is free when nobody uses its
    /// files.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if something else is mounted there, and those of umount(2).
    fn unload(&self, dir: &Path) -> Result<()>;

    /// Unmount the image on `dir` to make room for another one, if `unused` returns true and no process has its
    /// files open. `unused` is called when no other call can load or unload the image.
    ///
    /// # Errors
    ///
    /// As [`Memory::unload`].
    fn evict(&self, dir: &Path, unused: &dyn Fn() -> bool) -> Result<Evicted>;

    /// Return the bytes that the image on `dir` takes, or 0 if it is not loaded.
    fn size(&self, dir: &Path) -> u64;

    /// Count the image of `layer` on `dir` as loaded if it is mounted there, since an earlier run.
    /// If something else is, that is a warning.
    fn adopt(&self, layer: &Layer, dir: &Path);
}

/// What [`Memory::evict`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// The image is unmounted, and its memory is free.
    Free,
    /// The image is unmounted, but another mount still uses its memory.
    Elsewhere,
    /// Nothing: it is in use.
    Not,
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
    room: Room,
}

impl Kernel {
    /// Return memory as `config` says.
    pub fn new(config: &config::Memory) -> Self {
        Kernel {
            config: config.clone(),
            images: Mutex::default(),
            room: Room::new(config),
        }
    }

    /// Check that containers see what is mounted here: that this is the mount namespace of the
    /// machine, or that `private_mounts` is set.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`].
    pub fn check_namespace(private_mounts: bool) -> Result<()> {
        let (own, first) = (Path::new("/proc/self/ns/mnt"), Path::new("/proc/1/ns/mnt"));
        let read = |path: &Path| std::fs::read_link(path).map_err(Error::io(path, "read"));
        if private_mounts || read(own)? == read(first)? {
            return Ok(());
        }
        Err(Error::Unsupported(
            "this is not the mount namespace of process 1, so containers may not see the images that are mounted here; start it without options such as PrivateMounts= or ProtectSystem=, or set private-mounts = true in the configuration if containerd shares this namespace".into(),
        ))
    }

    /// Return the lock of the image on `dir`.
    fn image(&self, dir: &Path) -> Arc<Mutex<()>> {
        Arc::clone(lock(&self.images).entry(dir.into()).or_default())
    }

    /// Call `work` while no other call can load or unload the image on `dir`.
    fn alone<T>(&self, dir: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let gate = self.image(dir);
        let _locked = lock(&gate);
        let result = work();
        let mut images = lock(&self.images);
        // Another call may wait for it: only the table and this one have it otherwise.
        if Arc::strong_count(&gate) == 2 {
            images.remove(dir);
        }
        result
    }

    /// Unmount the image on `dir`. If a process has its files open, do that if `detach` is set.
    fn unmount(&self, dir: &Path, detach: bool) -> Result<Evicted> {
        let mut filesystem = None;
        while is_mounted(dir)? {
            check_own(dir)?;
            let found = self.room.filesystem(dir)?;
            let result = match unmount(dir, UnmountFlags::NOFOLLOW) {
                Err(Errno::BUSY) if !detach => return Ok(Evicted::Not),
                // A container that ends may still have it. The memory is free when it has ended.
                Err(Errno::BUSY) => unmount(dir, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH),
                result => result,
            };
            result.map_err(|error| Error::io(dir, "unmount")(error.into()))?;
            filesystem = found;
        }
        Ok(match self.room.release(dir, filesystem) {
            true => Evicted::Free,
            false => Evicted::Elsewhere,
        })
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
    fn check(&self) -> Result<()> {
        fsopen("daxfs", FsOpenFlags::FSOPEN_CLOEXEC)
            .map(drop)
            .map_err(|error| {
                let remedy = match error {
                    Errno::NODEV => "; load the module (modprobe daxfs)",
                    Errno::PERM => "; only root can",
                    _ => "",
                };
                let error = daxfs_writer::cause(&error.into());
                Error::Unsupported(format!("cannot mount daxfs: {error}{remedy}"))
            })
    }

    fn load(&self, image: &Path, layer: &Layer, dir: &Path) -> Result<()> {
        self.alone(dir, || {
            if is_mounted(dir)? {
                return check_own(dir);
            }
            match DirBuilder::new().mode(0o755).create(dir) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(Error::io(dir, "create")(error));
                }
                _ => {}
            }
            let _loading = self.room.reserve(image, layer.size, dir)?;
            let loaded = daxfs::load(image, dir, self.config.kind, &self.options(layer));
            if let Err(error) = loaded {
                self.room.release(dir, None);
                return Err(error.into());
            }
            // The file need not be in memory as well.
            if let Ok(file) = File::open(image) {
                let _ = fadvise(&file, 0, None, Advice::DontNeed);
            }
            Ok(())
        })
    }

    fn unload(&self, dir: &Path) -> Result<()> {
        self.alone(dir, || self.unmount(dir, true).map(drop))
    }

    fn evict(&self, dir: &Path, unused: &dyn Fn() -> bool) -> Result<Evicted> {
        self.alone(dir, || match unused() {
            true => self.unmount(dir, false),
            false => Ok(Evicted::Not),
        })
    }

    fn size(&self, dir: &Path) -> u64 {
        self.room.size(dir)
    }

    fn adopt(&self, layer: &Layer, dir: &Path) {
        match is_mounted(dir).and_then(|is| Ok(is && check_own(dir).map(|()| true)?)) {
            Ok(true) => self.room.adopt(layer.size, dir),
            Ok(false) => {}
            Err(error) => eprintln!("daxfs-snapshotter: warning: {error}"),
        }
    }
}

/// Return whether something is mounted on `dir`.
fn is_mounted(dir: &Path) -> Result<bool> {
    match mountinfo::status(dir) {
        Ok(found) => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(Error::io(dir, "examine")(error.into())),
    }
}

/// Check that what is mounted on `dir` is the image file beside it.
///
/// # Errors
///
/// [`Error::Unsupported`], or those of the system.
fn check_own(dir: &Path) -> Result<()> {
    let id = mountinfo::mount_id(dir).map_err(Error::io(dir, "examine"))?;
    let text = mount_list()?;
    let image = dir.with_file_name("layer.daxfs");
    let own = mountinfo::mounts(&text)
        .find(|mount| mount.id == id)
        .is_some_and(|mount| mount.kind == b"daxfs" && is_source(&mount.source, &image));
    match own {
        true => Ok(()),
        false => Err(Error::Unsupported(format!(
            "{}: something else is mounted there than {}; unmount it",
            daxfs_writer::shown(dir),
            daxfs_writer::shown(&image)
        ))),
    }
}

/// Return whether a mount with the source `source` is one of the file `image`. The start of a long
/// source is replaced by three dots.
fn is_source(source: &OsStr, image: &Path) -> bool {
    let (source, image) = (source.as_bytes(), image.as_os_str().as_bytes());
    let end = source.strip_prefix(b"...");
    source == image || end.is_some_and(|end| source.len() == 255 && image.ends_with(end))
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
    fn only_own_images_count() {
        let memory = Kernel::new(&config::Memory {
            limit: 2 << 20,
            ..config::Memory::default()
        });
        let layer = Layer {
            size: 1,
            inodes: 1,
            sha256: String::new(),
        };
        // Something else is mounted there.
        let place = Path::new("/proc");
        for error in [
            memory.load(Path::new("image"), &layer, place).unwrap_err(),
            memory.unload(place).unwrap_err(),
            memory.evict(place, &|| true).unwrap_err(),
        ] {
            assert_eq!(error.code(), tonic::Code::FailedPrecondition);
            assert!(error.to_string().contains("/proc"), "{error}");
        }
        assert_eq!(memory.evict(place, &|| false).unwrap(), Evicted::Not);
        memory.adopt(&layer, place);
        memory
            .room
            .reserve(Path::new("image"), 1, Path::new("dir"))
            .unwrap();

        let image = Path::new("/root/1/layer.daxfs");
        assert!(is_source(OsStr::new("/root/1/layer.daxfs"), image));
        assert!(!is_source(OsStr::new("/root/2/layer.daxfs"), image));
        assert!(!is_source(OsStr::new("...layer.daxfs"), image));
        let long = format!("/{}/1/layer.daxfs", "l".repeat(300));
        let shown = format!("...{}", &long[long.len() - 252..]);
        assert!(is_source(OsStr::new(&shown), Path::new(&long)));
        assert!(!is_source(OsStr::new(&shown), image));
    }

    #[test]
    fn gates_remain_while_they_are_held() {
        let memory = Kernel::new(&config::Memory::default());
        let dir = Path::new("/nonexistent/layer");
        let gate = memory.image(dir);
        memory.unload(dir).unwrap();
        assert!(Arc::ptr_eq(&gate, &memory.image(dir)));
        drop(gate);
        memory.unload(dir).unwrap();
        assert!(lock(&memory.images).is_empty());
    }
}
