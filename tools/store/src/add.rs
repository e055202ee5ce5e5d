// SPDX-License-Identifier: GPL-2.0-only

//! Adds an image to a store.

use crate::escape::{escape, refuse_marks};
use crate::files::{failed, lock, sync, sync_content};
use crate::group::{choose, split};
use crate::layer::Known;
use crate::pack::{self, each_object, object_name, written, New, Object, Pack, PackRef, Sum};
use crate::store::Store;
use daxfs_files::digest::{self, combine, hex};
use daxfs_files::{make_room, Output, Progress, Silent};
use daxfs_image::error::{Error, Result};
use daxfs_image::reader::Reader;
use daxfs_image::text::shown_path;
use daxfs_image::warning::warn;
use daxfs_reader::Problem;
use mkdaxfs::writer::build::Builder;
use mkdaxfs::writer::content::{check_empty, sha256};
use mkdaxfs::writer::make;
use mkdaxfs::writer::options::Options;
use mkdaxfs::writer::tree::{Kind, Location, Node, NodeId, Tree};
use mkdaxfs::writer::write::derive_uuid;
use rayon::prelude::*;
use rustix::fs::statvfs;
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Maximum number of packs to write, and to keep open, before their content is synced.
pub(crate) const TOGETHER: usize = 128;

/// Number and total size of objects of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Number of objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Total {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// A new image.
#[derive(Debug, PartialEq, Eq)]
pub struct Added {
    /// Its SHA-256.
    pub sha256: String,
    /// Objects written to new packs.
    pub new: Total,
    /// Objects already in the store.
    pub known: Total,
    /// Number of packs of the image.
    pub packs: usize,
    /// Bytes of the image and of the new packs.
    pub written: u64,
}

/// Creates the output of an image, which may replace a damaged file. A signal removes the output.
pub type Guard<'a> = &'a dyn Fn(&Path) -> daxfs_files::Result<Output>;

impl Store {
    /// Adds `tree` as the image `name`. Calls `create` for the output of each image.
    ///
    /// The image appears once it and all objects are complete and durable. Fails if an image of
    /// this name exists, or if a file changes while it is read.
    pub fn add(
        &self,
        name: &str,
        tree: Tree,
        create: Guard<'_>,
        progress: &dyn Progress,
    ) -> Result<Added> {
        self.add_known(name, (tree, Known::new()), create, progress)
    }

    /// Like [`Store::add`], but adds what `merge` makes of the files of the image `below`, as the
    /// lower layer of other overlays.
    pub fn add_layer<E: From<Error>>(
        &self,
        name: &str,
        below: Option<&str>,
        merge: impl FnOnce(&mut Builder) -> std::result::Result<(), E>,
        create: Guard<'_>,
        progress: &dyn Progress,
    ) -> std::result::Result<Added, E> {
        let (mut builder, known) = self.on(below)?;
        merge(&mut builder)?;
        let mut tree = builder.finish();
        refuse_marks(&tree)?;
        escape(&mut tree);
        Ok(self.add_known(name, (tree, known), create, progress)?)
    }

    fn add_known(
        &self,
        name: &str,
        (tree, known): (Tree, Known),
        create: Guard<'_>,
        progress: &dyn Progress,
    ) -> Result<Added> {
        let path = self.new_image(name)?;
        check_empty(&tree)?;
        let files = regular(&tree, &known);
        self.check_room(name, &files)?;
        let files = hash(&tree, files, progress)?;
        self.changing(&path, || {
            self.write(name, (tree, known), &files, create, progress)
        })
    }

    /// Returns the path for a new image `name`. Fails if an image of this name exists.
    pub(crate) fn new_image(&self, name: &str) -> Result<PathBuf> {
        let path = self.image(name)?;
        if path.symlink_metadata().is_ok() {
            let why = "is in the store; use another name, or remove that image first";
            return Err(Error::refused(name, why));
        }
        Ok(path)
    }

