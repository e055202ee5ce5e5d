// SPDX-License-Identifier: GPL-2.0-only

//! A tree of files in memory, without the content of regular files.

pub use crate::writer::origin::NodeId;
use crate::writer::origin::Origin;
use daxfs_files::{Error, Result, Seen};
use daxfs_reader::hash::name_hash;
use daxfs_reader::{FileType, OwnedXattr};
use hashbrown::HashTable;
use std::cmp::Ordering;
use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The root's node.
pub const ROOT: NodeId = 0;

/// Attributes of all types of inodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits with set-id and sticky bits.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since 1970, nanoseconds within the second.
    pub mtime: (i64, u32),
    /// Index in [`Tree::xattrs`].
    pub xattrs: u32,
}

/// An inode of the tree.
#[derive(Debug)]
pub struct Node {
    /// Owner, mode, time, xattrs.
    pub attributes: Attributes,
    /// First directory with an entry for the node; the root is its own parent.
    pub parent: NodeId,
    /// First name.
    pub name: Name,
    /// Index of the origin that last described the node.
    pub origin: u32,
    /// Type and content.
    pub kind: Kind,
}

/// Type and content of a node.
#[derive(Debug)]
pub enum Kind {
    /// A regular file.
    Regular {
        /// Bytes.
        size: u64,
        /// Where in the node's origin they are.
        location: Location,
    },
    /// A directory. Once the tree is complete, its entries are in the image's order, (hash, name).
    Directory(Vec<Entry>),
    /// A symlink with its target.
    Symlink(Box<[u8]>),
    /// A device.
    Device {
        /// Block or character device.
        file_type: FileType,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
}

impl Kind {
    /// Returns the file type of the node.
    pub fn file_type(&self) -> FileType {
        match self {
            Kind::Regular { .. } => FileType::Regular,
            Kind::Directory(_) => FileType::Directory,
            Kind::Symlink(_) => FileType::Symlink,
            Kind::Device { file_type, .. } => *file_type,
            Kind::Fifo => FileType::Fifo,
            Kind::Socket => FileType::Socket,
        }
    }

    /// Returns true if it is overlayfs's mark of a removed file.
    pub fn is_whiteout(&self) -> bool {
        matches!(
            self,
            Kind::Device {
                file_type: FileType::CharDevice,
                major: 0,
                minor: 0,
            }
        )
    }
}

/// Where an origin stores a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a file of a directory, at the path of the node.
    File(Seen),
    /// Contiguous in the origin's only file, from this offset.
    Part(u64),
    /// In pieces of the origin's only file, with zeros between them.
    Pieces {
        /// The first of the origin's pieces.
        first: usize,
        /// Their number.
        count: usize,
    },
    /// Nowhere: the file is empty.
    Empty,
    /// In a pack of the image, which stores the file's size and no data.
    Pack {
        /// Index in [`Tree::packs`].
        pack: u32,
        /// Inode number of the file there.
        ino: u32,
    },
}

impl Location {
    /// Returns true if the file's content must be read and goes into the image.
    pub fn is_read(self) -> bool {
        !matches!(self, Location::Empty | Location::Pack { .. })
    }
}

/// A name stored in a tree; see [`Tree::name`].
#[derive(Clone, Copy, Debug)]
pub struct Name {
    start: usize,
    length: u8,
}

/// A directory entry.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Hash of the name.
    pub hash: u32,
    /// The inode.
    pub node: NodeId,
    /// The name.
    pub name: Name,
}

/// An inode's extended attributes, ascending by (prefix, name).
pub type XattrSet = Vec<OwnedXattr>;

/// A file tree.
pub struct Tree {
    /// The inodes; [`ROOT`] is the first.
    pub nodes: Vec<Node>,
    /// All sets of extended attributes; the first is empty.
    pub xattrs: Vec<XattrSet>,
    names: Vec<u8>,
    /// Finds a set in `xattrs`.
    xattr_ids: HashTable<u32>,
    xattr_hash: RandomState,
    /// Bytes of extended attributes.
    xattr_bytes: u64,
    /// Origins of the tree, in order.
    pub origins: Vec<Origin>,
    /// The packs of the image.
    pub packs: Vec<Pack>,
}

/// An image with files' content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pack {
    /// SHA-256 of the image.
    pub sha256: [u8; 32],
    /// Bytes of the image.
    pub total_size: u64,
}

impl Tree {
    /// Returns a tree without nodes.
    pub(crate) fn new() -> Self {
        Tree {
            nodes: Vec::new(),
            xattrs: vec![XattrSet::new()],
            names: Vec::new(),
            xattr_ids: HashTable::new(),
            xattr_hash: RandomState::new(),
            xattr_bytes: 0,
            origins: Vec::new(),
            packs: Vec::new(),
        }
    }

    /// Stores `name`, of at most 255 bytes; only the root's name is empty.
    pub fn keep_name(&mut self, name: &[u8]) -> Name {
        let start = self.names.len();
        self.names.extend_from_slice(name);
        Name {
            start,
            length: name.len() as u8,
        }
    }

    /// Returns the index of `set` in [`Tree::xattrs`], after adding it if it is new.
    pub fn keep_xattrs(&mut self, mut set: XattrSet) -> u32 {
        if set.is_empty() {
            return 0;
        }
        set.sort_unstable();
        let (sets, hasher) = (&self.xattrs, &self.xattr_hash);
        let hash = hasher.hash_one(&set);
        let same = |&id: &u32| sets[id as usize] == set;
        if let Some(&id) = self.xattr_ids.find(hash, same) {
            return id;
        }
        let id = sets.len() as u32;
        let again = |&id: &u32| hasher.hash_one(&sets[id as usize]);
        self.xattr_ids.insert_unique(hash, id, again);
        let bytes =
            |xattr: &OwnedXattr| size_of::<OwnedXattr>() + xattr.name.len() + xattr.value.len();
        self.xattr_bytes += set.iter().map(bytes).sum::<usize>() as u64;
        set.shrink_to_fit();
        self.xattrs.push(set);
        id
    }

