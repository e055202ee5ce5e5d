// SPDX-License-Identifier: GPL-2.0-only

//! Trees of images, and layers on top of them.
//!
//! A layer becomes an image of the whole tree, so that a container's overlay has one lower layer.

use crate::pack::Sum;
use crate::store::Store;
use daxfs_files::make_room;
use daxfs_image::error::Result;
use mkdaxfs::input::{Input, Options};
use mkdaxfs::writer::build::{Builder, Marks};
use mkdaxfs::writer::overlay::{self, OVERLAY};
use mkdaxfs::writer::tree::{NodeId, Tree};
use std::collections::HashMap;
use std::path::PathBuf;

/// Objects of files whose content is in packs, by origin in the tree and offset in the origin.
pub type Known = HashMap<(u32, u64), Sum>;

impl Store {
    /// Returns the tree of the image `name`, with content from its packs, as overlayfs shows it.
    pub fn tree(&self, name: &str) -> Result<Tree> {
        Ok(self.whole_tree(name)?.0)
    }

    fn whole_tree(&self, name: &str) -> Result<(Tree, Known)> {
        let (mut tree, known) = self.stored_tree(name)?;
        see(&mut tree);
        Ok((tree, known))
    }

    /// Returns the number of inodes of the image `name`, which an overlay on top shows unchanged.
    ///
    /// Fails if one has a mark that overlayfs obeys.
    pub fn lower_inodes(&self, name: &str) -> Result<u64> {
        let (tree, _) = self.stored_tree(name)?;
        let is_obeyed = |xattr| overlay::own_name(xattr).is_some_and(|it| !it.starts_with(OVERLAY));
        for (node, id) in tree.nodes.iter().zip(0..) {
            let mut set = tree.xattrs[node.attributes.xattrs as usize].iter();
            if node.kind.is_whiteout() || set.any(is_obeyed) {
                let why = "is a whiteout, or has an attribute trusted.overlay.*, so an overlay would hide files; leave it out of the image, or remove the attribute with setfattr -x";
                return Err(daxfs_files::Error::refused(&tree.path(id), why).into());
            }
        }
        Ok(tree.nodes.len() as u64)
    }

    /// Returns the tree of the image `name` as stored, with content from its packs.
    fn stored_tree(&self, name: &str) -> Result<(Tree, Known)> {
        let opened = self.open_image(name)?;
        let (_, needed) = self.needs_of(name)?;
        let mut packs = Vec::with_capacity(needed.len());
        for pack in &needed {
            packs.push((self.pack(&pack.sha256), self.known_pack(&pack.sha256)?));
        }
        // The input opens each file twice.
        make_room(2 * packs.len());
        let paths: Vec<PathBuf> = packs.iter().map(|(path, _)| path.clone()).collect();
        let input = [Input::Composed(self.image(name)?, paths)];
        let options = Options::new(&self.dir);
        let tree = mkdaxfs::input::read(&input, &options)?;
        opened.reader().check_replaced()?;
        let mut known = Known::new();
        for (path, pack) in &packs {
            let mut origins = (0..).zip(&tree.origins);
            if let Some((number, _)) = origins.find(|(_, origin)| origin.path() == path) {
                let objects = pack.objects().map(|(sum, object)| (object.data, *sum));
                known.extend(objects.map(|(data, sum)| ((number, data), sum)));
            }
        }
        Ok((tree, known))
    }

    /// Returns a builder on the visible files of the image `below`, if any, and their objects.
    pub fn on(&self, below: Option<&str>) -> Result<(Builder, Known)> {
        match below {
            Some(below) => {
                let (tree, known) = self.whole_tree(below)?;
                Ok((Builder::on(tree), known))
            }
            None => Ok((Builder::new(), Known::new())),
        }
    }
}

/// Merges `layer`, the tree of an overlay's upper directory, into `builder`, as overlayfs shows it.
///
/// Fails if files in the directory have data elsewhere, by `metacopy` or `redirect_dir`.
pub fn merge_upper(builder: &mut Builder, mut layer: Tree) -> Result<()> {
    let mut marks = Marks::default();
    for (node, id) in layer.nodes.iter().zip(0..) {
        let set = &layer.xattrs[node.attributes.xattrs as usize];
        if overlay::value(set, "metacopy").is_some() || overlay::value(set, "redirect").is_some() {
            let why = "has its content elsewhere; mount the overlay with metacopy=off and redirect_dir=off";
            return Err(daxfs_files::Error::refused(&layer.path(id), why).into());
        }
        if overlay::value(set, "opaque") == Some(b"y") {
            marks.opaque.insert(id);
        }
    }
    see(&mut layer);
    let root = builder.tree.append(layer)?;
    marks.opaque = marks.opaque.iter().map(|id| root + id).collect();
    for id in root..builder.tree.nodes.len() as NodeId {
        for (name, node) in builder.list(id) {
            if builder.tree.node(node).kind.is_whiteout() {
                builder.remove(id, &name);
                marks.removed.entry(id).or_default().push(name);
            }
        }
    }
    builder.merge(root, &marks);
    Ok(())
}

