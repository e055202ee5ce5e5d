// SPDX-License-Identifier: GPL-2.0-only

//! Images of stores in this machine's memory.
//!
//! Each pack is mounted in a directory below `/run/daxfs`, named by its SHA-256, and each image on the directories that
//! users name. The kernel's list of mounts says which packs an image uses, so nothing needs to be recorded, and a crash
//! leaves nothing that the next call does not find. An image keeps its packs, mounted or not.
//!
//! The list is the mount namespace's, and rmdir(2) detaches the mounts on a directory in all other namespaces. So each
//! namespace has its own directory.

use crate::device;
use crate::files::{failed, length, RUN};
use crate::origin::{proof, Demands, Origin};
use crate::store::{Loaded, Store};
use daxfs_image::error::{Error, Result};
use daxfs_image::text::shown_path;
use daxfs_image::warning::warn;
use daxfs_load::mount::{clone, examine, place, MountOptions};
use daxfs_load::mountinfo::{self, mount_id, mounts, Mount};
use daxfs_load::Kind;
use rustix::fs::{fadvise, flock, fstat, major, minor, stat, statvfs, Advice, FlockOperation};
use rustix::io::Errno;
use rustix::mount::{unmount as umount, MountAttrFlags, UnmountFlags};
use std::collections::{HashMap, HashSet};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Directory for packs.
const PACKS: &str = "p";

/// Mount the image `name` of `origin` on the directory `dir`. Load it and its packs into memory, unless they are in
/// memory or on a device. Before that, call `room` with the bytes to load. Free packs that nothing uses.
///
/// The kernel compares the image with its SHA-256, its packs with the SHA-256 that it names, and each piece of a pack
/// with its sums before its first use, unless they are on a device and `demands` has neither digest nor signature.
pub fn mount(
    origin: Origin<'_>,
    name: &str,
    dir: &Path,
    demands: &Demands,
    room: Room<'_>,
) -> Result<Loaded> {
    let options = MountOptions::parse(&demands.options);
    if let Some((option, _)) = options.filesystem.first() {
        let why = "is not an option of these mounts; use generic ones of mount(8), such as nosuid";
        return Err(Error::refused(option.clone(), why));
    }
    // Report problems before anything is loaded.
    examine(dir)?;
    match origin {
        Origin::Device(device) => device::mount(device, name, dir, demands),
        Origin::Store(store) => {
            let machine = Machine::lock()?;
            let mounted = machine.mount(store, name, dir, demands, room);
            mounted.inspect_err(|_| {
                // Nothing stays in memory without a user.
                if let Err(error) = machine.sweep(&HashSet::new()) {
                    warn(error);
                }
            })
        }
    }
}

/// Checks whether this many bytes can be loaded, and fails if there is no room.
pub type Room<'a> = &'a dyn Fn(u64) -> Result<()>;

/// Unmount the image that is mounted on `dir`, and free the packs that no image uses. If it is in use, do
/// so if `lazy` is set: its memory is free when its users have ended.
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
    let dir = dir.canonicalize().map_err(fail)?;
    let machine = Machine::lock()?;
    if !mounted(&dir)? {
        let why = "no image is mounted there; umount(8) unmounts other things";
        return Err(Error::refused(name, why));
    }
    let unmounted = match umount(&dir, UnmountFlags::NOFOLLOW) {
        Err(Errno::BUSY) if lazy => umount(&dir, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH),
        unmounted => unmounted,
    };
    unmounted.map_err(|error| fail(error.into()))?;
    machine.sweep(&HashSet::new())
}

/// Free the packs that no image uses, such as packs of images that umount(8) has unmounted, and the remains of calls that
/// were killed.
pub fn tidy() -> Result<()> {
    Machine::lock()?.sweep(&HashSet::new()).map(drop)
}

/// Return whether an image is mounted on `dir`, which leads through no symbolic links.
pub fn mounted(dir: &Path) -> Result<bool> {
    let id = mount_id(dir);
    let id = id.map_err(|error| Error::system(shown_path(dir), "cannot examine", "", error))?;
    let text = mountinfo::read()?;
    let is_it = |mount: &Mount<'_>| mount.id == id && mount.mount_point == dir;
    let found = mounts(&text).find(is_it);
    Ok(found.is_some_and(|mount| mount.kind == b"daxfs"))
}

