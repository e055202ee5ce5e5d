// SPDX-License-Identifier: GPL-2.0-only

//! Images of layers: their store (store.rst), and the memory that they are loaded into.
//!
//! A committed snapshot's image is named after its numbered directory. It contains all files that a
//! container sees, including lower layers', so an overlay needs only one lower layer.

use crate::config::Config;
use crate::error::{warn, warn_of, Error, Result};
use crate::loader::Loader;
use crate::record::{Layer, Snapshot, State};
use crate::room::Room;
use crate::tree::remove_tree;
use daxfs_files::digest::hex;
use daxfs_files::{Output, Overwrite, Silent};
use daxfs_image::source::Opened;
use daxfs_store::{Exported, Store};
use mkdaxfs::input::{read, Input};
use mkdaxfs::writer::build::Builder;
use mkdaxfs::writer::tree::{Kind, Node, Tree, ROOT};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// The images of all layers.
pub struct Images {
    store: Store,
    /// Loads the images.
    pub memory: Box<dyn Loader>,
    /// The memory available for them.
    room: Room,
}

/// Memory to budget for each inode of a layer, and for each byte of the image below, while an image
/// is made.
const MAKING: [u64; 2] = [1024, 4];

/// Returns the name of the image of the snapshot in `dir`.
fn name(dir: &Path) -> &str {
    let name = dir.file_name().and_then(|name| name.to_str());
    name.unwrap_or_default()
}

impl Images {
    /// Opens the store of the snapshots in `config.root`.
    ///
    /// Fails if another process uses the store.
    pub fn open(config: &Config, memory: Box<dyn Loader>) -> Result<Self> {
        Ok(Images {
            store: Store::create(&config.root.join("store"))?,
            room: Room::new(config),
            memory,
        })
    }

    /// Checks that there is memory to add `inodes` to the image of `below` for the snapshot in
    /// `dir`. Without it, the kernel would kill this process, and after a restart again.
    pub fn check_room(&self, dir: &Path, below: Option<&Snapshot>, inodes: u64) -> Result<()> {
        let image = below.map(|below| self.store.image(name(&below.dir)));
        let below = match image {
            Some(image) => image?.metadata().map_or(0, |it| it.len()),
            None => 0,
        };
        let needed = inodes * MAKING[0] + below * MAKING[1];
        Ok(self.room.check_making(name(dir), needed)?)
    }

    /// Builds the image of the snapshot in `dir` from what `merge` adds to the image of `below`.
    pub fn make(
        &self,
        dir: &Path,
        below: Option<&Snapshot>,
        merge: impl FnOnce(&mut Builder) -> Result<()>,
    ) -> Result<Layer> {
        if let Some(below) = below {
            self.parts(&below.dir)?;
        }
        let mut inodes = 0;
        let added = self.store.add_layer(
            name(dir),
            below.map(|below| name(&below.dir)),
            |builder| -> Result<()> {
                // The builder's files were read from that image.
                if let Some(below) = below {
                    if let State::Committed(layer) = &below.record.state {
                        let opened = Opened::open(&self.store.image(name(&below.dir))?)?;
                        let found = hex(&opened.superblock.sha256);
                        self.check(&below.dir, &found, &layer.sha256)?;
                    }
                }
                let before = builder.tree.nodes.len();
                merge(builder)?;
                let layer = &builder.tree.nodes[before..];
                inodes = layer.len() as u64;
                self.check_room(dir, below, inodes)?;
                // A sparse file occupies no disk, but as much memory and time as any other file.
                Ok(self.room.check(name(dir), least_size(layer), true)?)
            },
            &|path| Output::over(path, Overwrite::new(true)),
            &Silent,
        )?;
        Ok(Layer {
            size: added.written,
            inodes,
            sha256: added.sha256,
        })
    }

    /// Adds another store's image as the image of the snapshot in `dir`. containerd's content store
    /// has the image and its packs with these digests. Returns the image, and its digest and size.
    pub fn import(
        &self,
        dir: &Path,
        content: &Path,
        digests: &[String],
    ) -> Result<(Layer, (String, u64))> {
        let exported = Exported::of(content, digests)?;
        let mut sizes = exported.sizes();
        let image = sizes.next().unwrap_or_default();
        self.room.check_making(name(dir), image * MAKING[1])?;
        self.room
            .check(name(dir), image + sizes.sum::<u64>(), true)?;
        let create = |path: &Path| Output::over(path, Overwrite::new(true));
        let added = self.store.import(name(dir), &exported, &create, &Silent)?;
        let layer = Layer {
            size: added.written,
            inodes: self.store.lower_inodes(name(dir))?,
            sha256: added.sha256,
        };
        Ok((layer, (digests.first().cloned().unwrap_or_default(), image)))
    }

