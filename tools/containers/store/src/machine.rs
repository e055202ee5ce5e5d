// SPDX-License-Identifier: GPL-2.0-only

//! The images and packs in this machine's memory, and the overlays of them.
//!
//! Each one is mounted in a directory below `/run/daxfs` whose name has its SHA-256. The kernel's
//! list of mounts says which overlays use it, so nothing needs to be recorded, and a crash leaves
//! nothing that the next call does not find. An overlay keeps its layers, mounted or not.

use crate::metadata::not_ours;
use crate::pack::PackRef;
use crate::{failed, Store, PACKS};
use daxfs_check::digest::hex;
use daxfs_image::error::{Error, Result};
use daxfs_image::text::shown_path;
use daxfs_load::context::explain;
use daxfs_load::mount::{Options, Target};
use daxfs_load::mountinfo::{self, mount_id, mounts, Mount};
use daxfs_load::{unmount::detach, Kind};
use rustix::fs::{flock, lgetxattr, statvfs, FlockOperation, CWD};
use rustix::io::Errno;
use rustix::mount::{
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, move_mount, unmount as umount,
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags,
};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where images and packs are mounted. Only root can enter the directory.
pub(crate) const RUN: &str = "/run/daxfs";

/// Longest value of the attribute [`PACKS`].
const VALUE_MAX: usize = 64 << 10;

/// How an image is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// SHA-256 that the metadata image must have.
    pub digest: Option<String>,
    /// Demand a signature of the metadata image that the kernel trusts.
    pub signed: bool,
    /// Options of the mount: `nosuid`, `nodev`, `noexec` and the like.
    pub options: Vec<String>,
}

/// Images and packs that were loaded into memory or freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Their number.
    pub images: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Number of images and packs that were in memory already.
    pub shared: usize,
}

