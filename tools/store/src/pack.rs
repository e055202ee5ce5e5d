// SPDX-License-Identifier: GPL-2.0-only

//! Packs: images of objects.

use daxfs_files::digest::{hex, is_hex, parse_hex};
use daxfs_files::memory::Storage;
use daxfs_image::error::{Error, Result};
use daxfs_image::reader::Reader;
use daxfs_image::source::Opened;
use daxfs_reader::Content;
use mkdaxfs::writer::build::Builder;
use mkdaxfs::writer::options::Options;
use mkdaxfs::writer::origin::Origin;
use mkdaxfs::writer::tree::{Attributes, Kind, Node, NodeId, Tree, ROOT};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Largest number of packs that an image needs: overlayfs takes 500 layers, and looks for a file in
/// each.
pub const PACKS_MAX: usize = 64;

/// SHA-256 of the content of an object.
pub type Sum = [u8; 32];

/// Bytes of a hash of the names of objects, which is the name of a pack.
const ID: usize = 16;

/// Bytes of metadata that are read together.
const BUFFER: usize = 64 << 10;

/// A reference to a pack.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackRef {
    /// Its name: hexadecimal digits.
    pub id: String,
    /// SHA-256 of the image.
    pub sha256: String,
}

impl PackRef {
    /// Return the value of the attribute [`crate::PACKS`] for `packs`: a line for each.
    pub fn write(packs: &[PackRef]) -> Vec<u8> {
        let lines = packs
            .iter()
            .map(|pack| format!("{} {}\n", pack.id, pack.sha256));
        lines.collect::<String>().into_bytes()
    }

    /// Parse such a value. There is one form of a list: packs are sorted, and each appears once.
    pub fn parse(value: &[u8]) -> Option<Vec<PackRef>> {
        let text = std::str::from_utf8(value).ok()?;
        let mut packs: Vec<PackRef> = Vec::new();
        for line in text.split_terminator('\n') {
            let (id, sha256) = line.split_once(' ')?;
            let sorted = packs.last().is_none_or(|last| *last.id < *id);
            if !is_hex(id, ID) || !is_hex(sha256, 32) || !sorted {
                return None;
            }
            packs.push(PackRef {
                id: id.into(),
                sha256: sha256.into(),
            });
        }
        let complete = text.is_empty() || text.ends_with('\n');
        (complete && packs.len() <= PACKS_MAX).then_some(packs)
    }
}

/// Where a pack has an object.
#[derive(Clone, Copy)]
pub struct Object {
    /// Its bytes.
    pub size: u64,
    /// The offset of the first one.
    pub data: u64,
}

/// A pack with its objects.
pub struct Pack {
    /// Its name and its SHA-256.
    pub reference: PackRef,
    /// Its objects, sorted.
    objects: Vec<(Sum, Object)>,
}

impl Pack {
    /// Read the metadata of the pack `id` in the file `path`.
    ///
    /// Fail if they are damaged, or if something else is in it.
    pub fn open(path: &Path, id: &str) -> Result<Self> {
        let opened = Opened::open(path)?;
        let reader = opened.reader();
        whole_metadata(&reader, &opened.name)?;
        let mut objects = Vec::new();
        each_object(&reader, id, |sum, inode| {
            if let Content::Regular { data } = inode.content {
                let size = inode.size;
                objects.push((inode.ino, (sum, Object { size, data })));
            }
            Ok(())
        })?;
        objects.sort_unstable_by_key(|(ino, _)| *ino);
        let mut objects: Vec<_> = objects.into_iter().map(|(_, object)| object).collect();
        if self::id(objects.iter().map(|(sum, _)| sum)) != id {
            let why = "does not have the objects that its name stands for; remove the images that need it, run daxfs store gc, and add them again";
            return Err(Error::refused(opened.name.clone(), why));
        }
        objects.sort_unstable_by_key(|(sum, _)| *sum);
        Ok(Pack {
            reference: PackRef {
                id: id.into(),
                sha256: hex(&opened.superblock.sha256),
            },
            objects,
        })
    }

    /// Return its objects, sorted.
    pub fn objects(&self) -> impl ExactSizeIterator<Item = (&Sum, &Object)> {
        self.objects.iter().map(|(sum, object)| (sum, object))
    }

    /// Return the object `sum`.
    pub fn get(&self, sum: &Sum) -> Option<&Object> {
        let found = self.objects.binary_search_by_key(&sum, |(sum, _)| sum);
        found.ok().map(|at| &self.objects[at].1)
    }
}

/// Compare the metadata of the image `name` with their checksum.
pub fn whole_metadata<S: Storage>(reader: &Reader<'_, S>, name: &str) -> Result<()> {
    let whole = reader
        .image
        .verify_metadata(&mut vec![0; BUFFER], || Ok(()));
    whole.map_err(|error| Error::image(name, b"", error))
}