    /// Checks that there is memory to load a pack of `size` bytes.
    pub fn check_pack(&self, size: u64) -> Result<()> {
        Ok(self.room.check("with this pack", size, false)?)
    }

    /// Loads the image of the snapshot in `dir`, checks its SHA-256, and mounts it there.
    pub fn load(&self, dir: &Path, sha256: &str) -> Result<()> {
        // The kernel compares the image with this SHA-256.
        let needs = self.store.needs_of(name(dir));
        let (found, _) = needs.map_err(|error| Error::in_snapshot(dir, error))?;
        self.check(dir, &found, sha256)?;
        self.memory.load(&self.store, name(dir), &dir.join("layer"))
    }

    /// Checks that the image `found` has the SHA-256 `sha256` of the snapshot in `dir`.
    fn check(&self, dir: &Path, found: &str, sha256: &str) -> Result<()> {
        if found != sha256 {
            return Err(Error::Damaged {
                path: self.store.image(name(dir))?,
                why: format!("has the SHA-256 {found}, and its snapshot {sha256}; restore it from a copy, or remove the snapshot"),
            });
        }
        Ok(())
    }

    /// Returns the sizes of the image of `dir` and of its packs, by SHA-256. Fails if one is
    /// missing.
    pub fn parts(&self, dir: &Path) -> Result<BTreeMap<String, u64>> {
        let parts = self.store.parts(name(dir));
        let parts = parts.map_err(|error| Error::in_snapshot(dir, error))?;
        Ok(parts.into_iter().collect())
    }

    /// Returns whether the image of the snapshot in `dir` is loaded.
    pub fn is_loaded(&self, dir: &Path) -> bool {
        self.memory.is_loaded(&dir.join("layer"))
    }

    /// Unloads the image of the snapshot in `dir` if `unused` returns true and its files are
    /// closed.
    pub fn evict(&self, dir: &Path, unused: &dyn Fn() -> bool) -> Result<bool> {
        self.memory.evict(&dir.join("layer"), unused)
    }

    /// Unloads and removes the image of the snapshot in `dir`, if any.
    pub fn forget(&self, dir: &Path) -> Result<()> {
        let layer = dir.join("layer");
        self.memory.unload(&layer)?;
        remove_tree(&layer)?;
        if self.store.image(name(dir))?.exists() {
            self.store.remove(name(dir))?;
        }
        Ok(())
    }

    /// Removes the packs that no image needs.
    pub fn collect(&self) {
        warn_of(self.store.gc(&mut |error| warn(&error)));
    }

    /// Removes images that do not belong to the snapshots in the directories `dirs`.
    pub fn keep(&self, dirs: &HashSet<&Path>) -> Result<()> {
        let known: HashSet<&str> = dirs.iter().map(|dir| name(dir)).collect();
        // Images with other names are not ours.
        let is_ours = |image: &String| image.bytes().all(|byte| byte.is_ascii_digit());
        for image in self.store.images()? {
            if is_ours(&image) && !known.contains(&*image) {
                self.store.remove(&image)?;
            }
        }
        Ok(())
    }
}

/// Returns a lower bound for the size of `layer`, since files of different sizes share nothing.
fn least_size(layer: &[Node]) -> u64 {
    let sizes = layer.iter().map(|node| match node.kind {
        Kind::Regular { size, .. } => size,
        _ => 0,
    });
    let sizes: HashSet<u64> = sizes.collect();
    sizes.into_iter().fold(0, u64::saturating_add)
}

/// Reads the directory `upper`, an overlay's upper layer. `scratch` is for temporary files.
pub fn upper(upper: &Path, scratch: &Path) -> Result<Tree> {
    let input = mkdaxfs::input::Options {
        one_file_system: true,
        warn: &|warning| warn(&warning),
        ..mkdaxfs::input::Options::new(scratch)
    };
    let mut tree = read(&[Input::Directory(upper.into())], &input)?;
    forget_unpacking(&mut tree, upper);
    Ok(tree)
}

/// Sets the root directory's time to that of its newest entry, if it has changed since its
/// creation. Few archives have an entry for the root, so it would keep the time of unpacking, which
/// varies.
fn forget_unpacking(tree: &mut Tree, upper: &Path) {
    let changed =
        |status: std::fs::Metadata| std::io::Result::Ok(status.modified()? >= status.created()?);
    // Some filesystems lack birth times.
    if !upper.metadata().and_then(changed).unwrap_or(false) {
        return;
    }
    let Kind::Directory(entries) = &tree.nodes[ROOT as usize].kind else {
        return;
    };
    // A whiteout has the time of unpacking, too.
    let nodes = entries.iter().map(|entry| &tree.nodes[entry.node as usize]);
    let times = nodes
        .filter(|node| !node.kind.is_whiteout())
        .map(|node| node.attributes.mtime);
    tree.nodes[ROOT as usize].attributes.mtime = times.max().unwrap_or_default();
}
