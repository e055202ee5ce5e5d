// SPDX-License-Identifier: GPL-2.0-only

//! Reads a directory into a [`Tree`].

use crate::input::listing::{file_type, Found, Listing};
use crate::input::options::Options;
use crate::input::xattr::XattrReader;
use crate::writer::acl;
use crate::writer::build::Builder;
use crate::writer::directory::Directory;
use crate::writer::origin::{Bytes, Origin};
use crate::writer::tree::{Attributes, Kind, Location, Name, Node, NodeId, Tree, XattrSet, ROOT};
use daxfs_files::{identity, mtime, shown, shown_path, Error, Identity, Losses, Result, Seen};
use daxfs_reader::FileType;
use rayon::prelude::*;
use rustix::fs::{major, minor, Stat};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Number of directories to read at the same time.
const TOGETHER: usize = 32;

/// Reads the directory at `path`. Calls `warn` with a line for everything that cannot be stored.
/// `output` is as in [`Options`].
///
/// Returns [`Error::Io`] for unreadable files, [`Error::Changed`] or [`Error::Refused`].
pub fn scan(path: &Path, output: Option<Identity>, warn: impl Fn(String) + Sync) -> Result<Tree> {
    let mut builder = Builder::new();
    // A directory needs no temporary files.
    let options = Options {
        output,
        warn: &warn,
        ..Options::new(Path::new(""))
    };
    scan_into(&mut builder, path, &options)?;
    Ok(builder.finish())
}

/// Like [`scan`], but adds the files to `builder`.
pub(crate) fn scan_into(builder: &mut Builder, path: &Path, options: &Options<'_>) -> Result<()> {
    let merging = !builder.is_empty();
    let origin = builder.tree.origins.len() as u32;
    builder
        .tree
        .origins
        .push(Origin::directory(path, options.dereference)?);
    let mut scanner = Scanner {
        builder,
        origin,
        merging,
        options,
        directories: HashMap::new(),
        links: HashMap::new(),
        met: HashMap::new(),
        losses: Losses::default(),
    };
    scanner.root(path)?;
    scanner.losses.lines().for_each(options.warn);
    Ok(())
}

/// Maximum number of paths to a directory: with links to each other, directories have any number.
const MET_MAX: u32 = 10_000;

struct Scanner<'a> {
    builder: &'a mut Builder,
    /// Index of the origin in the tree.
    origin: u32,
    /// Whether the tree had files before.
    merging: bool,
    options: &'a Options<'a>,
    /// All directories.
    directories: HashMap<NodeId, Seen>,
    /// Number of times that --dereference has met each directory.
    met: HashMap<Identity, u32>,
    /// Files with several names. Some FUSE filesystems give several files the same inode number.
    links: HashMap<(Identity, (i64, u32)), NodeId>,
    /// Extended attributes that images cannot store, and dangling symlinks.
    losses: Losses,
}

