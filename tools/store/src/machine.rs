// SPDX-License-Identifier: GPL-2.0-only

//! The images and packs in this machine's memory, and the overlays of them.
//!
//! Each one is mounted in a directory below `/run/daxfs`, named by half of its SHA-256: mount(2)
//! takes a page of options, which names an image and all of its packs. The kernel's
//! list of mounts says which overlays use it, so nothing needs to be recorded, and a crash leaves
//! nothing that the next call does not find. An overlay keeps its layers, mounted or not.
//!
//! The list is the mount namespace's, and rmdir(2) detaches the mounts on a directory in all other namespaces. So each
//! namespace has its own directories.

use crate::files::{failed, length, RUN};
use crate::metadata::{not_ours, PACKS};
use crate::origin::{Demands, Origin, Part};
use crate::pack::PackRef;
use crate::run::{loaded, make, DIGITS};
use crate::store::Loaded;
use daxfs_image::error::{Error, Result};
use daxfs_image::text::shown_path;
use daxfs_image::warning::warn;
use daxfs_load::context::explain;
use daxfs_load::mount::{mount_on, MountOptions, Target};
use daxfs_load::mountinfo::{self, mount_id, mounts, Mount};
use daxfs_load::Kind;
use rustix::fs::{flock, lgetxattr, stat, statvfs, FlockOperation};
use rustix::io::Errno;
use rustix::mount::{
    fsconfig_set_string, fsopen, unmount as umount, FsOpenFlags, MountAttrFlags, UnmountFlags,
};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest value of the attribute [`PACKS`].
const VALUE_MAX: usize = 64 << 10;

/// Directories for images and for packs.
const IMAGES: &str = "i";
const PACKS_DIR: &str = "p";

/// Directory that is the second layer of an image without packs.
const EMPTY: &str = "empty";

/// The directories of a mount namespace. They and their parent are removed in this order when they are empty.
const INNER: [&str; 3] = [IMAGES, PACKS_DIR, EMPTY];

/// The layers of an image that is mounted.
pub struct Layers {
    /// The image and its packs, as overlayfs takes them.
    pub lower: String,
    /// Whether all of them are mounted. If not, another overlay of them would be empty.
    pub whole: bool,
}

/// Mount the image `name` of `origin` on the directory `dir`. Load it and its packs into memory,
/// unless they are in memory or on a device. Before that, call `room` with the bytes to load. Return its
/// layers as overlayfs also takes them.
///
/// The kernel compares the metadata image with its SHA-256, and each piece of a pack with its sums before its first use,
/// unless they are on a device and `demands` has neither digest nor signature. The list of packs is taken from the memory
/// that was compared.
pub fn mount(
    origin: Origin<'_>,
    name: &str,
    dir: &Path,
    demands: &Demands,
    room: Room<'_>,
) -> Result<(Loaded, String)> {
    let sha256 = origin.sha256(name)?;
    if demands
        .digest
        .as_ref()
        .is_some_and(|wanted| *wanted != sha256)
    {
        let why = format!("has the SHA-256 {sha256}, not the one that was asked for");
        return Err(Error::refused(origin.image(name)?.shown(), why));
    }
    let options = MountOptions::parse(&demands.options);
    if let Some((option, _)) = options.filesystem.first() {
        let why = "is not an option of these mounts; use generic ones of mount(8), such as nosuid";
        return Err(Error::refused(option.clone(), why));
    }
    // Report problems before anything is loaded.
    drop(Target::new(dir)?);
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| {
        let remedy = match error {
            Errno::NODEV => "; load the module (modprobe overlay)",
            _ => "",
        };
        Error::system("", "cannot mount an overlay", remedy, error)
    })?;
    let machine = Machine::lock()?;
    let mut loaded = Loaded::default();
    let mounted = machine
        .layers(origin, name, &sha256, demands, room, &mut loaded)
        .and_then(|layers| {
            let set = |key: &str, path: &Path| {
                fsconfig_set_string(fs.as_fd(), key, path.as_os_str())
                    .map_err(|error| explain(&fs, format!("cannot set {key}"), error))
            };
            set("source", Path::new(name))?;
            daxfs_load::mount::set(&fs, &options.generic)?;
            set("lowerdir+", &layers[0])?;
            layers[1..].iter().try_for_each(|it| set("datadir+", it))?;
            let attributes = options.attributes | MountAttrFlags::MOUNT_ATTR_RDONLY;
            mount_on(&fs, dir, attributes, |_| Ok(()))?;
            Ok((loaded, joined(&layers)))
        });
    // It keeps the layers.
    drop(fs);
    mounted.inspect_err(|_| {
        // Nothing stays in memory without a user.
        if let Err(error) = machine.sweep() {
            warn(error);
        }
    })
}

/// Checks whether this many bytes can be loaded, and fails if there is no room.
pub type Room<'a> = &'a dyn Fn(u64) -> Result<()>;

