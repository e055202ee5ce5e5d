// SPDX-License-Identifier: GPL-2.0-only

//! Reads a daxfs image into a tree.

use super::blob::{Blob, Raw};
use crate::writer::build::Builder;
use crate::writer::origin::Origin;
use crate::writer::tree::{Attributes, Kind, Location, Name, Node, NodeId, ROOT};
use daxfs_check as check;
use daxfs_files::digest::hex;
use daxfs_files::region::Region;
use daxfs_files::{shown_path, Error, Result};
use daxfs_reader::{self as image, Content, FileType, Image, Inode, Superblock};
use std::path::{Path, PathBuf};

/// Adds the files of the image in `blob` to the tree. `packs` are its pack files, in any order.
pub(super) fn read(builder: &mut Builder, blob: &Blob, packs: &[PathBuf]) -> Result<()> {
    let path = &blob.path;
    let opened = open(blob)?;
    let (memory, superblock) = &opened;
    if let Some(finding) = check::first(memory) {
        return Err(Error::image(path, finding));
    }
    let image = Image::new(memory, superblock);

    let origin = builder.tree.origins.len() as u32;
    let container = blob.container()?;
    builder.tree.origins.push(Origin::file(path, container));
    let mut opened = Vec::with_capacity(packs.len());
    for path in packs {
        let Raw::Blob(blob) = Raw::open(path)? else {
            return Err(Error::refused(path, "expected a pack, found a pipe"));
        };
        builder
            .tree
            .origins
            .push(Origin::file(path, blob.container()?));
        opened.push(open(&blob)?);
    }
    let mut packs = Vec::new();
    for wanted in image.packs().map_err(|error| Error::image(path, error))? {
        let mut opened = (origin + 1..).zip(&opened);
        let found = opened.find(|(_, (_, superblock))| superblock.is_pack(&wanted));
        let Some((origin, (memory, superblock))) = found else {
            return Err(no_pack(path, &wanted.sha256));
        };
        packs.push((origin, memory, superblock));
    }
    let mut importer = Importer {
        builder,
        image: &image,
        blob,
        origin,
        packs: &packs,
        nodes: vec![None; superblock.inode_count() as usize + 1],
    };
    let root = image.root().map_err(|error| importer.failed(error))?;
    let attributes = importer.attributes(&root)?;
    importer.builder.describe(ROOT, attributes, origin);
    let mut pending = vec![(ROOT, root)];
    while let Some((id, inode)) = pending.pop() {
        importer.directory(id, &inode, &mut pending)?;
    }
    Ok(())
}

fn open(blob: &Blob) -> Result<(Region, Superblock)> {
    let memory = Region::file(blob.container()?.file, blob.start, blob.size());
    let superblock = Superblock::load(&memory);
    let superblock = superblock.map_err(|error| Error::image(&blob.path, error))?;
    Ok((memory, superblock))
}

/// Returns the error for the image `path` whose pack `sha256` is missing.
fn no_pack(path: &Path, sha256: &[u8; 32]) -> Error {
    let image = match shown_path(path) {
        name if name == "standard input" => "--pack PACK -".into(),
        name => name,
    };
    let why = format!(
        "has file data in the pack with the SHA-256 {}, which mkdaxfs does not read; daxfs does: daxfs extract --tar {image} - | mkdaxfs - IMAGE",
        hex(sha256)
    );
    Error::refused(path, why)
}

struct Importer<'a> {
    builder: &'a mut Builder,
    image: &'a Image<'a, Region>,
    blob: &'a Blob,
    origin: u32,
    /// The packs of the image, each with its origin.
    packs: &'a [(u32, &'a Region, &'a Superblock)],
    /// The node of each inode read so far.
    nodes: Vec<Option<NodeId>>,
}

impl Importer<'_> {
    fn failed(&self, error: image::Error) -> Error {
        Error::image(&self.blob.path, error)
    }

    fn directory(
        &mut self,
        id: NodeId,
        inode: &Inode,
        pending: &mut Vec<(NodeId, Inode)>,
    ) -> Result<()> {
        let Some(directory) = inode.directory() else {
            return Ok(());
        };
        let image = self.image;
        let mut entries = image.entries(&directory, 0);
        while let Some(entry) = entries.next() {
            let (entry, name) = entry.map_err(|error| self.failed(error))?;
            let child = image
                .entry_inode(&directory, &entry)
                .map_err(|error| self.failed(error))?;
            let kept = self.builder.tree.keep_name(name);
            let directory = child.file_type == FileType::Directory;
            let present = if directory {
                self.builder.find(id, name)
            } else {
                self.nodes[child.ino as usize]
            };
            let node = match present.filter(|&id| !directory || self.builder.is_directory(id)) {
                Some(node) => node,
                None => self.add(id, kept, &child)?,
            };
            self.builder.set(id, kept, node);
            if directory {
                let attributes = self.attributes(&child)?;
                self.builder.describe(node, attributes, self.origin);
                pending.push((node, child));
            }
        }
        Ok(())
    }

    fn add(&mut self, parent: NodeId, name: Name, inode: &Inode) -> Result<NodeId> {
        let origin = match inode.content {
            Content::InPack { pack, .. } => self.packs[pack as usize].0,
            _ => self.origin,
        };
        let source = self.image.source(inode, |pack| {
            let (_, memory, superblock) = *self.packs.get(pack as usize)?;
            Some(Image::new(memory, superblock))
        });
        let (_, source) = source.map_err(|error| self.failed(error))?;
        let kind = match source.content {
            Content::Regular { data } => {
                let start = if origin == self.origin {
                    self.blob.start
                } else {
                    0
                };
                Kind::Regular {
                    size: inode.size,
                    location: Location::Part(start + data),
                }
            }
            Content::InPack { .. } => {
                let superblock = self.image.superblock();
                return Err(self.failed(source.unsuitable_original(superblock)));
            }
            Content::Directory(_) => Kind::Directory(Vec::new()),
            Content::Symlink { .. } => {
                let target = self
                    .image
                    .target(inode)
                    .map_err(|error| self.failed(error))?;
                Kind::Symlink(target.unwrap_or_default().into())
            }
            Content::Device { major, minor } => Kind::Device {
                file_type: inode.file_type,
                major,
                minor,
            },
            Content::Special if inode.file_type == FileType::Fifo => Kind::Fifo,
            Content::Special => Kind::Socket,
        };
        let attributes = self.attributes(inode)?;
        let id = self.builder.add(Node {
            attributes,
            parent,
            name,
            origin,
            kind,
        })?;
        self.nodes[inode.ino as usize] = Some(id);
        Ok(id)
    }

    fn attributes(&mut self, inode: &Inode) -> Result<Attributes> {
        let set = self
            .image
            .xattrs(inode)
            .map_err(|error| self.failed(error))?;
        Ok(Attributes {
            permissions: inode.permissions(),
            uid: inode.uid,
            gid: inode.gid,
            mtime: (inode.mtime_sec, inode.mtime_nsec),
            xattrs: self.builder.tree.keep_xattrs(set),
        })
    }
}
