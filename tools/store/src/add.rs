// SPDX-License-Identifier: GPL-2.0-only

//! Adds an image to a store.

use crate::files::{failed, lock};
use crate::layer::Known;
use crate::metadata::{refuse_marks, strip};
use crate::pack::{self, each_object, id, Object, Pack, PackRef, Sum, PACKS_MAX};
use crate::store::Store;
use daxfs_files::digest::hex;
use daxfs_files::memory::FileMemory;
use daxfs_files::{Output, Progress};
use daxfs_image::error::{Error, Result};
use daxfs_image::reader::{buffer_for, Reader};
use daxfs_image::text::shown_path;
use daxfs_image::warning::warn;
use daxfs_reader::{Image, Problem, Superblock};
use mkdaxfs::writer::content::{check_empty, sha256};
use mkdaxfs::writer::make;
use mkdaxfs::writer::options::Options;
use mkdaxfs::writer::tree::{Kind, Location, Node, NodeId, Tree, ROOT};
use rayon::prelude::*;
use rustix::fs::statvfs;
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

/// Bytes from which an object can have a pack of its own.
const LARGE: u64 = 16 << 20;

/// Number of packs of an image from which large objects share one. The other packs are for layers on top of the image.
const OWN_PACKS_MAX: usize = PACKS_MAX / 4;

/// Objects of an image: how many there are, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Number of objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Total {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// A new image.
#[derive(Debug, PartialEq, Eq)]
pub struct Added {
    /// SHA-256 of its metadata image.
    pub sha256: String,
    /// Objects that were written to new packs.
    pub new: Total,
    /// Objects that were in the store.
    pub known: Total,
    /// Number of packs that the image needs.
    pub packs: usize,
    /// Bytes of its metadata image and of the new packs.
    pub written: u64,
}

/// Makes the output of an image, which may replace a damaged file, and removes it after a signal.
pub type Guard<'a> = &'a dyn Fn(&Path) -> daxfs_files::Result<Output>;

impl Store {
    /// Add `tree` as the image `name`. Call `create` to make the output of each image.
    ///
    /// The image appears when it and all objects are complete and durable. Fail if there is an image
    /// of this name, or if a file changes while it is read.
    pub fn add(
        &self,
        name: &str,
        tree: Tree,
        create: Guard<'_>,
        progress: &dyn Progress,
    ) -> Result<Added> {
        self.add_known(name, (tree, Known::new()), create, progress)
    }

    /// Do as [`Store::add`], for what overlayfs shows of `layer`, the tree of an upper directory, on top of the image
    /// `below`.
    pub fn add_layer(
        &self,
        name: &str,
        below: Option<&str>,
        layer: Tree,
        create: Guard<'_>,
        progress: &dyn Progress,
    ) -> Result<Added> {
        self.add_known(name, self.stack(below, layer)?, create, progress)
    }

    fn add_known(
        &self,
        name: &str,
        (tree, known): (Tree, Known),
        create: Guard<'_>,
        progress: &dyn Progress,
    ) -> Result<Added> {
        let path = self.image(name)?;
        if path.symlink_metadata().is_ok() {
            let why = "is in the store; use another name, or remove that image first";
            return Err(Error::refused(name, why));
        }
        check_empty(&tree)?;
        refuse_marks(&tree)?;
        let files = regular(&tree, &known);
        self.check_room(name, &files)?;
        let files = hash(&tree, files, progress)?;
        let mut objects = Objects::new();
        for (sum, node, size) in &files {
            objects.entry(*sum).or_insert((*node, *size));
        }
        let _change = lock(&self.change);
        let before = self.names("packs")?;
        let made = self.write(name, (tree, known), files, &objects, create, progress);
        // The image may be in place if only its directory could not be synced.
        if made.is_err() && path.symlink_metadata().is_err() {
            // No image needs the packs that were complete. gc removes what remains.
            for id in self.names("packs")?.difference(&before) {
                let _ = std::fs::remove_file(self.pack(id));
                lock(&self.read).forget(id);
            }
        }
        made
    }