/// Call `visit` with each object of the pack `id`.
///
/// Fail if something else is in the image.
pub fn each_object<S: Storage>(
    reader: &Reader<'_, S>,
    id: &str,
    mut visit: impl FnMut(Sum, &daxfs_reader::Inode) -> Result<()>,
) -> Result<()> {
    let directory = |path: &[u8], inode: &daxfs_reader::Inode| match inode.content {
        Content::Directory(directory) => reader.children(&directory, path),
        _ => Err(reader.refuse(path, "is not a directory; the image is not a pack")),
    };
    let top = directory(b"/", &reader.root()?)?;
    let [only] = &top[..] else {
        return Err(reader.refuse(b"/", "has not one entry; the image is not a pack"));
    };
    if *only.name != *id.as_bytes() {
        return Err(reader.refuse(
            &only.name,
            "is in a file of another name; the image is not this pack",
        ));
    }
    for child in directory(id.as_bytes(), &only.inode)? {
        let sum = std::str::from_utf8(&child.name).ok().and_then(parse_hex);
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

/// Return the name of a pack of these objects, which are in the order of inode numbers.
pub fn id<'a>(objects: impl Iterator<Item = &'a Sum>) -> String {
    let mut hash = Sha256::new();
    objects.for_each(|sum| hash.update(sum));
    hex(&hash.finalize()[..ID])
}

/// Return the options of all images of a store. Sums let mounts verify each piece before its first use. Gaps are in memory
/// like all of a pack, and few files may be there to fill them.
pub fn options() -> Options {
    Options {
        sums: true,
        dedupe: false,
        dense: true,
        padding: u64::from(Options::default().block_size),
        ..Options::default()
    }
}

/// Return the tree of the pack `id` of `objects`: regular files of `tree`, with their content, in this order. `tree` loses
/// the content of its origins. The pack does not depend on `tree` otherwise.
pub fn tree(tree: &mut Tree, id: &str, objects: &[(Sum, NodeId)]) -> Result<Tree> {
    let attributes = |permissions| Attributes {
        permissions,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        xattrs: 0,
    };
    let paths = objects.iter().map(|&(_, node)| tree.original_path(node));
    let paths: Vec<PathBuf> = paths.collect();
    let mut builder = Builder::new();
    builder.tree.origins = tree.origins.iter_mut().map(Origin::take).collect();
    builder.describe(ROOT, attributes(0o755), 0);
    let name = builder.tree.keep_name(id.as_bytes());
    let directory = builder.add(Node {
        attributes: attributes(0o755),
        parent: ROOT,
        name,
        origin: 0,
        kind: Kind::Directory(Vec::new()),
    })?;
    builder.set(ROOT, name, directory);
    let mut entries = Vec::with_capacity(objects.len());
    for (&(sum, node), path) in objects.iter().zip(paths) {
        let Kind::Regular { size, location } = tree.node(node).kind else {
            continue;
        };
        let origin = tree.node(node).origin;
        let name = builder.tree.keep_name(hex(&sum).as_bytes());
        let object = builder.add(Node {
            attributes: attributes(0o444),
            parent: directory,
            name,
            origin,
            kind: Kind::Regular { size, location },
        })?;
        builder.tree.origins[origin as usize].moved(object, path);
        entries.push(builder.tree.entry(name, object));
    }
    builder.fill(directory, entries);
    Ok(builder.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_packs() {
        let pack = |digit: &str| PackRef {
            id: digit.repeat(32),
            sha256: "f".repeat(64),
        };
        let list = [pack("1"), pack("2")];
        let value = PackRef::write(&list);
        assert_eq!(PackRef::parse(&value).as_deref(), Some(&list[..]));
        assert_eq!(PackRef::parse(b""), Some(Vec::new()));
        let wrong = [
            PackRef::write(&[pack("2"), pack("1")]),
            PackRef::write(&[pack("1"), pack("1")]),
            PackRef::write(&[pack("A")]),
            PackRef::write(&[pack(".")]),
            value[..value.len() - 1].to_vec(),
            [&value[..], b"\n"].concat(),
            value[1..].to_vec(),
            b"\xff".to_vec(),
        ];
        for wrong in wrong {
            let text = String::from_utf8_lossy(&wrong).into_owned();
            assert_eq!(PackRef::parse(&wrong), None, "{text}");
        }
        let many: Vec<PackRef> = (0..=PACKS_MAX)
            .map(|number| PackRef {
                id: format!("{number:032x}"),
                sha256: "0".repeat(64),
            })
            .collect();
        assert_eq!(PackRef::parse(&PackRef::write(&many)), None);
        assert!(PackRef::parse(&PackRef::write(&many[1..])).is_some());
    }
}
