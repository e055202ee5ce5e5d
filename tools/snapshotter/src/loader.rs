// SPDX-License-Identifier: GPL-2.0-only

//! Loads images into memory.

use crate::config;
use crate::error::{Error, Result};
use crate::room::Room;
use daxfs_load::mountinfo;
use daxfs_store::{lock, mount, AskRoom, Demands, Server, Store};
use rustix::fs::StatxAttributes;
use rustix::io::Errno;
use rustix::mount::{fsopen, unmount as umount, FsOpenFlags, UnmountFlags};
use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Loads images into memory, and mounts them.
pub trait Loader: Send + Sync + 'static {
    /// Checks that images can be loaded at all.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Loads the image `name` of `store` and mounts it on the directory `dir`, unless it is mounted
    /// there.
    ///
    /// Returns [`Error::Unsupported`] if something else is mounted there, and the errors of loading
    /// and mounting. Nothing is mounted then.
    fn load(&self, store: &Store, name: &str, dir: &Path) -> Result<()>;

    /// Unmounts the image on `dir`, if any. Its memory is freed once nobody uses its files.
    ///
    /// Returns [`Error::Unsupported`] if something else is mounted there, and the errors of
    /// umount(2).
    fn unload(&self, dir: &Path) -> Result<()>;

    /// Unmounts the image on `dir` to make room, if `unused` returns true and its files are closed.
    /// Returns whether it did. During `unused`, no other call loads or unloads the image.
    fn evict(&self, dir: &Path, unused: &dyn Fn() -> bool) -> Result<bool>;

    /// Returns whether an image is mounted on `dir`.
    fn is_loaded(&self, dir: &Path) -> bool;

    /// Returns the bytes of images and packs in memory.
    fn bytes(&self) -> u64 {
        0
    }
}

/// Loads images with the kernel's daxfs.
pub struct KernelLoader {
    /// The memory of this machine. Locked while an image is loaded, so that the next check sees
    /// what is left.
    room: Mutex<Room>,
    /// The locks of images, by directory, each held while its image is loaded or unloaded.
    gates: Mutex<HashMap<PathBuf, Arc<Mutex<()>>>>,
    load: config::Load,
}

impl KernelLoader {
    /// Returns a loader with the limit in `config`.
    pub fn new(config: &config::Config) -> Self {
        KernelLoader {
            room: Mutex::new(Room::new(config)),
            gates: Mutex::default(),
            load: config.load,
        }
    }

    /// Checks that containers see this process's mounts: it is in the machine's mount namespace, or
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

    /// Returns the lock of the image on `dir`.
    fn gate(&self, dir: &Path) -> Arc<Mutex<()>> {
        Arc::clone(lock(&self.gates).entry(dir.into()).or_default())
    }

    /// Calls `work` while no other call can load or unload the image on `dir`.
    fn alone<T>(&self, dir: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let gate = self.gate(dir);
        let _locked = lock(&gate);
        let result = work();
        let mut gates = lock(&self.gates);
        // Without another waiting call, only the table and this call hold it.
        if Arc::strong_count(&gate) == 2 {
            gates.remove(dir);
        }
        result
    }

    /// Unmounts the image on `dir`; if a process has its files open, only if `lazy`.
    fn unmount(&self, dir: &Path, lazy: bool) -> Result<bool> {
        while is_mounted(dir)? {
            refuse_others(dir, None)?;
            let unmounted = match umount(dir, UnmountFlags::NOFOLLOW) {
                Err(Errno::BUSY) if lazy => {
                    umount(dir, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
                }
                Err(Errno::BUSY) => return Ok(false),
                unmounted => unmounted,
            };
            unmounted.map_err(|error| Error::io(dir, "unmount")(error.into()))?;
        }
        Ok(true)
    }
}

impl Loader for KernelLoader {
    fn check(&self) -> Result<()> {
        fsopen("daxfs", FsOpenFlags::FSOPEN_CLOEXEC)
            .map(drop)
            .map_err(|error| {
                let remedy = match error {
                    Errno::NODEV => "; load the module (modprobe daxfs)",
                    Errno::PERM => "; only root can",
                    _ => "",
                };
                let error = daxfs_files::cause(&error.into());
                Error::Unsupported(format!("cannot mount daxfs: {error}{remedy}"))
            })
    }