/// Unmount the image of a store that is mounted on `dir`, and free the layers that no overlay uses. If it is in use, do
/// so if `lazy` is set: its layers are free when its users have ended.
///
/// Fail if something else is mounted there, or if it is in use.
pub fn unmount(dir: &Path, lazy: bool) -> Result<Loaded> {
    let name = shown_path(dir);
    let fail = |error: io::Error| {
        let remedy = match Errno::from_io_error(&error) {
            Some(Errno::PERM) => "; only root can",
            Some(Errno::BUSY) => {
                "; files are open there, or it is the working directory of a process: fuser -m lists them"
            }
            _ => "",
        };
        Error::system(&name, "cannot unmount", remedy, error)
    };
    let place = dir.canonicalize().map_err(fail)?;
    let machine = Machine::lock()?;
    if lower(&place)?.is_none() {
        let why = "no image of a store is mounted there; umount(8) unmounts other things";
        return Err(Error::refused(name, why));
    }
    let unmounted = match umount(&place, UnmountFlags::NOFOLLOW) {
        Err(Errno::BUSY) if lazy => umount(&place, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH),
        unmounted => unmounted,
    };
    unmounted.map_err(|error| fail(error.into()))?;
    machine.sweep()
}

/// Free what no overlay uses, such as the remains of calls that were killed.
pub fn tidy() -> Result<()> {
    Machine::lock()?.sweep().map(drop)
}

/// Return the layers of the image of a store that is mounted on `dir`, which leads through no symbolic links. Return
/// none if something else is mounted there.
pub fn lower(dir: &Path) -> Result<Option<Layers>> {
    let id = mount_id(dir);
    let id = id.map_err(|error| Error::system(shown_path(dir), "cannot examine", "", error))?;
    let text = mountinfo::read()?;
    let found = mounts(&text).find(|mount| mount.id == id && mount.mount_point == dir);
    let layers: Vec<PathBuf> = found.iter().flat_map(layers).collect();
    let there: HashSet<PathBuf> = loaded(&text).map(|mount| mount.mount_point).collect();
    let is_there = |layer: &PathBuf| layer.ends_with(EMPTY) || there.contains(layer);
    Ok((!layers.is_empty()).then(|| Layers {
        lower: joined(&layers),
        whole: layers.iter().all(is_there),
    }))
}

/// Return layers as overlayfs takes them.
fn joined(layers: &[PathBuf]) -> String {
    let layers: Vec<_> = layers.iter().map(|path| path.to_string_lossy()).collect();
    layers.join("::")
}

/// The directory of this mount namespace below [`RUN`], which is locked.
struct Machine {
    dir: PathBuf,
    _lock: File,
}