/// Reduces the attributes of all files of `tree` to those that overlayfs shows.
fn see(tree: &mut Tree) {
    let count = tree.xattrs.len();
    let sets: Vec<u32> = (0..count)
        .map(|set| {
            let shown = overlay::visible(&tree.xattrs[set]);
            tree.keep_xattrs(shown)
        })
        .collect();
    for node in &mut tree.nodes {
        node.attributes.xattrs = sets[node.attributes.xattrs as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::add::Total;
    use daxfs_files::{Output, Silent};
    use daxfs_reader::layout::XattrPrefix;
    use daxfs_reader::{FileType, OwnedXattr};
    use mkdaxfs::writer::tree::{Kind, XattrSet};
    use std::collections::BTreeSet;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    /// Returns a directory with a store in it.
    fn place() -> (tempfile::TempDir, Store) {
        let place = tempfile::tempdir().unwrap();
        let store = Store::create(&place.path().join("store")).unwrap();
        (place, store)
    }

    /// Verifies the store, which must be intact.
    fn verified(store: &Store) -> crate::Verified {
        let verified = store.verify(&Silent, &mut |error| panic!("{error}"));
        verified.unwrap()
    }

    /// Returns the tree of a new directory with these files, by name and content.
    fn tree(place: &Path, files: &[(&str, &str)]) -> Tree {
        let directory = tempfile::tempdir_in(place).unwrap().keep();
        for (name, content) in files {
            let path = directory.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        mkdaxfs::input::scan::scan(&directory, None, |_| ()).unwrap()
    }

    fn find(tree: &Tree, path: &str) -> usize {
        let is_it = |id: &usize| tree.relative_path(*id as NodeId) == Path::new(path);
        (0..tree.nodes.len()).find(is_it).unwrap()
    }

    fn mark(tree: &mut Tree, path: &str, name: &[u8], value: &[u8]) {
        let node = find(tree, path);
        let xattr = OwnedXattr {
            prefix: XattrPrefix::Trusted,
            name: name.into(),
            value: value.into(),
        };
        tree.nodes[node].attributes.xattrs = tree.keep_xattrs(vec![xattr]);
    }

    fn names(store: &Store, image: &str) -> BTreeSet<String> {
        let tree = store.tree(image).unwrap();
        let paths = (1..tree.nodes.len()).map(|id| tree.relative_path(id as NodeId));
        paths.map(|path| path.to_str().unwrap().into()).collect()
    }

    fn add(store: &Store, name: &str, below: Option<&str>, layer: Tree) -> Result<crate::Added> {
        let merge = |builder: &mut Builder| merge_upper(builder, layer);
        store.add_layer(name, below, merge, &|path| Output::create(path), &Silent)
    }

    const WHITEOUT: Kind = Kind::Device {
        file_type: FileType::CharDevice,
        major: 0,
        minor: 0,
    };

    /// Damaged content of a pack is not stored again, and the error names the pack.
    #[test]
    fn damaged_content() {
        let (place, store) = place();
        let base = [("large", "eeee"), ("small", "s")];
        add(&store, "1", None, tree(place.path(), &base)).unwrap();
        let id = store.names("packs").unwrap().pop_first().unwrap();
        let pack = File::options().write(true).open(store.pack(&id)).unwrap();
        for (_, object) in store.known_pack(&id).unwrap().objects() {
            pack.write_all_at(b"x", object.data).unwrap();
        }
        let mut layer = tree(place.path(), &[("large", "")]);
        let gone = find(&layer, "large");
        layer.nodes[gone].kind = WHITEOUT;
        let error = add(&store, "2", Some("1"), layer).unwrap_err();
        assert!(error.is_damage(), "{error}");
        assert!(error.to_string().contains(&id), "{error}");
        assert!(store.trusted_pack(&id).is_err());
    }

    /// Only images without overlayfs's marks can be lower layers.
    #[test]
    fn marks() {
        let (place, store) = place();
        let with = |name: &str, change: &dyn Fn(&mut Tree)| {
            let mut tree = tree(place.path(), &[("dir/file", "a"), ("gone", "b")]);
            change(&mut tree);
            let create = |path: &Path| Output::create(path);
            store.add(name, tree, &create, &Silent).unwrap();
            store.lower_inodes(name)
        };
        let opaque = |tree: &mut Tree| mark(tree, "dir", b"overlay.opaque", b"y");
        let escaped = |tree: &mut Tree| mark(tree, "dir", b"overlay.overlay.opaque", b"y");
        let whiteout = |tree: &mut Tree| {
            let gone = find(tree, "gone");
            tree.nodes[gone].kind = WHITEOUT;
        };
        assert_eq!(with("plain", &|_| ()).unwrap(), 4);
        assert_eq!(with("escaped", &escaped).unwrap(), 4);
        let error = with("opaque", &opaque).unwrap_err().to_string();
        assert!(error.contains("dir: is a whiteout, or has"), "{error}");
        let error = with("whiteout", &whiteout).unwrap_err().to_string();
        assert!(error.contains("gone: is a whiteout"), "{error}");
    }

    #[test]
    fn layers() {
        let (place, store) = place();
        let base = [
            ("dir/gone", "a"),
            ("dir/kept", "b"),
            ("opaque/old", "c"),
            ("file/below", "d"),
            ("large", "eeee"),
        ];
        let added = add(&store, "1", None, tree(place.path(), &base)).unwrap();
        assert_eq!(added.new.objects, 5);
        let files = [
            ("dir/gone", ""),
            ("dir/new", "f"),
            ("opaque/new", "b"),
            ("file", "g"),
        ];
        let mut layer = tree(place.path(), &files);
        let gone = find(&layer, "dir/gone");
        layer.nodes[gone].kind = WHITEOUT;
        mark(&mut layer, "opaque", b"overlay.opaque", b"y");
        mark(&mut layer, "dir/new", b"overlay.overlay.redirect", b"/x");
        mark(&mut layer, "dir", b"overlay.impure", b"y");
        mark(&mut layer, "file", b"other", b"kept");
        let added = add(&store, "2", Some("1"), layer).unwrap();
        let total = |objects, bytes| Total { objects, bytes };
        assert_eq!((added.new, added.known), (total(2, 2), total(2, 5)));
        assert_eq!(added.packs, 2);
        let expected = "dir dir/kept dir/new file large opaque opaque/new".split(' ');
        let expected: BTreeSet<_> = expected.map(String::from).collect();
        assert_eq!(names(&store, "2"), expected);
        let whole = store.tree("2").unwrap();
        let set = |path| &whole.xattrs[whole.nodes[find(&whole, path)].attributes.xattrs as usize];
        assert_eq!(set("opaque"), &XattrSet::new());
        assert_eq!(set("dir"), &XattrSet::new());
        assert_eq!(set("file")[0].name[..], b"other"[..]);
        assert_eq!(overlay::value(set("dir/new"), "redirect"), Some(&b"/x"[..]));
        assert_eq!(verified(&store).objects, 7);
        // The data is elsewhere.
        for name in [b"overlay.metacopy", b"overlay.redirect"] {
            let mut layer = tree(place.path(), &[("file", "")]);
            mark(&mut layer, "file", name, b"/x");
            let error = add(&store, "3", Some("2"), layer).unwrap_err().to_string();
            assert!(error.contains("file: has its content elsewhere"), "{error}");
        }
        store.remove("1").unwrap();
        store.gc(&mut |error| panic!("{error}")).unwrap();
        assert_eq!(names(&store, "2"), expected);
    }

    /// A layer hides one name of a file with two names.
    #[test]
    fn hidden_links() {
        let (place, store) = place();
        let base = tempfile::tempdir_in(&place).unwrap();
        for (first, second) in [("a/x", "b/x"), ("d/x", "c/x")] {
            for path in [first, second] {
                std::fs::create_dir(base.path().join(path).parent().unwrap()).unwrap();
            }
            std::fs::write(base.path().join(first), first).unwrap();
            std::fs::hard_link(base.path().join(first), base.path().join(second)).unwrap();
        }
        let base = mkdaxfs::input::scan::scan(base.path(), None, |_| ()).unwrap();
        add(&store, "base", None, base).unwrap();
        let hidden = [
            ("a/x", "b/x"),
            ("b/x", "a/x"),
            ("a", "b/x"),
            ("c", "d/x"),
            ("d/x", "c/x"),
        ];
        for (number, (hidden, left)) in hidden.into_iter().enumerate() {
            let name = number.to_string();
            let layer = tree(place.path(), &[(hidden, "other")]);
            add(&store, &name, Some("base"), layer).unwrap();
            assert!(names(&store, &name).contains(left));
        }
    }

    /// Each layer adds a pack, and an image needs no other packs.
    #[test]
    fn many_layers() {
        let (place, store) = place();
        let count = 70_usize;
        for layer in 0..count {
            let text = format!("{layer}");
            let below = layer.checked_sub(1).map(|below| below.to_string());
            let files = [(&*text, &*text)];
            let layer_tree = tree(place.path(), &files);
            let added = add(&store, &text, below.as_deref(), layer_tree).unwrap();
            assert_eq!((added.new.objects, added.packs), (1, layer + 1));
            assert!(store.read.lock().unwrap().packs.is_empty());
        }
        let last = (count - 1).to_string();
        assert_eq!(names(&store, &last).len(), count);
        assert_eq!(verified(&store).images, count);
    }
}
