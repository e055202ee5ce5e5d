// SPDX-License-Identifier: GPL-2.0-only

//! Packs: images of objects.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use daxfs_files::digest::hex;
use daxfs_files::memory::Storage;
use daxfs_files::region::Region;
use daxfs_files::Output;
use daxfs_image::error::{Error, Result};
use daxfs_image::reader::Reader;
use daxfs_image::source::Opened;
use daxfs_reader::Content;
use mkdaxfs::writer::build::Builder;
use mkdaxfs::writer::options::Options;
use mkdaxfs::writer::origin::Origin;
use mkdaxfs::writer::tree::{self, Attributes, Kind, Node, NodeId, Tree, ROOT};
use std::path::Path;

/// SHA-256 of an object's content.
pub type Sum = [u8; 32];

const BUFFER: usize = 64 << 10;

/// A reference to a pack, as in an image's table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackRef {
    /// SHA-256 of the pack, which is its name, in hexadecimal digits.
    pub sha256: String,
    /// Bytes of the pack.
    pub size: u64,
}

/// The place of an object in a pack.
#[derive(Clone, Copy)]
pub struct Object {
    /// Its bytes.
    pub size: u64,
    /// The offset of its data.
    pub data: u64,
    /// Its inode number.
    pub ino: u32,
}

/// An object to store: name, size, and modification time in seconds of `node`, which has it.
#[derive(Clone, Copy)]
pub struct New {
    pub sum: Sum,
    pub size: u64,
    pub time: i64,
    pub node: NodeId,
}

/// A pack with its objects.
pub struct Pack {
    /// Its name and size, as in images' tables.
    pub reference: tree::Pack,
    /// Total size of its objects.
    pub bytes: u64,
    /// Its objects, sorted.
    objects: Vec<(Sum, Object)>,
}

impl Pack {
    /// Reads the metadata of the pack `sha256` in the file `path`.
    ///
    /// Fails if the metadata is damaged, or if the file is something else.
    pub fn open(path: &Path, sha256: &str) -> Result<Self> {
        let opened = Opened::open(path)?;
        if hex(&opened.superblock.sha256) == sha256 {
            Self::of(&opened)
        } else {
            Err(wrong_pack(opened.name))
        }
    }

    /// Reads the metadata of the pack `opened`, see [`Pack::open`].
    pub fn of(opened: &Opened) -> Result<Self> {
        let reader = opened.reader();
        whole_metadata(&reader, &opened.name)?;
        let mut objects = Vec::new();
        each_object(&reader, |sum, inode| {
            if let Content::Regular { data } = inode.content {
                let (size, ino) = (inode.size, inode.ino);
                objects.push((sum, Object { size, data, ino }));
            }
            Ok(())
        })?;
        let reference = tree::Pack {
            sha256: opened.superblock.sha256,
            total_size: opened.superblock.total_size,
        };
        Ok(Self::new(reference, objects))
    }

    /// Returns the pack `reference` with `objects`, in any order.
    pub fn new(reference: tree::Pack, mut objects: Vec<(Sum, Object)>) -> Self {
        objects.sort_unstable_by_key(|(sum, _)| *sum);
        let sizes = objects.iter().map(|(_, object)| object.size);
        Pack {
            reference,
            bytes: sizes.fold(0, u64::saturating_add),
            objects,
        }
    }

    /// Returns its objects, sorted.
    pub fn objects(&self) -> impl ExactSizeIterator<Item = (&Sum, &Object)> {
        self.objects.iter().map(|(sum, object)| (sum, object))
    }

    /// Returns the object `sum`.
    pub fn get(&self, sum: &Sum) -> Option<&Object> {
        let found = self.objects.binary_search_by_key(&sum, |(sum, _)| sum);
        found.ok().map(|at| &self.objects[at].1)
    }
}

/// Returns the error for the pack `name` whose SHA-256 differs from its name.
pub fn wrong_pack(name: String) -> Error {
    let why = "is not the pack with this SHA-256; restore it from a copy, or remove the images that need it, run daxfs store gc, and add them again";
    Error::refused(name, why)
}