    /// Returns all nodes that have a name, directory by directory: breadth first from the root.
    pub fn order(&self) -> Vec<NodeId> {
        let mut seen = vec![false; self.nodes.len()];
        seen[ROOT as usize] = true;
        let mut order = vec![ROOT];
        let mut next = 0;
        while let Some(&id) = order.get(next) {
            if let Kind::Directory(entries) = &self.node(id).kind {
                let nodes = entries.iter().map(|entry| entry.node);
                order.extend(
                    nodes.filter(|&node| !std::mem::replace(&mut seen[node as usize], true)),
                );
            }
            next += 1;
        }
        order
    }

    /// Returns the bytes of memory that names and extended attributes occupy.
    pub fn text_bytes(&self) -> u64 {
        self.names.len() as u64 + self.xattr_bytes
    }

    /// Adds all nodes of `other`, and returns the number of its root, which has no entry and no
    /// name yet and is its own parent.
    ///
    /// Returns [`Error::Refused`] if there are too many nodes.
    pub fn append(&mut self, other: Tree) -> Result<NodeId> {
        let (nodes, names) = (self.nodes.len(), self.names.len());
        let origins = self.origins.len() as u32;
        if nodes + other.nodes.len() > NodeId::MAX as usize {
            let why = "has more files than an image can hold (4294967294)";
            return Err(Error::refused(&self.title(), why));
        }
        let base = nodes as NodeId;
        let moved = |name: Name| Name {
            start: name.start + names,
            ..name
        };
        let sets = other.xattrs.into_iter();
        let sets: Vec<u32> = sets.map(|set| self.keep_xattrs(set)).collect();
        self.names.extend(other.names);
        let moved_origin = |origin: Origin| origin.renumber(base);
        self.origins
            .extend(other.origins.into_iter().map(moved_origin));
        for mut node in other.nodes {
            node.name = moved(node.name);
            node.parent += base;
            node.origin += origins;
            node.attributes.xattrs = sets[node.attributes.xattrs as usize];
            if let Kind::Directory(entries) = &mut node.kind {
                for entry in entries {
                    entry.name = moved(entry.name);
                    entry.node += base;
                }
            }
            self.nodes.push(node);
        }
        Ok(base)
    }

    /// Sorts all directories' entries into the image's order.
    pub fn sort(&mut self) {
        let names = &self.names;
        let bytes = |name: &Name| &names[name.start..name.start + usize::from(name.length)];
        for node in &mut self.nodes {
            if let Kind::Directory(entries) = &mut node.kind {
                entries.sort_unstable_by(|a, b| match a.hash.cmp(&b.hash) {
                    Ordering::Equal => bytes(&a.name).cmp(bytes(&b.name)),
                    unequal => unequal,
                });
                entries.shrink_to_fit();
            }
        }
    }

    /// Returns the bytes of `name`.
    pub fn name(&self, name: &Name) -> &[u8] {
        &self.names[name.start..name.start + usize::from(name.length)]
    }

    /// Returns an entry for `node` under `name`.
    pub fn entry(&self, name: Name, node: NodeId) -> Entry {
        Entry {
            hash: name_hash(self.name(&name)),
            node,
            name,
        }
    }

    /// Returns a node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// Returns the path of `node` relative to the root; empty for the root itself.
    pub fn relative_path(&self, node: NodeId) -> PathBuf {
        let name = |id| self.name(&self.node(id).name);
        // Only roots, including those of layers, have no name.
        let named = |&id: &NodeId| !name(id).is_empty();
        let above = |&id: &NodeId| Some(self.node(id).parent).filter(named);
        let components = || std::iter::successors(Some(node).filter(named), above);
        // Measure first, then fill from the end, without intermediate allocations.
        let length: usize = components().map(|id| name(id).len() + 1).sum();
        let mut path = vec![b'/'; length.saturating_sub(1)];
        let mut end = path.len();
        for id in components() {
            let start = end - name(id).len();
            path[start..end].copy_from_slice(name(id));
            end = start.saturating_sub(1);
        }
        OsString::from_vec(path).into()
    }

    /// Returns the path of `node` as the user would write or find it.
    pub fn path(&self, node: NodeId) -> PathBuf {
        match self.origins.get(self.node(node).origin as usize) {
            Some(origin) => origin.show(&self.original_path(node)),
            None => self.relative_path(node),
        }
    }

    /// Returns the path of `node` relative to the root before it moved.
    pub fn original_path(&self, node: NodeId) -> PathBuf {
        let origin = self.origins.get(self.node(node).origin as usize);
        let moved = origin.and_then(|origin| origin.original(node));
        moved.map_or_else(|| self.relative_path(node), PathBuf::from)
    }

    /// Returns the path of the first origin, for messages about the whole tree.
    pub fn title(&self) -> PathBuf {
        let first = self.origins.first();
        first.map_or_else(PathBuf::new, |origin| origin.path().into())
    }

    /// Returns the total size of all regular files, saturating at the maximum.
    pub fn content_size(&self) -> u64 {
        let size = |node: &Node| match node.kind {
            Kind::Regular { size, .. } => size,
            _ => 0,
        };
        self.nodes.iter().map(size).fold(0, u64::saturating_add)
    }
}