    /// Write the packs and the metadata image of `tree`; its `files` have the content `objects`.
    fn write(
        &self,
        name: &str,
        (mut tree, known): (Tree, Known),
        files: Vec<(Sum, NodeId, u64)>,
        objects: &Objects,
        create: Guard<'_>,
        progress: &dyn Progress,
    ) -> Result<Added> {
        let packs = self.usable_packs(objects)?;
        let mut ids = choose(objects, &packs);
        let mut total = [Total::default(); 2];
        for (sum, &(_, size)) in objects {
            total[usize::from(ids.contains_key(sum))].add(size);
        }
        let mut new: BTreeMap<_, Vec<(Sum, NodeId)>> = BTreeMap::new();
        let used: BTreeSet<&String> = ids.values().collect();
        let mut own = OWN_PACKS_MAX.saturating_sub(used.len());
        for &(sum, node, size) in &files {
            if ids.contains_key(&sum) || objects[&sum].0 != node {
                continue;
            }
            // The next image is likely to also need content that another pack has: it gets a pack of its own.
            let again = packs.iter().any(|(_, pack)| pack.get(&sum).is_some());
            // The next version of an image may need all of a pack but its largest objects, and an image uses a pack only
            // if it needs half of it.
            let alone = own > 0 && size >= LARGE && size >= total[0].bytes / 4;
            own -= usize::from(alone);
            let group = new.entry((alone.then_some(sum), again)).or_default();
            group.push((sum, node));
        }
        let mut bytes = 0;
        for new in new.into_values() {
            let id = id(new.iter().map(|(sum, _)| sum));
            if !packs.iter().any(|(_, pack)| pack.reference.id == id) {
                bytes += self.write_pack(&mut tree, &known, &id, &new, create, progress)?;
            }
            ids.extend(new.into_iter().map(|(sum, _)| (sum, id.clone())));
        }
        let needed: BTreeSet<&String> = ids.values().collect();
        let needed = needed.into_iter();
        let needed = needed.map(|id| Ok(self.known_pack(id)?.reference.clone()));
        let needed = needed.collect::<Result<Vec<PackRef>>>()?;

        let objects = files.into_iter().map(|(sum, node, _)| (node, sum));
        strip(&mut tree, &objects.collect(), &ids, &needed);
        let output = create(&self.image(name)?)?;
        let summary = make(&tree, &pack::options(), &output, progress)?;
        output.commit(progress)?;
        let [new, known] = total;
        let (sha256, packs) = (hex(&summary.digest), needed.len());
        let needs = (sha256.clone(), needed);
        let mut read = lock(&self.read);
        read.images.insert(name.into(), needs);
        // Each object takes 48 bytes of memory, and 2 µs to be read again.
        read.packs.clear();
        Ok(Added {
            sha256,
            new,
            known,
            packs,
            written: bytes + summary.total_size,
        })
    }

    /// Refuse a tree that is larger than the filesystem of the store, before all of it is read: a small
    /// archive may have files of any size.
    fn check_room(&self, name: &str, files: &[Regular]) -> Result<()> {
        let sizes = files.iter().map(|file| file.size);
        let size = sizes.fold(0, u64::saturating_add);
        let found = statvfs(&self.dir);
        let found = found.map_err(|error| failed(&self.dir, "examine", error.into()))?;
        let room = found.f_blocks.saturating_mul(found.f_frsize);
        if size > room {
            let why = format!(
                "has {size} bytes, and the filesystem of the store {room}; leave files out with --exclude, or move the store to a larger one"
            );
            return Err(Error::refused(name, why));
        }
        Ok(())
    }

    /// Return all packs that are not damaged, with the bytes of `objects` that each has, those with most of them first.
    fn usable_packs(&self, objects: &Objects) -> Result<Vec<(u64, Arc<Pack>)>> {
        let mut packs = Vec::new();
        let ids: Vec<String> = self.names("packs")?.into_iter().collect();
        let read = ids.par_iter().map(|id| {
            let pack = self.trusted_pack(id)?;
            Ok((wanted(objects, &pack)?, pack))
        });
        for pack in read.collect::<Vec<Result<_>>>() {
            match pack {
                Ok(pack) => packs.push(pack),
                // It may be good.
                Err(error @ Error::System { .. }) if !error.is_damage() => return Err(error),
                Err(error) => warn(format_args!("{error}; it is not used for new images, and daxfs store verify lists all damage")),
            }
        }
        packs.sort_by_key(|(bytes, _)| Reverse(*bytes));
        Ok(packs)
    }

