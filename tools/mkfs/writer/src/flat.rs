// SPDX-License-Identifier: GPL-2.0-only

//! Trees for unit tests: a directory of regular files.

use crate::build::Builder;
use crate::origin::Origin;
use crate::tree::{identity, mtime, Attributes, Kind, Node, Place, Tree, ROOT};
use rustix::fs::stat;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Return the tree of the regular files in `directory`.
pub fn tree(directory: &Path) -> Tree {
    let mut builder = Builder::new();
    let origin = Origin::directory(directory).unwrap();
    builder.tree.origins.push(origin);
    for entry in directory.read_dir().unwrap() {
        let entry = entry.unwrap();
        let stat = stat(entry.path()).unwrap();
        let name = builder.tree.keep_name(entry.file_name().as_bytes());
        let place = Place::File {
            identity: identity(&stat),
            mtime: mtime(&stat),
        };
        let node = Node {
            attributes: Attributes {
                permissions: 0o644,
                uid: 0,
                gid: 0,
                mtime: mtime(&stat),
                xattrs: 0,
            },
            parent: ROOT,
            name,
            origin: 0,
            kind: Kind::Regular {
                size: stat.st_size as u64,
                place,
            },
        };
        let node = builder.add(node).unwrap();
        builder.set(ROOT, name, node);
    }
    builder.finish()
}