/// Compares the metadata of the image `name` with its checksum.
pub fn whole_metadata<S: Storage>(reader: &Reader<'_, S>, name: &str) -> Result<()> {
    let whole = reader
        .image
        .verify_metadata(&mut vec![0; BUFFER], || Ok(()));
    whole.map_err(|error| Error::image(name, b"", error))
}

/// Opens the image `name` of `size` bytes, which was written to `output`.
pub fn written(output: &Output, size: u64, name: String) -> Result<Opened> {
    let file = output.file().try_clone();
    let file = file.map_err(|error| Error::system(&name, "cannot examine", "", error))?;
    Opened::of_source(Region::file(file, 0, size), name)
}

/// Returns the packs of the image `opened`.
///
/// Fails if the image's metadata is damaged, because packs that it does not list are removed.
pub fn packs(opened: &Opened) -> Result<Vec<PackRef>> {
    let reader = opened.reader();
    whole_metadata(&reader, &opened.name)?;
    let packs = reader.packs()?.into_iter().map(|pack| PackRef {
        sha256: hex(&pack.sha256),
        size: pack.total_size.get(),
    });
    Ok(packs.collect())
}

/// Returns an object's name: its SHA-256 in base64url, because a pack keeps the names in memory.
pub fn object_name(sum: &Sum) -> String {
    URL_SAFE_NO_PAD.encode(sum)
}

/// Calls `visit` with each object of a pack.
///
/// Fails if the image contains anything else.
pub fn each_object<S: Storage>(
    reader: &Reader<'_, S>,
    mut visit: impl FnMut(Sum, &daxfs_reader::Inode) -> Result<()>,
) -> Result<()> {
    let root = reader.root()?;
    let Some(directory) = root.directory() else {
        return Err(reader.refuse(b"/", "is not a directory; the image is not a pack"));
    };
    for child in reader.children(&directory, b"/")? {
        let sum = URL_SAFE_NO_PAD.decode(&child.name);
        let sum = sum.ok().and_then(|sum| Sum::try_from(sum).ok());
        let has_data = matches!(child.inode.content, Content::Regular { .. });
        match sum {
            Some(sum) if has_data && child.inode.size > 0 => visit(sum, &child.inode)?,
            _ => {
                return Err(reader.refuse(&child.name, "is not an object; the image is not a pack"))
            }
        }
    }
    Ok(())
}

/// Returns the options of all images of a store. The sums let mounts verify each piece before its
/// first use, so images are not read back after writing. They are dense, because gaps need memory
/// like the rest of a pack, and there may be few files to fill them.
pub fn options() -> Options {
    Options {
        sums: true,
        verify: false,
        dedupe: false,
        dense: true,
        padding: u64::from(Options::default().block_size),
        ..Options::default()
    }
}

/// Returns the tree of a pack of `objects`: the content of regular files of `tree`, in this order.
/// The pack depends on nothing else in `tree`.
pub fn tree(tree: &Tree, objects: &[New]) -> Result<Tree> {
    let attributes = |permissions| Attributes {
        permissions,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        xattrs: 0,
    };
    let mut builder = Builder::new();
    builder.tree.origins = tree.origins.iter().map(Origin::share).collect();
    // If a pack is mounted on its own, only root can read files that are private in the images.
    builder.describe(ROOT, attributes(0o700), 0);
    let mut entries = Vec::with_capacity(objects.len());
    for &New { sum, node, .. } in objects {
        let Kind::Regular { size, location } = tree.node(node).kind else {
            continue;
        };
        let origin = tree.node(node).origin;
        let name = builder.tree.keep_name(object_name(&sum).as_bytes());
        let object = builder.add(Node {
            attributes: attributes(0o400),
            parent: ROOT,
            name,
            origin,
            kind: Kind::Regular { size, location },
        })?;
        builder.tree.origins[origin as usize].moved(object, tree.original_path(node));
        entries.push(builder.tree.entry(name, object));
    }
    builder.fill(ROOT, entries);
    Ok(builder.finish())
}
