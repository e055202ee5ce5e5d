// SPDX-License-Identifier: GPL-2.0-only

//! Mounts images of stores.
//!
//! Images of a store share packs in memory: the store is their domain in the kernel. Missing packs
//! are loaded. Nothing is recorded, so a crash leaves nothing behind.

use crate::demand::hand_over;
use crate::files::failed;
use crate::store::Store;
use daxfs_image::error::{Error, Result};
use daxfs_image::text::shown_path;
use daxfs_load::mount::{examine, place, MountOptions};
use daxfs_load::{Kind, Loaded, Loading, Room};
use std::os::fd::AsFd;
use std::path::Path;

/// How to mount an image.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    /// Required SHA-256 of the image.
    pub digest: Option<String>,
    /// Whether to require a signature that the kernel trusts.
    pub signed: bool,
    /// Mount options: `nosuid`, `nodev`, `noexec` and the like.
    pub options: Vec<String>,
    /// Starts a server for the store if it has none. If given, packs are loaded on first use.
    pub on_demand: Option<fn(&Path) -> Result<()>>,
}

/// Mounts the image `name` of `store` on the directory `dir`. Loads the image and those of its
/// packs that are not in memory, after calling `room` with the bytes to load.
///
/// The kernel compares the image with its SHA-256, and each piece of the image and its packs with
/// its sum before the piece is first used.
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
    let (sha256, _) = store.needs_of(name)?;
    let image = store.image(name)?;
    let wanted = demands.digest.as_ref();
    if wanted.is_some_and(|wanted| *wanted != sha256) {
        let why = format!("has the SHA-256 {sha256}, not the one that was asked for");
        return Err(Error::refused(shown_path(&image), why));
    }
    let mut words = demands.options.clone();
    words.extend([format!("digest={sha256}"), "verify=lazy".into()]);
    words.extend(demands.signed.then(|| "signature=required".into()));
    // mount -a compares the source with fstab.
    let source = store.dir.canonicalize();
    let loading = Loading {
        image: &image,
        source: &source.map_err(|error| failed(&store.dir, "examine", error))?,
        kind: Kind::Memfd,
        words: &words,
        room,
        on_demand: demands.on_demand.is_some(),
    };
    let (mount, _, loaded) = loading.make()?;
    if let Some(start) = demands.on_demand {
        hand_over(loading.source, mount.as_fd(), start)?;
    }
    place(mount.as_fd(), dir)?;
    Ok(loaded)
}