    /// Write the pack `id` of `objects`, which are files of `tree`, in place of a damaged one. Return its bytes.
    ///
    /// Fail if a file has changed, or if content that is `known` is damaged.
    fn write_pack(
        &self,
        tree: &mut Tree,
        known: &Known,
        id: &str,
        objects: &[(Sum, NodeId)],
        create: Guard<'_>,
        progress: &dyn Progress,
    ) -> Result<u64> {
        let path = self.pack(id);
        let packed = pack::tree(tree, id, objects)?;
        let output = create(&path)?;
        // Files of a directory are close together, although the names of objects are hashes.
        let options = Options {
            by_node: true,
            ..pack::options()
        };
        let summary = make(&packed, &options, &output, progress)?;
        // A file may have changed after it was hashed, without a trace in its times.
        progress.step("comparing", packed.content_size());
        // The next pack needs the files, and messages name them.
        for (origin, taken) in tree.origins.iter_mut().zip(packed.origins) {
            origin.give(taken);
        }
        let name = shown_path(&path);
        let memory = FileMemory::new(output.file())
            .map_err(|error| Error::system(&name, "cannot examine", "", error))?;
        let superblock = Superblock::load(&memory);
        let superblock = superblock.map_err(|error| Error::image(&name, b"", error))?;
        let reader = Reader::new(Image::new(&memory, &superblock), &name);
        if let Some(sum) = wrong_objects(&reader, id, progress)?.first() {
            let file = objects.iter().find(|(object, _)| object == sum);
            let file = file.map_or(ROOT, |(_, node)| *node);
            let node = tree.node(file);
            if sum_in_pack(node, known).is_some() {
                let pack = tree.origins[node.origin as usize].path();
                self.distrust(pack);
                let error = daxfs_reader::Error::new(Problem::Digest, 0, 0);
                return Err(Error::image(&shown_path(pack), hex(sum).as_bytes(), error));
            }
            let how = "its content is not the same when it is read twice";
            return Err(daxfs_files::Error::changed(&tree.path(file), how).into());
        }
        output.commit(progress)?;
        lock(&self.read).forget(id);
        Ok(summary.total_size)
    }
}

/// Objects of an image: for each, a file that has it, and its bytes.
type Objects = BTreeMap<Sum, (NodeId, u64)>;

/// A regular file that is not empty.
struct Regular {
    node: NodeId,
    size: u64,
    /// The SHA-256 of its content, if it is known.
    sum: Option<Sum>,
}

/// Return all regular files of `tree` that are not empty, directory by directory. Objects in packs are `known`.
fn regular(tree: &Tree, known: &Known) -> Vec<Regular> {
    let file = |node: NodeId| match tree.node(node).kind {
        Kind::Regular { size, .. } if size > 0 => Some(Regular {
            node,
            size,
            sum: sum_in_pack(tree.node(node), known),
        }),
        _ => None,
    };
    tree.order().into_iter().filter_map(file).collect()
}

/// Return the SHA-256 of a file that a pack has.
fn sum_in_pack(node: &Node, known: &Known) -> Option<Sum> {
    match node.kind {
        Kind::Regular {
            location: Location::Part(data),
            ..
        } => known.get(&(node.origin, data)).copied(),
        _ => None,
    }
}

/// Return the SHA-256 of each of the regular files of `tree`, with its size.
fn hash(
    tree: &Tree,
    files: Vec<Regular>,
    progress: &dyn Progress,
) -> Result<Vec<(Sum, NodeId, u64)>> {
    progress.step("hashing", files.iter().map(|file| file.size).sum());
    let hashed = files.into_par_iter().map(|Regular { node, size, sum }| {
        let sum = match sum {
            Some(sum) => sum,
            None => sha256(tree, node)?,
        };
        progress.advance(size);
        Ok((sum, node, size))
    });
    hashed.collect()
}

/// Return the bytes of `objects` that `pack` has.
///
/// Fail if one has another size there.
fn wanted(objects: &Objects, pack: &Pack) -> Result<u64> {
    let mut bytes = 0;
    for (sum, Object { size, .. }) in pack.objects() {
        match objects.get(sum) {
            None => (),
            Some((_, wanted)) if wanted == size => bytes += size,
            Some((_, wanted)) => {
                let why = format!("object {} has {size} bytes instead of {wanted}", hex(sum));
                return Err(Error::refused(format!("pack {}", pack.reference.id), why));
            }
        }
    }
    Ok(bytes)
}

