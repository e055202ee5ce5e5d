// SPDX-License-Identifier: GPL-2.0-only

//! Reads a daxfs image into a tree.

use super::blob::Blob;
use crate::writer::build::Builder;
use crate::writer::origin::Origin;
use crate::writer::tree::{Attributes, Kind, Location, Name, Node, NodeId, ROOT};
use daxfs_check as check;
use daxfs_files::region::Region;
use daxfs_files::{Error, Result};
use daxfs_reader::{self as image, Content, FileType, Image, Inode, Memory, Superblock};

/// Add the files of the image in `blob` to the tree. With `metadata`, files without data stay such.
pub(super) fn read(builder: &mut Builder, blob: &Blob, metadata: bool) -> Result<()> {
    let path = &blob.path;
    let memory = Region::file(blob.container()?.file, blob.start, blob.size());
    if let Some(finding) = check::first(&memory) {
        return Err(Error::image(path, finding));
    }
    let superblock = Superblock::load(&memory).map_err(|error| Error::image(path, error))?;
    let image = Image::new(&memory, &superblock);

    let origin = builder.tree.origins.len() as u32;
    let container = blob.container()?;
    builder.tree.origins.push(Origin::file(path, container));
    let mut importer = Importer {
        builder,
        image: &image,
        blob,
        origin,
        metadata,
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

struct Importer<'a, M> {
    builder: &'a mut Builder,
    image: &'a Image<'a, M>,
    blob: &'a Blob,
    origin: u32,
    metadata: bool,
    /// The node of each inode that was read.
    nodes: Vec<Option<NodeId>>,
}

impl<M: Memory> Importer<'_, M> {
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
            let present = match directory {
                true => self.builder.find(id, name),
                false => self.nodes[child.ino as usize],
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
        let kind = match inode.content {
            Content::Regular { data } => Kind::Regular {
                size: inode.size,
                location: Location::Part(self.blob.start + data),
            },
            Content::MetadataOnly if self.metadata => Kind::Regular {
                size: inode.size,
                location: Location::Nowhere,
            },
            Content::MetadataOnly | Content::InPack { .. } => {
                let data = inode.data(self.image.superblock());
                data.map_err(|error| self.failed(error))?;
                Kind::Fifo
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
            origin: self.origin,
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