impl Machine {
    /// Wait until no other process mounts or unmounts.
    fn lock() -> Result<Self> {
        let namespace = Path::new("/proc/self/ns/mnt");
        let found = stat(namespace).map_err(|e| failed(namespace, "examine", e.into()))?;
        // In hexadecimal: mount(2) takes a page of options, with the names of 65 layers.
        let dir = Path::new(RUN).join(format!("{:x}", found.st_ino));
        make(Path::new(RUN))?;
        let path = Path::new(RUN).join("lock");
        let lock = File::create(&path).map_err(|error| failed(&path, "create", error))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| failed(&path, "lock", error.into()))?;
        for inner in INNER {
            make(&dir.join(inner))?;
        }
        Ok(Machine { dir, _lock: lock })
    }

    /// Load the image `name`, which has this SHA-256, and its packs. Return where they are mounted, in this order.
    fn layers(
        &self,
        origin: Origin<'_>,
        name: &str,
        sha256: &str,
        demands: &Demands,
        room: Room<'_>,
        loaded: &mut Loaded,
    ) -> Result<Vec<PathBuf>> {
        let from = origin.end()?;
        // An image that was loaded without a signature does not serve those who demand one.
        let (end, option) = match demands.signed {
            true => (".signed", Some("signature=required")),
            false => ("", None),
        };
        let image = origin.image(name)?;
        let lower = self.dir.join(IMAGES);
        let lower = lower.join(format!("{}{from}{end}", &sha256[..DIGITS]));
        let in_pack = |pack: &PackRef| {
            let packs = self.dir.join(PACKS_DIR);
            packs.join(format!("{}{from}", &pack.sha256[..DIGITS]))
        };
        let text = mountinfo::read()?;
        let there: HashMap<PathBuf, &[u8]> = crate::run::loaded(&text)
            .map(|mount| (mount.mount_point, mount.options))
            .collect();
        let mut needed = 0;
        if let Origin::Store(store) = origin {
            let (_, packs) = store.needs_of(name)?;
            let packs = packs
                .iter()
                .map(|pack| (store.pack(&pack.id), in_pack(pack)));
            for (file, place) in packs.chain([(store.image(name)?, lower.clone())]) {
                if !there.contains_key(&place) {
                    needed += Kind::Memfd.size_of(length(&file)?);
                }
            }
        }
        if needed > 0 {
            room(needed)?;
        }
        let mut load = |part: &Part<'_>, place: &Path, sha256: &str, option| -> Result<()> {
            if let Some(options) = there.get(place) {
                // Images with the same half of a SHA-256 can be made on purpose.
                let digest = format!("digest={sha256}");
                if part.verified(demands)
                    && !options
                        .split(|&byte| byte == b',')
                        .any(|option| option == digest.as_bytes())
                {
                    let why = "what is mounted there was not compared with this SHA-256; unmount the images that use it with daxfs store umount";
                    return Err(Error::refused(shown_path(place), why));
                }
                loaded.shared += 1;
                return Ok(());
            }
            make(place)?;
            part.load_on(place, sha256, option, demands)?;
            loaded.images += 1;
            loaded.bytes += size(place);
            Ok(())
        };
        load(&image, &lower, sha256, option)?;
        let mut value = vec![0; VALUE_MAX];
        let packs = match lgetxattr(&lower, PACKS, &mut value) {
            Ok(length) => PackRef::parse(&value[..length]),
            Err(_) => None,
        };
        let packs = packs.ok_or_else(|| not_ours(name))?;
        let mut places = vec![lower];
        for pack in packs {
            let place = in_pack(&pack);
            let result = load(&origin.pack(&pack), &place, &pack.sha256, None);
            if let Origin::Store(store) = origin {
                store.loaded(&pack, &result);
            }
            result?;
            places.push(place);
        }
        // overlayfs wants two layers, also for an image without objects.
        if places.len() == 1 {
            places.push(self.dir.join(EMPTY));
        }
        Ok(places)
    }

    /// Unmount the images and packs that no overlay uses. Those with files in use stay.
    fn sweep(&self) -> Result<Loaded> {
        let text = mountinfo::read()?;
        let used: HashSet<PathBuf> = mounts(&text).flat_map(|mount| layers(&mount)).collect();
        let mut freed = Loaded::default();
        for inner in [IMAGES, PACKS_DIR] {
            let dir = self.dir.join(inner);
            let entries = std::fs::read_dir(&dir).map_err(|error| failed(&dir, "read", error))?;
            for place in entries.flatten().map(|entry| entry.path()) {
                if used.contains(&place) {
                    freed.shared += 1;
                    continue;
                }
                let bytes = size(&place);
                match umount(&place, UnmountFlags::NOFOLLOW) {
                    Ok(()) => {
                        freed.images += 1;
                        freed.bytes += bytes;
                    }
                    // Nothing is mounted there.
                    Err(Errno::INVAL) => (),
                    Err(Errno::BUSY) => continue,
                    Err(error) => return Err(failed(&place, "unmount", error.into())),
                }
                // It is made again when it is needed.
                let _ = std::fs::remove_dir(&place);
            }
        }
        // The next call makes them again.
        let inner = INNER.iter().map(|inner| self.dir.join(inner));
        let mut places = inner.chain([self.dir.clone()]);
        let _ = places.all(|place| std::fs::remove_dir(place).is_ok());
        Ok(freed)
    }
}

/// Return the directories below [`RUN`] that are layers of `mount`, if it is an overlay.
fn layers(mount: &Mount<'_>) -> Vec<PathBuf> {
    let options = match mount.kind {
        b"overlay" => mount.options,
        _ => b"",
    };
    let values = options.split(|&byte| byte == b',').filter_map(|option| {
        let names: [&[u8]; 3] = [b"lowerdir=", b"lowerdir+=", b"datadir+="];
        names.iter().find_map(|name| option.strip_prefix(*name))
    });
    let paths = values.flat_map(|value| value.split(|&byte| byte == b':'));
    let paths = paths.map(|path| PathBuf::from(OsStr::from_bytes(path)));
    paths.filter(|path| path.starts_with(RUN)).collect()
}

/// Return the bytes of the image that is mounted on `place`, or 0.
fn size(place: &Path) -> u64 {
    statvfs(place).map_or(0, |found| found.f_blocks * found.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_overlays() {
        let text = b"1 0 0:1 / /a ro - overlay base ro,lowerdir+=/run/daxfs/i/1,datadir+=/run/daxfs/p/2,datadir+=/run/daxfs/p/3,redirect_dir=on\n\
            2 0 0:2 / /b ro - overlay x ro,lowerdir=/run/daxfs/i/4::/run/daxfs/p/5::/x,upperdir=/run/daxfs/u\n\
            3 0 0:3 / /c ro - ext4 x ro,lowerdir+=/run/daxfs/i/5\n\
            4 0 0:4 / /d ro - overlay x ro,lowerdir+=/run/daxfs-2/i/6,upperdir=/u\n";
        let found: Vec<PathBuf> = mounts(text).flat_map(|mount| layers(&mount)).collect();
        let expected = ["i/1", "p/2", "p/3", "i/4", "p/5"];
        assert_eq!(found, expected.map(|name| Path::new(RUN).join(name)));
    }
}