/// Choose the pack of each object: its name. Prefer packs that come first. A pack is in memory as a whole, so at least
/// half of its bytes must be needed, and not be in another one. All other objects are left out, and the objects of packs
/// that would be too many.
fn choose(objects: &Objects, packs: &[(u64, Arc<Pack>)]) -> HashMap<Sum, String> {
    let mut chosen = HashMap::new();
    let mut used = 0;
    for (_, pack) in packs {
        let more = pack.objects().map(|(sum, _)| sum);
        let more: Vec<Sum> = more
            .filter(|sum| objects.contains_key(*sum) && !chosen.contains_key(*sum))
            .copied()
            .collect();
        let bytes: u64 = more.iter().map(|sum| objects[sum].1).sum();
        let all: u64 = pack.objects().map(|(_, object)| object.size).sum();
        // The last two are for new objects.
        if bytes > 0 && bytes >= all.div_ceil(2) && used < PACKS_MAX - 2 {
            used += 1;
            chosen.extend(more.into_iter().map(|sum| (sum, pack.reference.id.clone())));
        }
    }
    chosen
}

/// Return the objects of the pack `id` with another SHA-256 than their names say.
pub fn wrong_objects<S: daxfs_files::memory::Storage + Sync>(
    reader: &Reader<'_, S>,
    id: &str,
    progress: &dyn Progress,
) -> Result<Vec<Sum>> {
    let mut objects = Vec::new();
    each_object(reader, id, |sum, inode| {
        objects.push((sum, *inode));
        Ok(())
    })?;
    let compared = objects.into_par_iter().map(|(sum, inode)| {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; buffer_for(&inode)];
        reader.content(
            &inode,
            hex(&sum).as_bytes(),
            &mut buffer,
            &mut |_, piece| {
                hash.update(piece);
                progress.advance(piece.len() as u64);
                Ok(())
            },
        )?;
        Ok((<[u8; 32]>::from(hash.finalize()) != sum).then_some(sum))
    });
    compared.filter_map(Result::transpose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use daxfs_files::Silent;
    use mkdaxfs::input::{read, Input, Options};
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::PathBuf;

    /// Return a directory, with the empty directory `source`, and a store in it.
    fn place() -> (tempfile::TempDir, PathBuf, Store) {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        std::fs::create_dir(&source).unwrap();
        let store = Store::create(&directory.path().join("store")).unwrap();
        (directory, source, store)
    }

    /// A pack that was damaged when it was loaded is written again.
    #[test]
    fn distrusted_packs() {
        let (_directory, source, store) = place();
        std::fs::write(source.join("file"), "content").unwrap();
        let create = |path: &Path| Output::create(path);
        let add = |name: &str| {
            let tree = mkdaxfs::input::scan::scan(&source, None, |_| ()).unwrap();
            store.add(name, tree, &create, &Silent).unwrap().new.objects
        };
        assert_eq!((add("a"), add("b")), (1, 0));
        let id = store.names("packs").unwrap().pop_first().unwrap();
        let good = std::fs::read(store.pack(&id)).unwrap();
        let pack = File::options().write(true).open(store.pack(&id)).unwrap();
        pack.write_all_at(b"damaged", good.len() as u64 - 4096)
            .unwrap();
        let reference = store.known_pack(&id).unwrap().reference.clone();
        let other = PackRef {
            sha256: "0".repeat(64),
            ..reference.clone()
        };
        let (name, looks) = (String::new(), String::new());
        let damaged = Err(Error::Foreign { name, looks });
        store.loaded(&reference, &Err(Error::refused("", "no room")));
        store.loaded(&other, &damaged);
        assert_eq!(add("c"), 0);
        store.loaded(&reference, &damaged);
        store.loaded(&reference, &Ok(()));
        assert_eq!(add("d"), 0);
        store.loaded(&reference, &damaged);
        assert_eq!(add("e"), 1);
        assert!(std::fs::read(store.pack(&id)).unwrap() == good);
        assert_eq!(add("f"), 0);
    }

    /// A large object that changes leaves the pack of the other ones in use.
    #[test]
    fn large_objects() {
        let (_directory, source, store) = place();
        std::fs::write(source.join("small"), "small").unwrap();
        let add = |name: &str, large: usize| {
            for number in 0..large {
                let file = File::create(source.join(number.to_string())).unwrap();
                file.set_len(LARGE).unwrap();
                let content = format!("{name} {number}");
                file.write_all_at(content.as_bytes(), 0).unwrap();
            }
            let tree = mkdaxfs::input::scan::scan(&source, None, |_| ()).unwrap();
            let create = |path: &Path| Output::create(path);
            let added = store.add(name, tree, &create, &Silent).unwrap();
            (added.new.objects, added.known.objects, added.packs)
        };
        assert_eq!(add("a", 1), (2, 0, 2));
        assert_eq!(add("b", 1), (1, 1, 2));
        assert_eq!(add("c", 3), (3, 1, 4));
        // None of them has a quarter.
        assert_eq!(add("d", 5), (5, 1, 2));
    }

    /// Files of one directory are together in a pack, in any order of the names of objects.
    #[test]
    fn neighbours() {
        let (_directory, source, store) = place();
        let mut places = HashMap::new();
        for dir in ["a", "b", "c", "d"] {
            std::fs::create_dir_all(source.join(dir)).unwrap();
            for number in 0..50 {
                let content = format!("{dir} {number} ").repeat(1100 + number);
                places.insert(Sum::from(Sha256::digest(&content)), dir);
                std::fs::write(source.join(dir).join(number.to_string()), content).unwrap();
            }
        }
        let tree = mkdaxfs::input::scan::scan(&source, None, |_| ()).unwrap();
        let create = |path: &Path| Output::create(path);
        store.add("image", tree, &create, &Silent).unwrap();
        let id = store.names("packs").unwrap().pop_first().unwrap();
        let pack = store.known_pack(&id).unwrap();
        let mut objects: Vec<_> = pack.objects().collect();
        // Smaller ones fill gaps.
        objects.retain(|(_, object)| object.size >= 4096);
        objects.sort_by_key(|(_, object)| object.data);
        let changes = objects.windows(2);
        let changes = changes.filter(|two| places[two[0].0] != places[two[1].0]);
        assert_eq!((objects.len() > 100, changes.count()), (true, 3));
    }

    /// An addition that fails leaves no pack.
    #[test]
    fn failed_additions() {
        let (directory, source, store) = place();
        std::fs::write(source.join("file"), "content").unwrap();
        let add = |name: &str, create: Guard<'_>| {
            let tree = mkdaxfs::input::scan::scan(&source, None, |_| ()).unwrap();
            store.add(name, tree, create, &Silent)
        };
        add("a", &|path| Output::create(path)).unwrap();
        let packs = store.names("packs").unwrap();
        std::fs::write(source.join("other"), "other").unwrap();
        let fails = |path: &Path| match path.starts_with(directory.path().join("store/images")) {
            true => Output::create(&directory.path().join("none/image")),
            false => Output::create(path),
        };
        add("b", &fails).unwrap_err();
        assert_eq!(store.names("packs").unwrap(), packs);
        add("b", &|path| Output::create(path)).unwrap();
        assert_eq!(store.names("packs").unwrap().len(), 2);
    }

    /// A removal does not wait for an addition, and the packs of both remain until it ends.
    #[test]
    fn removal_during_addition() {
        let (_directory, source, store) = place();
        let add = |name: &str, create: Guard<'_>| {
            std::fs::write(source.join("file"), name).unwrap();
            let tree = mkdaxfs::input::scan::scan(&source, None, |_| ()).unwrap();
            store.add(name, tree, create, &Silent).unwrap();
        };
        add("a", &|path| Output::create(path));
        let removed = std::cell::Cell::new(false);
        add("b", &|path| {
            if !removed.replace(true) {
                store.remove("a").unwrap();
            }
            Output::create(path)
        });
        assert_eq!(store.names("packs").unwrap().len(), 2);
        assert_eq!(store.gc(&mut |error| panic!("{error}")).unwrap().files, 1);
        assert!(store.parts("b").is_ok());
    }

    /// A file that changes after it was hashed is noticed, even if its size and time do not tell.
    #[test]
    fn changed_files() {
        let (directory, source, store) = place();
        let file = source.join("file");
        std::fs::write(&file, "first").unwrap();
        let options = Options::new(directory.path());
        let tree = || {
            let input = [Input::Directory(source.clone())];
            read(&input, &options, &Silent, &mut |_| ()).unwrap()
        };
        let change = |path: &Path| {
            let file = File::options().write(true).open(&file).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            file.write_all_at(b"other", 0).unwrap();
            file.set_modified(modified).unwrap();
            Output::create(path)
        };
        let error = store.add("image", tree(), &change, &Silent).unwrap_err();
        let expected = format!("{}: changed while it was read", file.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
        for inner in ["images", "packs"] {
            assert_eq!(store.files(inner).unwrap(), [""; 0].map(PathBuf::from));
        }
        // The second time, nothing changes.
        store.add("image", tree(), &change, &Silent).unwrap();
    }
}