/// The directory of this mount namespace below [`RUN`], which is locked.
struct Machine {
    packs: PathBuf,
    _lock: File,
}

impl Machine {
    /// Wait until no other process mounts or unmounts.
    fn lock() -> Result<Self> {
        let namespace = Path::new("/proc/self/ns/mnt");
        let found = stat(namespace).map_err(|e| failed(namespace, "examine", e.into()))?;
        let dir = Path::new(RUN).join(format!("{:x}", found.st_ino));
        make(Path::new(RUN))?;
        let path = Path::new(RUN).join("lock");
        let lock = File::create(&path).map_err(|error| failed(&path, "create", error))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| failed(&path, "lock", error.into()))?;
        let packs = dir.join(PACKS);
        make(&packs)?;
        Ok(Machine { packs, _lock: lock })
    }

    /// Mount the image `name` of `store` on `dir`.
    fn mount(
        &self,
        store: &Store,
        name: &str,
        dir: &Path,
        demands: &Demands,
        room: Room<'_>,
    ) -> Result<Loaded> {
        let (sha256, packs) = store.needs_of(name)?;
        let image = store.image(name)?;
        demands.check(&shown_path(&image), &sha256)?;
        let places = packs.iter().map(|pack| self.packs.join(&pack.sha256));
        let places: Vec<PathBuf> = places.collect();
        self.sweep(&places.iter().cloned().collect())?;
        let mut loaded = Loaded::default();
        let text = mountinfo::read()?;
        let there = self.loaded(&text);
        let there: HashMap<_, _> = there.map(|it| (it.mount_point, it.device)).collect();
        let devices = there.values().copied().collect();
        if let Some(mount) = shared(&text, &devices, &sha256, demands) {
            place(mount.as_fd(), dir)?;
            loaded.shared = 1 + packs.len();
            return Ok(loaded);
        }
        let mut needed = Kind::Memfd.size_of(length(&image)?);
        for (pack, place) in packs.iter().zip(&places) {
            if !there.contains_key(place) {
                needed += Kind::Memfd.size_of(length(&store.pack(&pack.sha256))?);
            }
        }
        room(needed)?;
        let mut words = demands.options.clone();
        for (pack, place) in packs.iter().zip(&places) {
            words.push(format!("pack={}", place.display()));
            if there.contains_key(place) {
                loaded.shared += 1;
                continue;
            }
            make(place)?;
            let file = store.pack(&pack.sha256);
            let result = load(&file, &file, place, proof(&pack.sha256), &mut loaded);
            store.loaded(&pack.sha256, &result);
            result?;
        }
        words.extend(proof(&sha256));
        if demands.signed {
            words.push("signature=required".into());
        }
        // mount -a compares the source with fstab.
        let source = store.dir.canonicalize();
        let source = source.map_err(|error| failed(&store.dir, "examine", error))?;
        load(&source, &image, dir, words, &mut loaded)?;
        Ok(loaded)
    }

    /// Return the packs that are mounted, from the content of /proc/self/mountinfo.
    fn loaded<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = Mount<'a>> {
        mounts(text)
            .filter(|mount| mount.kind == b"daxfs" && mount.mount_point.starts_with(&self.packs))
    }

    /// Unmount the packs that no image uses, but those on directories in `keep`. Those with files in use stay.
    fn sweep(&self, keep: &HashSet<PathBuf>) -> Result<Loaded> {
        let text = mountinfo::read()?;
        let used = used_packs(&text);
        let devices = self.loaded(&text);
        let devices: HashMap<_, _> = devices.map(|it| (it.mount_point, it.device)).collect();
        let mut freed = Loaded::default();
        let dir = &self.packs;
        let entries = std::fs::read_dir(dir).map_err(|error| failed(dir, "read", error))?;
        for place in entries.flatten().map(|entry| entry.path()) {
            let is_used = devices.get(&place).is_some_and(|it| used.contains(it));
            if is_used || keep.contains(&place) {
                freed.shared += 1;
                continue;
            }
            let bytes = statvfs(&place).map_or(0, |found| found.f_blocks * found.f_frsize);
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
        if keep.is_empty() {
            // The next call makes them again.
            let _ = std::fs::remove_dir(dir);
            let _ = dir.parent().map(std::fs::remove_dir);
        }
        Ok(freed)
    }
}