impl Scanner<'_> {
    fn tree(&self) -> &Tree {
        &self.builder.tree
    }

    fn origin(&self) -> &Origin {
        &self.tree().origins[self.origin as usize]
    }

    /// Returns the directory to read.
    fn directory_handle(&self) -> Result<&Directory> {
        match &*self.origin().bytes {
            Bytes::Directory(directory) => Ok(directory),
            Bytes::File(_) | Bytes::Nothing => {
                let why = "not a directory; name a directory";
                Err(Error::refused(self.origin().path(), why))
            }
        }
    }

    /// Returns a directory's path for messages.
    fn shown(&self, id: NodeId) -> PathBuf {
        self.origin().show(&self.tree().relative_path(id))
    }

    fn root(&mut self, path: &Path) -> Result<()> {
        let stat = self.directory_handle()?.stat();
        let stat = stat.map_err(|error| Error::io(path, "examine", error))?;
        // The path may be a symlink, so that only "." after it is the directory.
        let mut unknown = Vec::new();
        let set = XattrReader::default().read(
            &path.join("."),
            || path.into(),
            |name| unknown.push(name.into()),
        )?;
        let attributes = self.attributes(&stat, set, unknown, path)?;
        self.enter(ROOT, &stat, path)?;
        self.builder.describe(ROOT, attributes, self.origin);
        // Directories are open only while they are read.
        let mut pending = vec![ROOT];
        while !pending.is_empty() {
            let some = pending.split_off(pending.len().saturating_sub(TOGETHER));
            let listings: Vec<Result<Listing>> = some
                .par_iter()
                .map(|&id| {
                    let mut listing = self.list(id)?;
                    listing.read(self.options.exclude);
                    Ok(listing)
                })
                .collect();
            for (id, listing) in some.into_iter().zip(listings) {
                self.directory(id, listing?, &mut pending)?;
            }
        }
        Ok(())
    }

    fn list(&self, id: NodeId) -> Result<Listing> {
        let directory = self.directory_handle()?;
        let relative = self.tree().relative_path(id);
        let mut listing = Listing::new(directory, relative, self.shown(id), id == ROOT)?;
        listing.follow = self.options.dereference;
        Ok(listing)
    }

    fn directory(
        &mut self,
        id: NodeId,
        mut listing: Listing,
        pending: &mut Vec<NodeId>,
    ) -> Result<()> {
        let mut entries = Vec::new();
        listing.each(self.options.exclude, |found, path| {
            let name = self.builder.tree.keep_name(found.name.to_bytes());
            let node = self.child(found, id, name, path, pending)?;
            entries.push(self.tree().entry(name, node));
            Ok(())
        })?;
        let stat = listing.stat()?;
        let path = &listing.path;
        let now = Seen::new(&stat);
        let seen = self.directories.get(&id);
        if !seen.is_some_and(|seen| seen.is(&now)) {
            return Err(Error::changed(path, "another directory took its place"));
        }
        if seen.is_some_and(|seen| seen.modified(&now)) {
            return Err(Error::changed(path, "entries were added or removed"));
        }
        if self.merging {
            for entry in entries {
                self.builder.set(id, entry.name, entry.node);
            }
        } else {
            self.builder.fill(id, entries);
        }
        Ok(())
    }

    /// Adds the file `name` in the directory `parent`, unless the tree has it under another name.
    fn child(
        &mut self,
        found: Found,
        parent: NodeId,
        name: Name,
        path: &Path,
        pending: &mut Vec<NodeId>,
    ) -> Result<NodeId> {
        let stat = found.stat;
        if file_type(&stat) == Some(FileType::Directory) {
            return self.subdirectory(found, parent, name, path, pending);
        }
        let linked = stat.st_nlink > 1;
        if linked {
            // Do not compare the ctime, which link(2) changes.
            if let Some(&node) = self.links.get(&(identity(&stat), mtime(&stat))) {
                return Ok(node);
            }
        }
        let node = self.add(found, parent, name, path)?;
        if linked {
            self.links.insert((identity(&stat), mtime(&stat)), node);
        }
        Ok(node)
    }

    /// Adds a directory, or merges it with an existing one.
    fn subdirectory(
        &mut self,
        mut found: Found,
        parent: NodeId,
        name: Name,
        path: &Path,
        pending: &mut Vec<NodeId>,
    ) -> Result<NodeId> {
        let stat = found.stat;
        if let Some(above) = self.same_above(parent, &stat) {
            let Some(link) = found.link else {
                let same = shown_path(&self.shown(above));
                let why = if self.options.dereference {
                    "leave it, or the symlink that leads there, out with --exclude"
                } else {
                    "unmount it or leave it out with --exclude"
                };
                let why = format!("is the same directory as {same} above it; {why}");
                return Err(Error::refused(path, why));
            };
            found.stat = link;
            found.xattrs.clear();
            found.unknown.clear();
            found.loss = Some("the symlink leads to a directory above it and is kept");
            return self.add(found, parent, name, path);
        }
        if self.options.dereference {
            let met = self.met.entry(identity(&stat)).or_insert(0);
            *met += 1;
            if *met > MET_MAX {
                let why = format!("is a directory with more than {MET_MAX} paths through symlinks; leave some of these out with --exclude");
                return Err(Error::refused(path, why));
            }
        }
        let followed = found.link.is_some();
        let find = || self.builder.find(parent, found.name.to_bytes());
        let present = self.merging.then(find).flatten();
        let node = match present.filter(|&present| self.builder.is_directory(present)) {
            Some(present) => {
                let attributes = self.attributes(&stat, found.xattrs, found.unknown, path)?;
                self.builder.describe(present, attributes, self.origin);
                present
            }
            None => self.add(found, parent, name, path)?,
        };
        self.enter(node, &stat, path)?;
        let parent = self.directories.get(&parent);
        let mounted = parent.is_none_or(|parent| parent.identity.dev != stat.st_dev);
        if !(self.options.one_file_system && mounted) {
            pending.push(node);
        } else if followed {
            let what =
                "the symlink leads to a directory of another file system, which is left empty";
            self.losses.add(what.into(), || shown_path(path));
        }
        Ok(node)
    }

    /// Records that `id` is the directory in `stat`.
    fn enter(&mut self, id: NodeId, stat: &Stat, path: &Path) -> Result<()> {
        if self.options.output == Some(identity(stat)) {
            let why = "the image would be written into the tree it is made of, and change this directory even if --exclude \
                leaves out its name; write it elsewhere, and move it here afterwards";
            return Err(Error::refused(path, why));
        }
        self.directories.insert(id, Seen::new(stat));
        Ok(())
    }

    /// Returns the directory in `stat` if it is `parent` or above, because a bind mount or a
    /// symlink makes the directory contain itself.
    fn same_above(&self, parent: NodeId, stat: &Stat) -> Option<NodeId> {
        let seen = |id: &NodeId| self.directories.get(id).map(|seen| seen.identity);
        let same = |id: &NodeId| seen(id) == Some(identity(stat));
        let above = |id: &NodeId| (*id != ROOT).then(|| self.tree().node(*id).parent);
        std::iter::successors(Some(parent), above).find(same)
    }

    fn add(&mut self, found: Found, parent: NodeId, name: Name, path: &Path) -> Result<NodeId> {
        let kind = kind(&found, path)?;
        if let Some(what) = found.loss {
            self.losses.add(what.into(), || shown_path(path));
        }
        let attributes = self.attributes(&found.stat, found.xattrs, found.unknown, path)?;
        self.builder.add(Node {
            attributes,
            parent,
            name,
            origin: self.origin,
            kind,
        })
    }

    /// Returns the attributes of the file at `path`. Records `unknown` extended attributes.
    fn attributes(
        &mut self,
        stat: &Stat,
        mut xattrs: XattrSet,
        unknown: Vec<Vec<u8>>,
        path: &Path,
    ) -> Result<Attributes> {
        for name in unknown {
            let what = cannot_store(&name);
            self.losses.add(what, || shown_path(path));
        }
        let mut permissions = (stat.st_mode & 0o7777) as u16;
        if let Some(file_type) = file_type(stat) {
            acl::settle(&mut xattrs, &mut permissions, file_type)
                .map_err(|why| Error::refused(path, why))?;
        }
        Ok(Attributes {
            permissions,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: mtime(stat),
            xattrs: self.builder.tree.keep_xattrs(xattrs),
        })
    }
}