    /// Calls `write` to write packs and then the image `path`. Removes the packs if it fails.
    pub(crate) fn changing(
        &self,
        path: &Path,
        write: impl FnOnce() -> Result<Added>,
    ) -> Result<Added> {
        let _change = lock(&self.change);
        let before = self.names("packs")?;
        let made = write();
        // If only its directory could not be synced, the image may be in place.
        if made.is_err() && path.symlink_metadata().is_err() {
            // No image needs the completed packs. gc removes the rest.
            for sha256 in self.names("packs")?.difference(&before) {
                let _ = std::fs::remove_file(self.pack(sha256));
                lock(&self.read).forget(sha256);
            }
        }
        made
    }

    /// Writes the packs and the image of `tree` with its regular `files`.
    fn write(
        &self,
        name: &str,
        (mut tree, known): (Tree, Known),
        files: &[(Sum, NodeId, u64)],
        create: Guard<'_>,
        progress: &dyn Progress,
    ) -> Result<Added> {
        let objects: BTreeMap<Sum, u64> = files.iter().map(|&(sum, _, size)| (sum, size)).collect();
        let mut packs = self.usable_packs(&objects)?;
        let mut places = choose(&objects, &packs);
        let (mut total, mut bytes) = ([Total::default(); 2], 0);
        for (sum, size) in &objects {
            total[usize::from(places.contains_key(sum))].add(*size);
        }
        // The next version likely needs objects that other packs also have, more than new ones.
        let stored = packs.iter().flat_map(|pack| pack.objects());
        let stored: HashSet<Sum> = stored.map(|(sum, _)| *sum).collect();
        let mut lists = [Vec::new(), Vec::new()];
        let mut seen: HashSet<Sum> = places.keys().copied().collect();
        for &(sum, node, size) in files {
            if seen.insert(sum) {
                let (time, _) = tree.node(node).attributes.mtime;
                lists[usize::from(!stored.contains(&sum))].push(New {
                    sum,
                    size,
                    time,
                    node,
                });
            }
        }
        for list in &mut lists {
            list.sort_by_key(|new| new.time);
        }
        progress.step("packing", lists.concat().iter().map(|new| new.size).sum());
        let dir = self.open_packs()?;
        for contents in split(&lists).chunks(TOGETHER) {
            make_room(contents.len());
            let outputs = contents.iter().map(|_| create(&self.pack("new")));
            let outputs = outputs.collect::<daxfs_files::Result<Vec<_>>>()?;
            let written = contents.par_iter().zip(&outputs).map(|(content, output)| {
                self.write_pack(&tree, &known, content, output, &Advance(progress))
            });
            let written = written.collect::<Result<Vec<_>>>()?;
            for (content, (pack, size)) in contents.iter().zip(&written) {
                bytes += size;
                places.extend(content.iter().map(|new| (new.sum, packs.len())));
                packs.push(Arc::clone(pack));
            }
            let made = outputs.into_iter().zip(written);
            let made = made.map(|(output, (pack, _))| (output, pack));
            self.put_packs(&dir, made.collect(), progress)?;
        }
        let count = compose(&mut tree, files, &places, &packs)?;
        let output = create(&self.image(name)?)?;
        let summary = make(&tree, &pack::options(), &output, progress)?;
        let [new, known] = total;
        let sha256 = hex(&summary.digest);
        let needs = tree.packs.iter().map(|pack| PackRef {
            sha256: hex(&pack.sha256),
            size: pack.total_size,
        });
        self.put_image(name, output, &sha256, needs.collect(), progress)?;
        Ok(Added {
            sha256,
            new,
            known,
            packs: count,
            written: bytes + summary.total_size,
        })
    }

    /// Moves the complete image `output` to `name`, given its SHA-256 and its packs.
    pub(crate) fn put_image(
        &self,
        name: &str,
        output: Output,
        sha256: &str,
        needs: Vec<PackRef>,
        progress: &dyn Progress,
    ) -> Result<()> {
        // Packs get their names once their content is durable. Make the names durable before the
        // image, including those from a killed command.
        sync(&self.dir.join("packs"))?;
        output.commit(progress)?;
        let mut read = lock(&self.read);
        read.images.insert(name.into(), (sha256.into(), needs));
        // Rereading an object takes 2 µs; keeping it would need 56 bytes of memory.
        read.packs.clear();
        Ok(())
    }

