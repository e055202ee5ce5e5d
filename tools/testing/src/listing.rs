// SPDX-License-Identifier: GPL-2.0-only

//! Lists a whole tree, from an image through the reader or from a directory through the system, in
//! the same form, so that the two can be compared.

use daxfs_reader::{Content, FileType, Image, Inode, Memory, Problem, Superblock};
use rustix::fs::{lgetxattr, llistxattr};
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Longer content is compared only by its hash.
const LONG: u64 = 1 << 20;

/// The file at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime: (i64, u32),
    /// Names within the tree; for a directory, 2 plus the number of subdirectories.
    pub nlink: u32,
    /// The first path of the same file.
    pub same_as: Vec<u8>,
    pub content: What,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The content of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Bytes(Vec<u8>),
    Long(u64),
    Symlink(Vec<u8>),
    Device(u32, u32),
    Nothing,
}

/// Paths relative to the root, which has the empty one.
pub type Listing = BTreeMap<Vec<u8>, Entry>;

/// Lists the image in `memory` by walking its directories and looking up every name.
pub fn of_image<M: Memory>(memory: &M) -> Listing {
    of_composed(memory, &[])
}

/// Like [`of_image`], but with content in `packs`.
pub fn of_composed<M: Memory>(memory: &M, packs: &[&M]) -> Listing {
    let superblocks = packs.iter().map(|pack| Superblock::load(*pack).unwrap());
    let superblocks: Vec<_> = superblocks.collect();
    let pack = |index: u32| {
        let index = index as usize;
        Some(Image::new(*packs.get(index)?, &superblocks[index]))
    };
    let superblock = Superblock::load(memory).unwrap();
    let image = Image::new(memory, &superblock);
    let mut listing = Listing::new();
    let mut ids = Vec::new();
    let root = image.root().unwrap();
    let mut pending = vec![(Vec::new(), root)];
    while let Some((path, inode)) = pending.pop() {
        if let Some(directory) = inode.directory() {
            let mut entries = image.entries(&directory, 0);
            while let Some(entry) = entries.next() {
                let (entry, name) = entry.unwrap();
                assert_eq!(image.lookup(&directory, name).unwrap(), Some(entry));
                let child = image.entry_inode(&directory, &entry).unwrap();
                pending.push((join(&path, name), child));
            }
        }
        ids.push((path.clone(), inode.ino));
        let mut entry = image_entry(&image, &inode);
        match image.source(&inode, pack) {
            Ok((source, original)) => entry.content = content(&source, &original),
            Err(error) => assert!(packs.is_empty() && error.problem == Problem::NoPack),
        }
        listing.insert(path, entry);
    }
    name_first(&mut listing, ids);
    listing
}

fn name_first<I: std::hash::Hash + Ord>(listing: &mut Listing, mut ids: Vec<(Vec<u8>, I)>) {
    ids.sort();
    let mut first: HashMap<I, Vec<u8>> = HashMap::new();
    for (path, id) in ids {
        let name = first.entry(id).or_insert_with(|| path.clone()).clone();
        listing.get_mut(&path).unwrap().same_as = name;
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = path.to_vec();
    if !path.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name);
    joined
}

fn content<M: Memory>(image: &Image<'_, M>, inode: &Inode) -> What {
    let memory = image.memory();
    let read = |offset, length: u64| {
        let mut bytes = vec![0; length as usize];
        memory.read(offset, &mut bytes).unwrap();
        bytes
    };
    match inode.content {
        Content::Regular { data } if inode.size > LONG => {
            long(inode.size, |offset, length| read(data + offset, length))
        }
        Content::Regular { data } => What::Bytes(read(data, inode.size)),
        Content::Symlink { .. } => What::Symlink(image.target(inode).unwrap().unwrap()),
        Content::Device { major, minor } => What::Device(major, minor),
        Content::InPack { .. } | Content::Directory(_) | Content::Special => What::Nothing,
    }
}

fn image_entry<M: Memory>(image: &Image<'_, M>, inode: &Inode) -> Entry {
    let xattrs = image.xattrs(inode).unwrap().into_iter();
    let xattrs = xattrs.map(|xattr| (xattr.whole_name(), xattr.value.into()));
    Entry {
        mode: inode.mode.into(),
        uid: inode.uid,
        gid: inode.gid,
        size: if inode.file_type == FileType::Directory {
            0
        } else {
            inode.size
        },
        mtime: (inode.mtime_sec, inode.mtime_nsec),
        nlink: inode.nlink,
        same_as: Vec::new(),
        content: What::Nothing,
        xattrs: xattrs.collect(),
    }
}

/// Returns the hash of content that is not kept.
fn long(size: u64, read: impl Fn(u64, u64) -> Vec<u8>) -> What {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for offset in (0..size).step_by(LONG as usize) {
        hash.update(&read(offset, (size - offset).min(LONG)));
    }
    What::Long(hash.digest())
}

/// Lists the directory at `root`.
pub fn of_directory(root: &Path) -> Listing {
    let mut listing = Listing::new();
    let mut ids = Vec::new();
    let mut pending = vec![(Vec::new(), root.to_path_buf())];
    let mut names: HashMap<(u64, u64), u32> = HashMap::new();
    while let Some((relative, path)) = pending.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let mut subdirectories = 0;
        if metadata.is_dir() {
            for entry in path.read_dir().unwrap() {
                let entry = entry.unwrap();
                subdirectories += u32::from(entry.file_type().unwrap().is_dir());
                pending.push((join(&relative, entry.file_name().as_bytes()), entry.path()));
            }
        }
        let id = (metadata.dev(), metadata.ino());
        if metadata.is_dir() {
            names.insert(id, 2 + subdirectories);
        } else {
            *names.entry(id).or_default() += 1;
        }
        ids.push((relative.clone(), id));
        listing.insert(relative, directory_entry(&path, &metadata));
    }
    for (path, id) in &ids {
        listing.get_mut(path).unwrap().nlink = names[id];
    }
    name_first(&mut listing, ids);
    listing
}

fn directory_entry(path: &Path, metadata: &std::fs::Metadata) -> Entry {
    let file_type = metadata.file_type();
    let content = if file_type.is_file() && metadata.len() > LONG {
        let file = std::fs::File::open(path).unwrap();
        long(metadata.len(), |offset, length| {
            let mut bytes = vec![0; length as usize];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, offset).unwrap();
            bytes
        })
    } else if file_type.is_file() {
        What::Bytes(std::fs::read(path).unwrap())
    } else if file_type.is_symlink() {
        What::Symlink(path.read_link().unwrap().as_os_str().as_bytes().into())
    } else if file_type.is_block_device() || file_type.is_char_device() {
        let device = metadata.rdev();
        What::Device(rustix::fs::major(device), rustix::fs::minor(device))
    } else {
        What::Nothing
    };
    let mut names = vec![0; 65536];
    let length = llistxattr(path, &mut names[..]).unwrap_or(0);
    let xattrs = names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = lgetxattr(path, name, &mut value[..]).unwrap();
            (name.to_vec(), value[..length].to_vec())
        });
    Entry {
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        size: if file_type.is_dir() {
            0
        } else {
            metadata.len()
        },
        mtime: (metadata.mtime(), metadata.mtime_nsec() as u32),
        nlink: 0,
        same_as: Vec::new(),
        content,
        xattrs: xattrs.collect(),
    }
}