/// Returns the kind of a file. `path` is its name for messages.
fn kind(found: &Found, path: &Path) -> Result<Kind> {
    let stat = &found.stat;
    Ok(match file_type(stat) {
        Some(FileType::Regular) => Kind::Regular {
            size: stat.st_size as u64,
            location: Location::File(Seen::new(stat)),
        },
        Some(FileType::Symlink) => {
            let target = found.target.as_ref().map(|target| target.as_bytes());
            Kind::Symlink(target.unwrap_or_default().into())
        }
        Some(file_type @ (FileType::BlockDevice | FileType::CharDevice)) => Kind::Device {
            file_type,
            major: major(stat.st_rdev),
            minor: minor(stat.st_rdev),
        },
        Some(FileType::Fifo) => Kind::Fifo,
        Some(FileType::Socket) => Kind::Socket,
        Some(FileType::Directory) => Kind::Directory(Vec::new()),
        None => {
            let why = format!("has an unknown file type (mode {:#o})", stat.st_mode);
            return Err(Error::refused(path, why));
        }
    })
}

/// Returns a warning about an extended attribute that images cannot store.
pub(crate) fn cannot_store(name: &[u8]) -> String {
    let name = shown(name);
    format!("extended attribute {name} left out: images cannot store its name space")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    /// A filesystem may give two files the same number and call both hard links.
    #[test]
    fn one_number_for_two_files() {
        let directory = tempfile::tempdir().unwrap();
        for (name, time) in [("a", 0), ("b", 0), ("c", 1)] {
            let file = std::fs::File::create(directory.path().join(name)).unwrap();
            let time = std::time::Duration::from_secs(time);
            file.set_modified(SystemTime::UNIX_EPOCH + time).unwrap();
        }
        let mut builder = Builder::new();
        builder
            .tree
            .origins
            .push(Origin::directory(directory.path(), false).unwrap());
        let mut scanner = Scanner {
            builder: &mut builder,
            origin: 0,
            merging: false,
            options: &Options::new(Path::new("")),
            directories: HashMap::new(),
            links: HashMap::new(),
            met: HashMap::new(),
            losses: Losses::default(),
        };
        let mut nodes = HashMap::new();
        let mut listing = scanner.list(ROOT).unwrap();
        let all = listing.each(None, |mut found, path| {
            (found.stat.st_ino, found.stat.st_nlink) = (1, 2);
            // Another name was added in between.
            found.stat.st_ctime += nodes.len() as i64;
            let name = found.name.to_bytes().to_vec();
            let kept = scanner.builder.tree.keep_name(&name);
            let node = scanner.child(found, ROOT, kept, path, &mut Vec::new())?;
            nodes.insert(name, node);
            Ok(())
        });
        all.unwrap();
        let node = |name: &str| nodes[name.as_bytes()];
        assert_eq!(node("a"), node("b"));
        assert_ne!(node("a"), node("c"));
    }
}