    /// Fails if a tree is larger than the store's filesystem, before reading all of it: a small
    /// archive may contain files of any size.
    fn check_room(&self, name: &str, files: &[Regular]) -> Result<()> {
        let sizes = files.iter().map(|file| file.size);
        let size = sizes.fold(0, u64::saturating_add);
        let found = statvfs(&self.dir);
        let found = found.map_err(|error| failed(&self.dir, "examine", error.into()))?;
        let room = found.f_blocks.saturating_mul(found.f_frsize);
        // Some filesystems, such as ramfs, report nothing.
        if size > room && room > 0 {
            let why = format!(
                "has {size} bytes, and the filesystem of the store {room}; leave files out with --exclude, or move the store to a larger one"
            );
            return Err(Error::refused(name, why));
        }
        Ok(())
    }

    /// Returns all packs that are undamaged and agree with the sizes of `objects`.
    fn usable_packs(&self, objects: &BTreeMap<Sum, u64>) -> Result<Vec<Arc<Pack>>> {
        let mut packs = Vec::new();
        let names: Vec<String> = self.names("packs")?.into_iter().collect();
        let read = names.par_iter().map(|sha256| {
            let pack = self.trusted_pack(sha256)?;
            check_sizes(objects, &pack)?;
            Ok(pack)
        });
        for pack in read.collect::<Vec<Result<_>>>() {
            match pack {
                Ok(pack) => packs.push(pack),
                Err(error) if may_be_good(&error) => return Err(error),
                Err(error) => warn(format_args!("{error}; it is not used for new images, and daxfs store verify lists all damage")),
            }
        }
        Ok(packs)
    }

    /// Writes a pack of `objects`, which are files of `tree`. Returns the pack and its size.
    ///
    /// Fails if a file has changed, or if `known` content is damaged.
    fn write_pack(
        &self,
        tree: &Tree,
        known: &Known,
        objects: &[New],
        output: &Output,
        progress: &dyn Progress,
    ) -> Result<(Arc<Pack>, u64)> {
        let packed = pack::tree(tree, objects)?;
        let sums = objects.iter().map(|new| new.sum);
        let options = Options {
            // Keep a directory's files close together, although the names of objects are hashes.
            by_node: true,
            // Deriving it from the pack's bytes would cost a second SHA-256 of them.
            uuid: Some(derive_uuid(&combine(sums))),
            ..pack::options()
        };
        let summary = make(&packed, &options, output, progress)?;
        let name = shown_path(&self.pack(&hex(&summary.digest)));
        let opened = written(output, summary.total_size, name)?;
        // A file may have changed unnoticed after it was hashed. Content of packs was not hashed.
        let is_doubtful = |node: &Node| {
            tree.origins[node.origin as usize].may_change() || sum_in_pack(node, known).is_some()
        };
        let doubtful = objects.iter().map(|new| (new.sum, new.node));
        let doubtful = doubtful.filter(|(_, node)| is_doubtful(tree.node(*node)));
        let doubtful: HashMap<Sum, NodeId> = doubtful.collect();
        let is_wanted = |sum: &Sum| doubtful.contains_key(sum);
        if let Some(sum) = wrong_objects(&opened.reader(), is_wanted, &Silent)?.first() {
            let id = doubtful[sum];
            let node = tree.node(id);
            if sum_in_pack(node, known).is_some() {
                let pack = tree.origins[node.origin as usize].path();
                self.distrust(pack);
                let error = daxfs_reader::Error::new(Problem::Digest, 0, 0);
                return Err(Error::image(
                    &shown_path(pack),
                    object_name(sum).as_bytes(),
                    error,
                ));
            }
            let how = "its content is not the same when it is read twice";
            return Err(daxfs_files::Error::changed(&tree.path(id), how).into());
        }
        Ok((Arc::new(Pack::of(&opened)?), summary.total_size))
    }

    /// Opens the directory of packs, before some are written for [`Store::put_packs`].
    pub(crate) fn open_packs(&self) -> Result<File> {
        let dir = self.dir.join("packs");
        File::open(&dir).map_err(|error| failed(&dir, "open", error))
    }

