// SPDX-License-Identifier: GPL-2.0-only

//! Images of layers: a store of them (store.rst), and memory that they are loaded into.
//!
//! The image of a committed snapshot has the number of its directory as its name. It has all files that a container sees,
//! also files of lower layers, so an overlay of it has one lower layer.

use crate::config::Config;
use crate::error::{warn, Error, Result};
use crate::loader::Loader;
use crate::record::Layer;
use crate::room::Room;
use crate::tree::remove_tree;
use daxfs_files::{Output, Overwrite, Silent};
use daxfs_store::{Exported, Store};
use mkdaxfs::input::{read, Input};
use mkdaxfs::writer::build::Builder;
use mkdaxfs::writer::tree::{Kind, Node, Tree, ROOT};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// The images of all layers.
pub struct Images {
    store: Store,
    /// Where they are loaded.
    pub memory: Box<dyn Loader>,
    /// The memory that there is for them.
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
    /// Fails if another process uses it.
    pub fn open(config: &Config, memory: Box<dyn Loader>) -> Result<Self> {
        Ok(Images {
            store: Store::create(&config.root.join("store"))?,
            room: Room::new(config),
            memory,
        })
    }

    /// Checks that there is memory to make the image of the snapshot in `dir`: `inodes` on top of the image of the snapshot
    /// in `below`. Without it the kernel kills this process, and the next one, which makes the same image.
    pub fn check_room(&self, dir: &Path, below: Option<&Path>, inodes: u64) -> Result<()> {
        let image = below.map(|below| self.store.image(name(below)));
        let below = match image {
            Some(image) => image?.metadata().map_or(0, |it| it.len()),
            None => 0,
        };
        let needed = inodes * MAKING[0] + below * MAKING[1];
        Ok(self.room.check_making(name(dir), needed)?)
    }

    /// Makes the image of the snapshot in `dir`: what `merge` adds to the image of the snapshot in `below`.
    pub fn make(
        &self,
        dir: &Path,
        below: Option<&Path>,
        merge: impl FnOnce(&mut Builder) -> Result<()>,
    ) -> Result<Layer> {
        if let Some(below) = below {
            self.parts(below)?;
        }
        let mut inodes = 0;
        let added = self.store.add_layer(
            name(dir),
            below.map(name),
            |builder| -> Result<()> {
                let before = builder.tree.nodes.len();
                merge(builder)?;
                let layer = &builder.tree.nodes[before..];
                inodes = layer.len() as u64;
                self.check_room(dir, below, inodes)?;
                // A sparse file takes no room on disk, and as much memory and time as another one.
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

    /// Adds an image of another store as the image of the snapshot in `dir`: containerd's store of content has it and its
    /// packs with these digests. Returns it, and its digest and size.
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

    /// Loads the image of the snapshot in `dir`, which must have the SHA-256 `sha256`, and mounts it in its directory.
    pub fn load(&self, dir: &Path, sha256: &str) -> Result<()> {
        // The kernel compares the image with this one.
        let needs = self.store.needs_of(name(dir));
        let (found, _) = needs.map_err(|error| Error::in_snapshot(dir, error))?;
        if found != sha256 {
            return Err(Error::Damaged {
                path: self.store.image(name(dir))?,
                why: format!("has the SHA-256 {found}, and its snapshot {sha256}; restore it from a copy, or remove the snapshot"),
            });
        }
        self.memory.load(&self.store, name(dir), &dir.join("layer"))
    }

    /// Returns the bytes of the image of the snapshot in `dir` and of its packs, by SHA-256. Fails if one is not in the store.
    pub fn parts(&self, dir: &Path) -> Result<BTreeMap<String, u64>> {
        let parts = self.store.parts(name(dir));
        let parts = parts.map_err(|error| Error::in_snapshot(dir, error))?;
        Ok(parts.into_iter().collect())
    }

    /// Returns whether the image of the snapshot in `dir` is loaded.
    pub fn is_loaded(&self, dir: &Path) -> bool {
        self.memory.is_loaded(&dir.join("layer"))
    }

    /// Unloads the image of the snapshot in `dir`, if `unused` returns true and no process has its files open.
    pub fn evict(&self, dir: &Path, unused: &dyn Fn() -> bool) -> Result<bool> {
        self.memory.evict(&dir.join("layer"), unused)
    }

    /// Unloads and removes the image of the snapshot in `dir`, if it has one.
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
        if let Err(error) = self.store.gc(&mut |error| warn(&error)) {
            warn(&error);
        }
    }

    /// Removes images that the snapshots in the directories `dirs` do not have.
    pub fn keep(&self, dirs: &HashSet<&Path>) -> Result<()> {
        let known: HashSet<&str> = dirs.iter().map(|dir| name(dir)).collect();
        // Other names are not ours.
        let is_ours = |image: &String| image.bytes().all(|byte| byte.is_ascii_digit());
        for image in self.store.images()? {
            if is_ours(&image) && !known.contains(&*image) {
                self.store.remove(&image)?;
            }
        }
        Ok(())
    }
}

/// Returns the bytes that the content of `layer` takes at least: files of different sizes have nothing in common.
fn least_size(layer: &[Node]) -> u64 {
    let sizes = layer.iter().map(|node| match node.kind {
        Kind::Regular { size, .. } => size,
        _ => 0,
    });
    let sizes: HashSet<u64> = sizes.collect();
    sizes.into_iter().fold(0, u64::saturating_add)
}

/// Reads the directory `upper`, the upper layer of an overlay, with names for temporary files in `scratch`.
pub fn upper(upper: &Path, scratch: &Path) -> Result<Tree> {
    let input = mkdaxfs::input::Options {
        one_file_system: true,
        ..mkdaxfs::input::Options::new(scratch)
    };
    let mut tree = read(
        &[Input::Directory(upper.into())],
        &input,
        &Silent,
        &mut |warning| warn(&warning),
    )?;
    forget_unpacking(&mut tree, upper);
    Ok(tree)
}

/// Gives the root directory the time of its newest entry, if it changed since it was made: few archives
/// have an entry for it, so its time would be the time of unpacking, and differ on each machine.
fn forget_unpacking(tree: &mut Tree, upper: &Path) {
    let changed =
        |status: std::fs::Metadata| std::io::Result::Ok(status.modified()? >= status.created()?);
    // Some filesystems have no birth times.
    if !upper.metadata().and_then(changed).unwrap_or(false) {
        return;
    }
    let Kind::Directory(entries) = &tree.nodes[ROOT as usize].kind else {
        return;
    };
    // A whiteout also has the time of unpacking.
    let nodes = entries.iter().map(|entry| &tree.nodes[entry.node as usize]);
    let times = nodes
        .filter(|node| !node.kind.is_whiteout())
        .map(|node| node.attributes.mtime);
    tree.nodes[ROOT as usize].attributes.mtime = times.max().unwrap_or_default();
}