    fn load(&self, store: &Store, name: &str, dir: &Path) -> Result<()> {
        self.alone(dir, || {
            if is_mounted(dir)? {
                refuse_others(dir, None)?;
                return refuse_others(dir, Some(&store.needs_of(name)?.0));
            }
            match DirBuilder::new().mode(0o755).create(dir) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(Error::io(dir, "create")(error));
                }
                _ => {}
            }
            let memory = lock(&self.room);
            let room = |needed| memory.check(name, needed, false);
            let demands = Demands {
                on_demand: (self.load == config::Load::Demand)
                    .then_some(no_server as fn(&Path) -> _),
                ..Demands::default()
            };
            mount(store, name, dir, &demands, &room)?;
            Ok(())
        })
    }

    fn unload(&self, dir: &Path) -> Result<()> {
        self.alone(dir, || self.unmount(dir, true).map(drop))
    }

    fn evict(&self, dir: &Path, unused: &dyn Fn() -> bool) -> Result<bool> {
        self.alone(dir, || Ok(unused() && self.unmount(dir, false)?))
    }

    fn is_loaded(&self, dir: &Path) -> bool {
        is_mounted(dir).unwrap_or(false)
    }

    fn bytes(&self) -> u64 {
        lock(&self.room).used()
    }
}

/// Starts threads that load the store's packs on demand, after a call of `room`.
pub fn serve(config: &config::Config, room: AskRoom) -> Result<()> {
    let path = config.root.join("store");
    match Server::start(&path, room) {
        Ok(Some(server)) => {
            std::thread::spawn(move || server.run(true));
        }
        // It is only for images that were mounted under another configuration.
        _ if config.load == config::Load::All => {}
        Ok(None) => {
            let why = "another process serves its packs; end it (daxfs store serve)";
            return Err(Error::Unsupported(format!("{}: {why}", path.display())));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Fails, because only this process may load packs of its store.
fn no_server(store: &Path) -> daxfs_image::Result<()> {
    let why = "its server has ended; restart daxfs-snapshotter";
    let store = daxfs_files::shown_path(store);
    Err(daxfs_image::Error::refused(store, why))
}

/// Returns whether something is mounted on `dir`.
fn is_mounted(dir: &Path) -> Result<bool> {
    match mountinfo::status(dir) {
        Ok(found) => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(Error::io(dir, "examine")(error.into())),
    }
}

/// Fails with [`Error::Unsupported`] if anything but an image is mounted on `dir`, or if its
/// SHA-256 is not `sha256`.
fn refuse_others(dir: &Path, sha256: Option<&str>) -> Result<()> {
    let id = mountinfo::mount_id(dir).map_err(Error::io(dir, "examine"))?;
    let digest = sha256.map(|sha256| format!("digest={sha256}"));
    let text = mountinfo::read()?;
    let is_it = |mount: &mountinfo::Mount<'_>| {
        let is_wanted = digest.as_ref().is_none_or(|digest| mount.has(digest));
        mount.id == id && mount.kind == b"daxfs" && is_wanted
    };
    if mountinfo::mounts(&text).any(|mount| is_it(&mount)) {
        return Ok(());
    }
    let why = "something else is mounted there than the image of this snapshot; unmount it";
    let name = daxfs_files::shown_path(dir);
    Err(Error::Unsupported(format!("{name}: {why}")))
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
        let memory = KernelLoader::new(&config::Config::default());
        let root = tempfile::TempDir::new().unwrap();
        let store = Store::create(&root.path().join("store")).unwrap();
        // Something else is mounted there.
        let place = Path::new("/proc");
        for error in [
            memory.load(&store, "image", place).unwrap_err(),
            memory.unload(place).unwrap_err(),
            memory.evict(place, &|| true).map(drop).unwrap_err(),
        ] {
            assert_eq!(error.code(), tonic::Code::FailedPrecondition);
            assert!(error.to_string().contains("/proc"), "{error}");
        }
        assert!(!memory.evict(place, &|| false).unwrap());
    }

    #[test]
    fn gates_remain_while_they_are_held() {
        let memory = KernelLoader::new(&config::Config::default());
        let dir = Path::new("/nonexistent/layer");
        let gate = memory.gate(dir);
        memory.unload(dir).unwrap();
        assert!(Arc::ptr_eq(&gate, &memory.gate(dir)));
        drop(gate);
        memory.unload(dir).unwrap();
        assert!(lock(&memory.gates).is_empty());
    }
}
