// SPDX-License-Identifier: GPL-2.0-only

//! Memory for images.

use crate::config::{self, Verify};
use crate::device::{self, Device};
use crate::error::{Error, Result};
use crate::files::warn;
use crate::place::{lock, Evicted, Filesystem, Loaded, Place};
use crate::record::Layer;
use crate::room::Room;
use crate::tree::mount_list;
use daxfs_load::catalog;
use daxfs_load::mountinfo::{self, Mount};
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
use std::sync::{Arc, Mutex};

/// Memory that images are loaded into.
pub trait Memory: Send + Sync + 'static {
    /// Check that images can be loaded at all.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Load the image file `image` of `layer`, and mount it on the directory `dir`, unless it is
    /// mounted there.
    ///
    /// Return [`Error::Full`], [`Error::Unsupported`] if something else is mounted there, or errors
    /// of loading and mounting. Nothing is mounted then.
    fn load(&self, image: &Path, layer: &Layer, dir: &Path) -> Result<()>;

    /// Unmount the image on `dir`, if one is mounted there. Its memory is free when its files have no users.
    ///
    /// Return [`Error::Unsupported`] if something else is mounted there, and the errors of
    /// umount(2).
    fn unload(&self, dir: &Path) -> Result<()>;

    /// Unmount the image on `dir` to make room for another one, if `unused` returns true and no process has its
    /// files open. `unused` is called when no other call can load or unload the image.
    fn evict(&self, dir: &Path, unused: &dyn Fn() -> bool) -> Result<Evicted>;

    /// Return the bytes that the image on `dir` takes, or 0 if it is not loaded.
    fn size(&self, dir: &Path) -> u64;

    /// Count images of an earlier run as loaded, if they are still in memory. `layers` are all existing layers, with
    /// their mount points. Unusable ones only cause a warning.
    fn adopt(&self, layers: &[(Layer, PathBuf)]);
}

/// Memory that the kernel's daxfs mounts.
pub struct Kernel {
    verify: Verify,
    /// The images by directory. Each is locked while it is loaded or unloaded.
    images: Mutex<HashMap<PathBuf, Arc<Mutex<()>>>>,
    place: Box<dyn Place>,
}

impl Kernel {
    /// Return memory as `config` says.
    pub fn new(config: &config::Memory) -> Self {
        Kernel {
            verify: config.verify,
            images: Mutex::default(),
            place: match config.device.as_os_str().is_empty() {
                true => Box::new(Room::new(config)),
                false => Box::new(Device::new(&config.device)),
            },
        }
    }