    /// Renames the complete packs `made` once their content is durable, replacing damaged packs.
    /// [`Store::put_image`] makes the names durable.
    pub(crate) fn put_packs(
        &self,
        dir: &File,
        made: Vec<(Output, Arc<Pack>)>,
        progress: &dyn Progress,
    ) -> Result<()> {
        if !made.is_empty() {
            sync_content(dir, &self.dir)?;
        }
        for (mut output, pack) in made {
            let sha256 = hex(&pack.reference.sha256);
            let path = self.pack(&sha256);
            // Nothing else replaces a dangling link.
            if !path.exists() {
                let _ = std::fs::remove_file(&path);
            }
            output.rename(path.file_name().unwrap_or_default());
            output.place(progress)?;
            let mut read = lock(&self.read);
            read.forget(&sha256);
            read.packs.insert(sha256, pack);
        }
        Ok(())
    }
}

/// Reports the progress of parts to a step that has begun.
struct Advance<'a>(&'a dyn Progress);

impl Progress for Advance<'_> {
    fn step(&self, _name: &'static str, _total: u64) {}

    fn advance(&self, bytes: u64) {
        self.0.advance(bytes);
    }
}

/// Returns true if a pack that fails to open with `error` may be intact. A dangling link is not.
pub(crate) fn may_be_good(error: &Error) -> bool {
    match error {
        Error::System { source, .. } => {
            let errno = Errno::from_io_error(source);
            !error.is_damage() && !matches!(errno, Some(Errno::NOENT | Errno::LOOP))
        }
        _ => false,
    }
}

/// Assigns the needed packs, sorted, to the image of `tree`, and to each of its regular `files` its
/// object. `places` has the index of each in `packs`. Returns the number of needed packs.
fn compose(
    tree: &mut Tree,
    files: &[(Sum, NodeId, u64)],
    places: &HashMap<Sum, usize>,
    packs: &[Arc<Pack>],
) -> Result<usize> {
    let mut needed: Vec<usize> = places.values().copied().collect();
    needed.sort_unstable_by_key(|&index| packs[index].reference.sha256);
    needed.dedup();
    let numbers: HashMap<usize, u32> = needed.iter().copied().zip(0..).collect();
    tree.packs = needed.iter().map(|&index| packs[index].reference).collect();
    for (sum, node, _) in files {
        let place = places
            .get(sum)
            .map(|index| (packs[*index].get(sum), numbers[index]));
        let Some((Some(Object { ino, .. }), pack)) = place else {
            let why = "has content that its pack does not have; try again";
            return Err(daxfs_files::Error::refused(&tree.path(*node), why).into());
        };
        if let Kind::Regular { location, .. } = &mut tree.nodes[*node as usize].kind {
            *location = Location::Pack { pack, ino: *ino };
        }
    }
    Ok(needed.len())
}

struct Regular {
    node: NodeId,
    size: u64,
    /// The SHA-256 of its content, if known.
    sum: Option<Sum>,
}

/// Returns all non-empty regular files of `tree` by directory. `known` are those in packs.
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

/// Returns the SHA-256 of a file whose content is in a pack.
fn sum_in_pack(node: &Node, known: &Known) -> Option<Sum> {
    match node.kind {
        Kind::Regular {
            location: Location::Part(data),
            ..
        } => known.get(&(node.origin, data)).copied(),
        _ => None,
    }
}

/// Returns the SHA-256 and size of each of the regular files of `tree`.
fn hash(
    tree: &Tree,
    files: Vec<Regular>,
    progress: &dyn Progress,
) -> Result<Vec<(Sum, NodeId, u64)>> {
    progress.step("hashing", files.iter().map(|file| file.size).sum());
    let hashed = files.into_par_iter().map_init(Vec::new, |buffer, file| {
        let Regular { node, size, sum } = file;
        let sum = match sum {
            Some(sum) => sum,
            None => sha256(tree, node, buffer)?,
        };
        progress.advance(size);
        Ok((sum, node, size))
    });
    hashed.collect()
}

/// Fails if `pack` has one of `objects` with a different size.
fn check_sizes(objects: &BTreeMap<Sum, u64>, pack: &Pack) -> Result<()> {
    for (sum, Object { size, .. }) in pack.objects() {
        if let Some(wanted) = objects.get(sum).filter(|wanted| *wanted != size) {
            let why = format!(
                "object {} has {size} bytes instead of {wanted}",
                object_name(sum)
            );
            let name = format!("pack {}", hex(&pack.reference.sha256));
            return Err(Error::refused(name, why));
        }
    }
    Ok(())
}