/// Return the device numbers of the packs that images use.
fn used_packs(text: &[u8]) -> HashSet<&[u8]> {
    let daxfs = mounts(text).filter(|mount| mount.kind == b"daxfs");
    daxfs.flat_map(|mount| used_by(&mount)).collect()
}

/// Return the device numbers of the packs that the image of `mount` uses.
fn used_by<'a>(mount: &Mount<'a>) -> impl Iterator<Item = &'a [u8]> {
    let options = mount.options.split(|&byte| byte == b',');
    options.filter_map(|option| option.strip_prefix(b"pack="))
}

/// Return another mount of the image with the SHA-256 `sha256`, if it is mounted from a store, as `demands` says.
///
/// `packs` has the device numbers of the packs that were loaded from stores.
fn shared(text: &[u8], packs: &HashSet<&[u8]>, sha256: &str, demands: &Demands) -> Option<OwnedFd> {
    let wanted = MountOptions::parse(&demands.options);
    // Labels belong to all mounts of an image.
    if !wanted.generic.is_empty() {
        return None;
    }
    let digest = format!("digest={sha256}");
    let labels = ["context", "fscontext", "defcontext", "rootcontext"];
    let found = mounts(text).filter(|mount| {
        let has = |wanted: &str| mount.has(wanted);
        let same = mount.kind == b"daxfs" && mount.root == Path::new("/");
        // A pack on a device belongs to somebody else, who can change it.
        let own = |device: &[u8]| packs.contains(device);
        same && has("memfd")
            && has(&digest)
            && (!demands.signed || has("signature=required"))
            && labels.iter().all(|label| mount.option(label).is_none())
            && used_by(mount).all(own)
            && !mount
                .attributes
                .split(|&byte| byte == b',')
                .any(|it| it == b"idmapped")
    });
    let attributes = wanted.attributes | MountAttrFlags::MOUNT_ATTR_RDONLY;
    let mut clones = found.filter_map(|mount| {
        let clone = clone(&mount.mount_point, attributes).ok()?;
        // Something else may be mounted on top of it.
        let device = fstat(&clone).ok()?.st_dev;
        let device = format!("{}:{}", major(device), minor(device));
        (device.as_bytes() == mount.device).then_some(clone)
    });
    clones.next()
}

/// Load the image `file`, and mount it on `dir`, with the source `source`.
fn load(
    source: &Path,
    file: &Path,
    dir: &Path,
    words: impl IntoIterator<Item = String>,
    loaded: &mut Loaded,
) -> Result<()> {
    let words: Vec<String> = words.into_iter().collect();
    daxfs_load::load_as(source, file, dir, Kind::Memfd, &words)?;
    loaded.images += 1;
    loaded.bytes += length(file)?;
    // The file need not be in memory as well.
    if let Ok(file) = File::open(file) {
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
    }
    Ok(())
}

/// Make the directory `path` and those above it, which only root can enter.
fn make(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| failed(path, "make the directory", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_of_mounts() {
        let text = b"1 0 0:1 / /a ro - daxfs base ro,memfd,digest=0,pack=0:2,pack=0:3\n\
            2 0 0:2 / /run/daxfs/1/p/2 ro - daxfs x ro,memfd\n\
            3 0 0:4 / /c ro - ext4 x ro,pack=0:5\n\
            4 0 0:1 / /d ro - daxfs base ro,memfd,digest=0,pack=0:6\n";
        let found: HashSet<&[u8]> = [&b"0:2"[..], b"0:3", b"0:6"].into();
        assert_eq!(used_packs(text), found);
    }
}