    /// Check that containers see mounts of this process: that it is in the machine's mount namespace, or that
    /// `private_mounts` is set.
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
            Self::check_own(dir, None)?;
            let found = Filesystem::on(dir)?;
            let result = match unmount(dir, UnmountFlags::NOFOLLOW) {
                Err(Errno::BUSY) if !detach => return Ok(Evicted::Used),
                // A container that ends may still have it. The memory is free when it has ended.
                Err(Errno::BUSY) => unmount(dir, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH),
                result => result,
            };
            result.map_err(|error| Error::io(dir, "unmount")(error.into()))?;
            filesystem = found;
        }
        self.place.release(dir, filesystem)
    }

    /// Check that `dir` has the image of `layer` mounted, or of any layer if that is unknown.
    ///
    /// Return [`Error::Unsupported`], or the system's errors.
    fn check_own(dir: &Path, layer: Option<&Layer>) -> Result<()> {
        let id = mountinfo::mount_id(dir).map_err(Error::io(dir, "examine"))?;
        let text = mount_list()?;
        let own = mountinfo::mounts(&text)
            .find(|mount| mount.id == id)
            .is_some_and(|mount| is_own(&mount, dir, layer));
        match own {
            true => Ok(()),
            false => Err(Error::Unsupported(format!(
                "{}: something else is mounted there than the image of this snapshot; unmount it",
                daxfs_writer::shown(dir)
            ))),
        }
    }

    /// Return the mount options.
    fn options(&self, layer: &Layer) -> Vec<String> {
        let digest = format!("digest={}", layer.sha256);
        match self.verify {
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
            })?;
        self.place.check()
    }

    fn load(&self, image: &Path, layer: &Layer, dir: &Path) -> Result<()> {
        self.alone(dir, || {
            if is_mounted(dir)? {
                return Self::check_own(dir, Some(layer));
            }
            match DirBuilder::new().mode(0o755).create(dir) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(Error::io(dir, "create")(error));
                }
                _ => {}
            }
            self.place.load(image, layer, dir, &self.options(layer))?;
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
            false => Ok(Evicted::Used),
        })
    }

    fn size(&self, dir: &Path) -> u64 {
        self.place.size(dir)
    }

    fn adopt(&self, layers: &[(Layer, PathBuf)]) {
        let is_loaded = |layer: &Layer, dir: &Path| {
            let mounted = is_mounted(dir)?;
            if mounted {
                Self::check_own(dir, Some(layer))?;
            }
            Ok(mounted)
        };
        let layers = layers.iter().map(|(layer, dir)| Loaded {
            layer,
            dir,
            mounted: is_loaded(layer, dir).inspect_err(warn).unwrap_or(false),
        });
        if let Err(error) = self.place.adopt(&layers.collect::<Vec<_>>()) {
            warn(&error);
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

/// Return whether a mount on `dir` is one of the image file beside it, or of the image of `layer` on a device,
/// or of any layer. It may be there since the configuration was another one.
fn is_own(mount: &Mount<'_>, dir: &Path, layer: Option<&Layer>) -> bool {
    let image = || {
        let offset = mount.option("fsoffset")?.into_string().ok()?;
        let offset = u64::from_str_radix(offset.strip_prefix("0x")?, 16).ok()?;
        let mut images = catalog::images(Path::new(&mount.source)).ok()?.into_iter();
        images.find(|image| image.range.start == offset)
    };
    let on_device = || {
        image().is_some_and(|image| match layer {
            Some(layer) => image.name == device::name(layer),
            None => image.name.starts_with(device::PREFIX),
        })
    };
    let file = dir.with_file_name("layer.daxfs");
    mount.kind == b"daxfs" && (is_source(&mount.source, &file) || on_device())
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
    use daxfs_load::catalog::Reuse;

    #[test]
    fn mount_points() {
        assert!(is_mounted(Path::new("/proc")).unwrap());
        assert!(!is_mounted(Path::new("/proc/self")).unwrap());
        assert!(!is_mounted(Path::new("/nonexistent")).unwrap());
    }

    #[test]
    fn only_own_images_count() {
        let memory = Kernel::new(&config::Memory::default());
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
        assert_eq!(memory.evict(place, &|| false).unwrap(), Evicted::Used);
        memory.adopt(&[(layer, place.into())]);
        assert_eq!(memory.size(place), 0);
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

    #[test]
    fn own_mounts() {
        let layer = Layer {
            size: 1,
            inodes: 1,
            sha256: "5".repeat(64),
        };
        let place = tempfile::TempDir::new().unwrap();
        let device = place.path().join("device");
        catalog::init(&device, Some(16 << 20), false).unwrap();
        let image = Path::new("../../read/reader/tests/small.daxfs");
        for name in [&device::name(&layer), "base", "layer-6"] {
            catalog::add(&device, name, image, false, Reuse::Unmounted).unwrap();
        }
        let device = device.to_str().unwrap();
        let dir = Path::new("/root/1/layer");
        let is_own = |kind: &str, source: &str, options: &str, layer| {
            let line = format!("1 2 0:1 / /root/1/layer ro - {kind} {source} {options}\n");
            let mount = mountinfo::mounts(line.as_bytes()).next().unwrap();
            is_own(&mount, dir, layer)
        };
        for known in [Some(&layer), None] {
            assert!(is_own("daxfs", "/root/1/layer.daxfs", "ro", known));
            assert!(!is_own("ext4", "/root/1/layer.daxfs", "ro", known));
            assert!(!is_own("daxfs", "/root/2/layer.daxfs", "ro", known));
            assert!(is_own("daxfs", device, "ro,fsoffset=0x200000", known));
            for other in [
                "ro,fsoffset=0x203000",
                "ro,fsoffset=0x800000",
                "ro,fsoffset=x",
                "ro",
            ] {
                assert!(!is_own("daxfs", device, other, known));
            }
        }
        let other = "ro,fsoffset=0x206000";
        assert!(!is_own("daxfs", device, other, Some(&layer)));
        assert!(is_own("daxfs", device, other, None));
    }

    #[test]
    fn sources() {
        let image = Path::new("/root/1/layer.daxfs");
        assert!(is_source(OsStr::new("/root/1/layer.daxfs"), image));
        assert!(!is_source(OsStr::new("/root/2/layer.daxfs"), image));
        assert!(!is_source(OsStr::new("...layer.daxfs"), image));
        let long = format!("/{}/1/layer.daxfs", "l".repeat(300));
        let shown = format!("...{}", &long[long.len() - 252..]);
        assert!(is_source(OsStr::new(&shown), Path::new(&long)));
        assert!(!is_source(OsStr::new(&shown), image));
    }
}