/// Mount the image `name` of `store` on the directory `dir`. Load it and its packs into memory,
/// unless they are there.
///
/// The kernel compares the metadata image with its SHA-256, and each piece of a pack with its sums
/// before its first use. The list of packs is taken from the memory that was compared.
pub fn mount(store: &Store, name: &str, dir: &Path, demands: &Demands) -> Result<Loaded> {
    let image = store.open_image(name)?;
    let sha256 = hex(&image.superblock.sha256);
    if demands
        .digest
        .as_ref()
        .is_some_and(|wanted| *wanted != sha256)
    {
        let why = format!("has the SHA-256 {sha256}, not the one that was asked for");
        return Err(Error::refused(image.name, why));
    }
    let options = Options::parse(&demands.options);
    if let Some((option, _)) = options.filesystem.first() {
        let why =
            "is not an option of these mounts; use nosuid, nodev, noexec, noatime or nosymfollow";
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
        .layers(store, name, &sha256, demands.signed, &mut loaded)
        .and_then(|(lower, packs)| {
            let set = |key: &str, path: &Path| {
                fsconfig_set_string(fs.as_fd(), key, path.as_os_str())
                    .map_err(|error| explain(&fs, format!("cannot set {key}"), error))
            };
            set("source", Path::new(name))?;
            set("lowerdir+", &lower)?;
            packs.iter().try_for_each(|pack| set("datadir+", pack))?;
            // overlayfs wants two layers, also for an image without objects.
            if packs.is_empty() {
                let empty = machine.dir.join("empty");
                make(&empty)?;
                set("datadir+", &empty)?;
            }
            let fail = |error| explain(&fs, "cannot mount the overlay", error);
            fsconfig_create(fs.as_fd()).map_err(fail)?;
            let flags = FsMountFlags::FSMOUNT_CLOEXEC;
            let attributes = options.attributes | MountAttrFlags::MOUNT_ATTR_RDONLY;
            let mount = fsmount(fs.as_fd(), flags, attributes).map_err(fail)?;
            let flags =
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
            move_mount(mount.as_fd(), "", CWD, dir, flags).map_err(fail)
        });
    // After an error, nothing stays in memory without a user.
    let swept = machine.sweep();
    mounted?;
    swept?;
    Ok(loaded)
}

/// Unmount the image of a store that is mounted on `dir`, and free the layers that no overlay uses.
///
/// Fail if something else is mounted there, or if it is in use.
pub fn unmount(dir: &Path) -> Result<Loaded> {
    let name = shown_path(dir);
    let place = dir.canonicalize();
    let place = place.map_err(|error| Error::system(&name, "cannot unmount", "", error))?;
    let machine = Machine::lock()?;
    let id = mount_id(&place);
    let id = id.map_err(|error| Error::system(&name, "cannot unmount", "", error))?;
    let text = machine.mounts()?;
    let ours = mounts(&text)
        .find(|mount| mount.id == id && mount.place == place)
        .is_some_and(|mount| layers(&mount).next().is_some());
    if !ours {
        let why = "no image of a store is mounted there; umount(8) unmounts other things";
        return Err(Error::refused(name, why));
    }
    detach(&place).map_err(|error| {
        let remedy = match Errno::from_io_error(&error) {
            Some(Errno::BUSY) => "; files are open there, or it is the working directory of a process: fuser -m lists them",
            Some(Errno::PERM) => "; only root can",
            _ => "",
        };
        Error::system(&name, "cannot unmount", remedy, error)
    })?;
    machine.sweep()
}

/// The directory [`RUN`], locked.
struct Machine {
    dir: PathBuf,
    _lock: File,
}

impl Machine {
    /// Wait until no other process mounts or unmounts.
    fn lock() -> Result<Self> {
        let dir = PathBuf::from(RUN);
        make(&dir)?;
        for inner in ["images", "packs"] {
            make(&dir.join(inner))?;
        }
        let path = dir.join("lock");
        let lock = File::create(&path).map_err(|error| failed(&path, "create", error))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| failed(&path, "lock", error.into()))?;
        Ok(Machine { dir, _lock: lock })
    }

    /// Load the image `name` and its packs. Return where they are mounted.
    fn layers(
        &self,
        store: &Store,
        name: &str,
        sha256: &str,
        signed: bool,
        loaded: &mut Loaded,
    ) -> Result<(PathBuf, Vec<PathBuf>)> {
        // An image that was loaded without a signature does not serve those who demand one.
        let (place, option) = match signed {
            true => (format!("{sha256}.signed"), Some("signature=required")),
            false => (sha256.to_owned(), None),
        };
        let lower = self.dir.join("images").join(place);
        let there = self.mounts()?;
        let mut load = |file: &Path, place: &Path, sha256: &str, option| -> Result<()> {
            if mounts(&there).any(|mount| mount.place == place && mount.kind == b"daxfs") {
                loaded.shared += 1;
                return Ok(());
            }
            load_on(file, place, sha256, option)?;
            loaded.images += 1;
            loaded.bytes += size(place);
            Ok(())
        };
        load(&store.image(name)?, &lower, sha256, option)?;
        let mut value = vec![0; VALUE_MAX];
        let packs = match lgetxattr(&lower, PACKS, &mut value) {
            Ok(length) => PackRef::parse(&value[..length]),
            Err(_) => None,
        };
        let packs = packs.ok_or_else(|| not_ours(name))?;
        let mut places = Vec::new();
        for pack in packs {
            let place = self.dir.join("packs").join(&pack.sha256);
            load(&store.pack(&pack.id), &place, &pack.sha256, None)?;
            places.push(place);
        }
        Ok((lower, places))
    }

    /// Unmount the images and packs that no overlay uses. Those whose files are in use stay.
    fn sweep(&self) -> Result<Loaded> {
        let text = self.mounts()?;
        let used: HashSet<PathBuf> = mounts(&text)
            .flat_map(|mount| layers(&mount).collect::<Vec<_>>())
            .collect();
        let mut freed = Loaded::default();
        for inner in ["images", "packs"] {
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
        Ok(freed)
    }

    fn mounts(&self) -> Result<Vec<u8>> {
        let path = Path::new(mountinfo::PATH);
        std::fs::read(path).map_err(|error| failed(path, "read", error))
    }
}

/// Load the image file `file` with this SHA-256 and mount it on `place`, with one more option.
fn load_on(file: &Path, place: &Path, sha256: &str, option: Option<&str>) -> Result<()> {
    make(place)?;
    let digest = format!("digest={sha256}");
    let words = [&digest, "verify=lazy"].into_iter().chain(option);
    let words: Vec<String> = words.map(String::from).collect();
    daxfs_load::load(file, place, Kind::Memfd, &words)
}

/// Return the directories below [`RUN`] that are layers of `mount`, if it is an overlay.
fn layers<'a>(mount: &Mount<'a>) -> impl Iterator<Item = PathBuf> + 'a {
    let options = match mount.kind {
        b"overlay" => mount.options,
        _ => b"",
    };
    options.split(|&byte| byte == b',').filter_map(|option| {
        let value = option
            .strip_prefix(b"lowerdir+=")
            .or_else(|| option.strip_prefix(b"datadir+="))?;
        let path = Path::new(OsStr::from_bytes(value));
        path.starts_with(RUN).then(|| path.into())
    })
}

/// Return the bytes of the image that is mounted on `place`, or 0.
fn size(place: &Path) -> u64 {
    statvfs(place).map_or(0, |found| found.f_blocks * found.f_frsize)
}

fn make(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(failed(path, "make the directory", error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_overlays() {
        let text = b"1 0 0:1 / /a ro - overlay base ro,lowerdir+=/run/daxfs/images/1,datadir+=/run/daxfs/packs/2,datadir+=/run/daxfs/packs/3,redirect_dir=on\n\
            2 0 0:2 / /b ro - overlay x ro,lowerdir=/run/daxfs/images/4:/x\n\
            3 0 0:3 / /c ro - ext4 x ro,lowerdir+=/run/daxfs/images/5\n\
            4 0 0:4 / /d ro - overlay x ro,lowerdir+=/run/daxfs-2/images/6,upperdir=/u\n";
        let found: Vec<PathBuf> = mounts(text)
            .flat_map(|mount| layers(&mount).collect::<Vec<_>>())
            .collect();
        let expected = ["images/1", "packs/2", "packs/3"];
        assert_eq!(found, expected.map(|name| Path::new(RUN).join(name)));
    }
}
