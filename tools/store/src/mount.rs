// SPDX-License-Identifier: GPL-2.0-only

//! Mounting images of stores.
//!
//! The kernel finds the packs of an image among the mounted images, by their SHA-256, and keeps them while the image is
//! mounted, in any mount namespace. So the packs that no image has brought into memory are mounted in no directory, and their
//! descriptors closed when the image is mounted. Nothing is recorded, and a crash leaves nothing.

use crate::files::{failed, length};
use crate::store::{Loaded, Store};
use daxfs_files::make_room;
use daxfs_image::error::{Error, Result};
use daxfs_image::text::shown_path;
use daxfs_load::mount::{examine, place, MountOptions};
use daxfs_load::Kind;
use rustix::fs::{fadvise, flock, Advice, FlockOperation, OFlags};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Locked by those who load packs, so that each pack is loaded once.
const LOCK: &str = "/run/daxfs.lock";

/// Where the kernel shows mounted images.
const MOUNTED: &str = "/sys/fs/daxfs";

/// Number of times that packs are looked for: other mounts may give up some in between.
const TRIES: usize = 5;

/// How an image is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// SHA-256 that the image must have.
    pub digest: Option<String>,
    /// Demand a signature of the image that the kernel trusts.
    pub signed: bool,
    /// Options of the mount: `nosuid`, `nodev`, `noexec` and the like.
    pub options: Vec<String>,
}

/// Checks whether this many bytes can be loaded, and fails if there is no room.
pub type Room<'a> = &'a dyn Fn(u64) -> Result<()>;

/// Returns the mount options with which the kernel compares an image with its SHA-256, piece by piece.
pub fn proof(sha256: &str) -> [String; 2] {
    [format!("digest={sha256}"), "verify=lazy".into()]
}

/// Mounts the image `name` of `store` on the directory `dir`. Loads it, and its packs that are not in memory. Before that,
/// calls `room` with the bytes to load.
///
/// The kernel compares the image with its SHA-256, its packs with the SHA-256 that it names, and each piece of a pack
/// with its sums before its first use.
pub fn mount(
    store: &Store,
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
    let (mount, loaded) = make(store, name, demands, room)?;
    place(mount.as_fd(), dir)?;
    Ok(loaded)
}

/// Makes a mount of the image `name` of `store`, in no directory yet.
fn make(store: &Store, name: &str, demands: &Demands, room: Room<'_>) -> Result<(OwnedFd, Loaded)> {
    let (sha256, packs) = store.needs_of(name)?;
    let image = store.image(name)?;
    if demands
        .digest
        .as_ref()
        .is_some_and(|wanted| *wanted != sha256)
    {
        let why = format!("has the SHA-256 {sha256}, not the one that was asked for");
        return Err(Error::refused(shown_path(&image), why));
    }
    let mut words = demands.options.clone();
    words.extend(proof(&sha256));
    words.extend(demands.signed.then(|| "signature=required".into()));
    // mount -a compares the source with fstab.
    let source = store.dir.canonicalize();
    let source = source.map_err(|error| failed(&store.dir, "examine", error))?;
    make_room(packs.len());
    // Their descriptors keep them in memory until the image does.
    let mut parts = HashMap::new();
    let mut loaded = Loaded::default();
    for left in (0..TRIES).rev() {
        let lock = lock()?;
        let in_memory = in_memory();
        let sums = packs.iter().map(|pack| &pack.sha256);
        let (known, others): (Vec<_>, Vec<_>) = sums.partition(|sum| in_memory.contains(*sum));
        let missing: Vec<&String> = others
            .into_iter()
            .filter(|sum| !parts.contains_key(*sum))
            .collect();
        let mut needed = Kind::Memfd.size_of(length(&image)?);
        for sum in &missing {
            needed += Kind::Memfd.size_of(length(&store.pack(sum))?);
        }
        room(needed)?;
        for sum in missing {
            let file = store.pack(sum);
            let part = load(&file, &file, &proof(sum), &mut loaded);
            store.loaded(sum, &part);
            parts.insert(sum, part?);
        }
        drop(lock);
        match load(&source, &image, &words, &mut loaded) {
            Ok(mount) => {
                loaded.shared = packs.len() - parts.len();
                return Ok((mount, loaded));
            }
            Err(error) => {
                let now = self::in_memory();
                if left == 0 || known.into_iter().all(|sum| now.contains(sum)) {
                    return Err(error);
                }
            }
        }
    }
    unreachable!("the last try returns")
}

/// Waits until no other process loads packs.
fn lock() -> Result<File> {
    let path = Path::new(LOCK);
    let mut options = File::options();
    let options = options.write(true).create(true).mode(0o600);
    let flags = OFlags::NOFOLLOW.bits() as i32;
    let lock = options.custom_flags(flags).open(path);
    let lock = lock.map_err(|error| failed(path, "create", error))?;
    flock(&lock, FlockOperation::LockExclusive)
        .map_err(|error| failed(path, "lock", error.into()))?;
    Ok(lock)
}

/// Returns the SHA-256 of each image that is in a sealed memfd and was compared with it. A kernel without statistics shows
/// none, so that packs are loaded that it does not need.
fn in_memory() -> HashSet<String> {
    let entries = std::fs::read_dir(MOUNTED).into_iter().flatten().flatten();
    let digests =
        entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("digest")).ok());
    digests.map(|digest| digest.trim_end().to_owned()).collect()
}

/// Loads the image `file`, and makes a mount with the source `source`, in no directory yet.
fn load(source: &Path, file: &Path, words: &[String], loaded: &mut Loaded) -> Result<OwnedFd> {
    let (mount, _) = daxfs_load::load(source, file, Kind::Memfd, words)?;
    loaded.images += 1;
    loaded.bytes += length(file)?;
    // The file need not be in memory as well.
    if let Ok(file) = File::open(file) {
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
    }
    Ok(mount)
}