/// Returns the `wanted` objects of a pack whose SHA-256 differs from their name.
pub fn wrong_objects<S: daxfs_files::memory::Storage + Sync>(
    reader: &Reader<'_, S>,
    wanted: impl Fn(&Sum) -> bool,
    progress: &dyn Progress,
) -> Result<Vec<Sum>> {
    let mut objects = Vec::new();
    each_object(reader, |sum, inode| {
        if wanted(&sum) {
            objects.push((sum, *inode));
        }
        Ok(())
    })?;
    let compared = objects.into_par_iter().map(|(sum, inode)| {
        let found = digest::sha256(|add| {
            reader.content(&inode, object_name(&sum).as_bytes(), &mut |piece| {
                add(piece);
                progress.advance(piece.len() as u64);
                Ok(())
            })
        });
        Ok((found? != sum).then_some(sum))
    });
    compared.filter_map(Result::transpose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mkdaxfs::input::{read, Input, Options};
    use sha2::{Digest, Sha256};
    use std::fs::Permissions;
    use std::os::unix::fs::{FileExt, PermissionsExt};

    /// Returns a directory with the empty directory `source` and a store in it.
    fn place() -> (tempfile::TempDir, PathBuf, Store) {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        std::fs::create_dir(&source).unwrap();
        let store = Store::create(&directory.path().join("store")).unwrap();
        (directory, source, store)
    }

    /// Adds the image `name` of the directory `source`.
    fn add(store: &Store, source: &Path, name: &str, create: Guard<'_>) -> Result<Added> {
        let tree = mkdaxfs::input::scan::scan(source, None, |_| ()).unwrap();
        store.add(name, tree, create, &Silent)
    }

    fn create(path: &Path) -> daxfs_files::Result<Output> {
        Output::create(path)
    }

    /// A pack found damaged is written again.
    #[test]
    fn distrusted_packs() {
        let (_directory, source, store) = place();
        std::fs::write(source.join("file"), "content").unwrap();
        let add = |name: &str| add(&store, &source, name, &create).unwrap().new.objects;
        assert_eq!((add("a"), add("b")), (1, 0));
        let id = store.names("packs").unwrap().pop_first().unwrap();
        let good = std::fs::read(store.pack(&id)).unwrap();
        let pack = File::options().write(true).open(store.pack(&id)).unwrap();
        pack.write_all_at(b"damaged", good.len() as u64 - 4096)
            .unwrap();
        assert_eq!(add("c"), 0);
        store.distrust(&store.pack(&id));
        assert_eq!(add("e"), 1);
        assert!(std::fs::read(store.pack(&id)).unwrap() == good);
        assert_eq!(add("f"), 0);
        // So is a dangling link.
        for target in ["nowhere", &format!("{id}.daxfs")] {
            std::fs::remove_file(store.pack(&id)).unwrap();
            std::os::unix::fs::symlink(target, store.pack(&id)).unwrap();
            assert_eq!(add(target.get(..7).unwrap()), 1);
            assert!(std::fs::read(store.pack(&id)).unwrap() == good);
        }
    }

    /// Files of one directory are together in a pack, whatever the order of the objects' names.
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
        add(&store, &source, "image", &create).unwrap();
        let mut changes = 0;
        let packs = store.names("packs").unwrap();
        for sha256 in &packs {
            let pack = store.known_pack(sha256).unwrap();
            let mut objects: Vec<_> = pack.objects().collect();
            // Smaller ones fill gaps.
            objects.retain(|(_, object)| object.size >= 4096);
            objects.sort_by_key(|(_, object)| object.data);
            let pairs = objects.windows(2);
            changes += pairs
                .filter(|two| places[two[0].0] != places[two[1].0])
                .count();
        }
        // Each pack may start in another directory than the previous one ended in.
        assert!(changes <= 3 && packs.len() < 16, "{changes}, {packs:?}");
    }

    /// A failed addition leaves no pack.
    #[test]
    fn failed_additions() {
        let (directory, source, store) = place();
        std::fs::write(source.join("file"), "content").unwrap();
        add(&store, &source, "a", &create).unwrap();
        let packs = store.names("packs").unwrap();
        std::fs::write(source.join("other"), "other").unwrap();
        let fails = |path: &Path| {
            if path.starts_with(directory.path().join("store/images")) {
                create(&directory.path().join("none/image"))
            } else {
                create(path)
            }
        };
        add(&store, &source, "b", &fails).unwrap_err();
        assert_eq!(store.names("packs").unwrap(), packs);
        add(&store, &source, "b", &create).unwrap();
        assert_eq!(store.names("packs").unwrap().len(), 2);
    }

    /// A removal does not wait for an addition, and the packs of both remain until it ends.
    #[test]
    fn removal_during_addition() {
        let (_directory, source, store) = place();
        std::fs::write(source.join("file"), "a").unwrap();
        add(&store, &source, "a", &create).unwrap();
        std::fs::write(source.join("file"), "b").unwrap();
        let removed = std::cell::Cell::new(false);
        let remove = |path: &Path| {
            if !removed.replace(true) {
                store.remove("a").unwrap();
            }
            create(path)
        };
        add(&store, &source, "b", &remove).unwrap();
        assert_eq!(store.names("packs").unwrap().len(), 2);
        assert_eq!(store.gc(&mut |error| panic!("{error}")).unwrap().packs, 1);
        assert!(store.parts("b").is_ok());
    }

    /// A pack that is modified after its verification is exported neither then nor later.
    #[test]
    fn modified_exports() {
        let (directory, source, store) = place();
        std::fs::write(source.join("file"), "content").unwrap();
        add(&store, &source, "image", &create).unwrap();
        let layout = directory.path().join("layout");
        let export =
            |create: Guard<'_>| store.export("image", &layout, "image", None, create, &Silent);
        let pack = store.files("packs").unwrap().remove(0);
        let good = std::fs::read(&pack).unwrap();
        let image = std::cell::Cell::new(true);
        let error = export(&|path| {
            if !image.replace(false) {
                std::fs::write(&pack, vec![0; good.len()]).unwrap();
            }
            create(path)
        });
        assert!(error.unwrap_err().to_string().contains("program changed"));
        std::fs::write(&pack, &good).unwrap();
        export(&create).unwrap();
        let mut blobs = layout.join("blobs/sha256").read_dir().unwrap();
        assert!(blobs.any(|blob| std::fs::read(blob.unwrap().path()).unwrap() == good));
    }

    /// A file that changes after it was hashed is noticed even if its size and time do not change,
    /// in a directory and in an image that others may write to.
    #[test]
    fn changed_files() {
        let (directory, source, store) = place();
        let (file, image) = (source.join("file"), directory.path().join("image"));
        std::fs::write(&file, "first").unwrap();
        let options = Options::new(directory.path());
        let tree = |path: &Path| {
            let input = [Input::parse(path.as_os_str())];
            read(&input, &options).unwrap()
        };
        let output = Output::create(&image).unwrap();
        make(&tree(&source), &Default::default(), &output, &Silent).unwrap();
        output.commit(&Silent).unwrap();
        std::fs::set_permissions(&image, Permissions::from_mode(0o666)).unwrap();
        let bytes = std::fs::read(&image).unwrap();
        let at = bytes.windows(5).position(|it| it == b"first").unwrap();
        let change = |path: &Path, at: usize| {
            let file = File::options().write(true).open(path).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            file.write_all_at(b"other", at as u64).unwrap();
            file.set_modified(modified).unwrap();
        };
        for (input, file, at) in [(&source, &file, 0), (&image, &image, at)] {
            let late = |path: &Path| {
                change(file, at);
                create(path)
            };
            let error = store.add("image", tree(input), &late, &Silent);
            let error = error.unwrap_err().to_string();
            assert!(error.contains("file: changed while it was read"), "{error}");
            for inner in ["images", "packs"] {
                assert_eq!(store.files(inner).unwrap(), [""; 0].map(PathBuf::from));
            }
        }
        // The second time, nothing changes.
        add(&store, &source, "image", &create).unwrap();
    }
}
