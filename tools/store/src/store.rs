// SPDX-License-Identifier: GPL-2.0-only

//! Stores in directories.

use crate::files::{failed, length, lock, occupy, sync, sync_parent};
use crate::listing::{add_packs, Listed};
use crate::pack::{packs, Pack, PackRef};
use daxfs_files::digest::hex;
use daxfs_files::{identity, parent_of, Identity};
use daxfs_image::error::{Error, Result};
use daxfs_image::packs::missing_pack;
use daxfs_image::source::Opened;
use daxfs_image::text::shown_path;
use daxfs_reader::catalog::valid_name;
use rustix::fs::{stat, OFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{symlink, DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The link to the image that is mounted if no name is given.
const ACTIVE: &str = "active";

const SUFFIX: &str = ".daxfs";

/// Returns the error for a directory that is missing or has no store.
fn no_store(dir: &Path) -> Error {
    let why = match dir.symlink_metadata() {
        Ok(_) => "is not a store; daxfs store init makes one",
        Err(_) => "does not exist; check the path, or make a store there (daxfs store init)",
    };
    Error::refused(shown_path(dir), why)
}

/// Checks that only this user and root can create links in the directory `dir`: a process that
/// changes the store would follow them, and overwrite or remove others' files.
fn check_owner(dir: &Path) -> Result<()> {
    let found = dir.metadata().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => no_store(dir),
        _ => failed(dir, "examine", error),
    })?;
    let own = rustix::process::geteuid().as_raw();
    let why = match found.uid() {
        owner if owner != own && owner != 0 => {
            format!("belongs to user {owner}; change the store as that user")
        }
        _ if found.mode() & 0o022 != 0 => {
            "its group or every user may write to it; use chmod go-w".into()
        }
        _ => return Ok(()),
    };
    Err(Error::refused(shown_path(dir), why))
}

/// A store in a directory.
pub struct Store {
    pub(crate) dir: PathBuf,
    _lock: Option<File>,
    pub(crate) read: Mutex<Read>,
    /// Locked while files are added, and while unneeded packs are removed.
    pub(crate) change: Mutex<()>,
}

/// The files read so far, which do not change.
#[derive(Default)]
pub(crate) struct Read {
    pub(crate) packs: BTreeMap<String, Arc<Pack>>,
    /// Packs found damaged when their content was needed.
    distrusted: BTreeSet<String>,
    pub(crate) images: BTreeMap<String, Needs>,
}

impl Read {
    /// Forgets the pack `sha256`, whose file is replaced or removed.
    pub(crate) fn forget(&mut self, sha256: &str) {
        self.packs.remove(sha256);
        self.distrusted.remove(sha256);
    }
}

/// SHA-256 of an image, and its packs.
pub(crate) type Needs = (String, Vec<PackRef>);

/// Packs and files removed by [`Store::gc`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Number of packs.
    pub packs: usize,
    /// Number of files left by killed commands.
    pub remains: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Opens the store in the directory `dir` to change it. Creates it if the directory is missing
    /// or empty.
    ///
    /// Fails if another process uses the store, unless this one [waits](crate::wait_for_others).
    pub fn create(dir: &Path) -> Result<Self> {
        let make = |path: &Path| match DirBuilder::new().mode(0o755).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(failed(path, "make the directory", error))
            }
            _ => Ok(()),
        };
        if !dir.exists()
            && parent_of(dir)
                .canonicalize()
                .is_ok_and(|it| it == Path::new("/dev"))
        {
            let why = "does not exist, and a directory in /dev would be lost at a restart; name a device or another directory";
            return Err(Error::refused(shown_path(dir), why));
        }
        make(dir)?;
        check_owner(dir)?;
        let lock = dir.join("lock");
        if !lock.exists() {
            let mut entries = std::fs::read_dir(dir).map_err(|e| failed(dir, "read", e))?;
            // Another process may have created the store meanwhile.
            if entries.next().is_some() && !lock.exists() {
                let why = "is neither a store nor an empty directory; name another directory";
                return Err(Error::refused(shown_path(dir), why));
            }
            // A directory without a lock may have been created just before a power loss.
            sync_parent(dir).map_err(|error| failed(dir, "sync the directory above", error))?;
            // With another mode, others could hold the lock forever.
            let mut options = File::options();
            let made = options.write(true).create(true).mode(0o600).open(&lock);
            made.map_err(|error| failed(&lock, "make the file", error))?;
        }
        for inner in ["images", "packs"] {
            make(&dir.join(inner))?;
        }
        sync(dir)?;
        Self::change(dir)
    }

    /// Opens the store in the directory `dir` to list and mount images. Others may change it: files
    /// appear complete, and a file disappears before its image only if no image needs it.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::lock(dir, None)
    }

    /// Opens the store in the directory `dir`, and keeps others from changing it.
    ///
    /// Fails if another process changes the store, unless this one [waits](crate::wait_for_others).
    pub fn keep(dir: &Path) -> Result<Self> {
        Self::lock(dir, Some(true))
    }

    /// Opens the store in the directory `dir` to remove files.
    ///
    /// Fails if another process changes or verifies the store, unless this one waits.
    pub fn change(dir: &Path) -> Result<Self> {
        check_owner(dir)?;
        // These are missing if the first addition was killed.
        let inner = ["images", "packs"].map(|name| dir.join(name));
        for inner in inner.iter().filter(|inner| inner.exists()) {
            check_owner(inner)?;
        }
        Self::lock(dir, Some(false))
    }

    /// Opens the store and locks it, shared or exclusively, or for `None` not at all.
    fn lock(dir: &Path, shared: Option<bool>) -> Result<Self> {
        let path = dir.join("lock");
        // A FIFO would block the open.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let lock = match File::options().read(true).custom_flags(flags).open(&path) {
            // Users other than its owner may list and mount.
            Err(error) if shared.is_none() && error.kind() == io::ErrorKind::PermissionDenied => {
                None
            }
            opened => Some(opened.map_err(|error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => no_store(dir),
                _ => failed(&path, "open", error),
            })?),
        };
        if let (Some(lock), Some(shared)) = (&lock, shared) {
            occupy(dir, lock, shared, "uses this store")?;
        }
        Ok(Store {
            dir: dir.into(),
            _lock: lock,
            read: Mutex::default(),
            change: Mutex::default(),
        })
    }

    /// Returns the identity of the store's directory.
    pub fn identity(&self) -> Result<Identity> {
        let found = stat(&self.dir);
        let found = found.map_err(|error| failed(&self.dir, "examine", error.into()))?;
        Ok(identity(&found))
    }

    /// Returns the path of the image `name`, which need not exist.
    ///
    /// Fails if an image cannot have this name.
    pub fn image(&self, name: &str) -> Result<PathBuf> {
        check_name(name)?;
        Ok(self.dir.join("images").join(format!("{name}{SUFFIX}")))
    }

    /// Returns the path of the pack `sha256`.
    pub(crate) fn pack(&self, sha256: &str) -> PathBuf {
        self.dir.join("packs").join(format!("{sha256}{SUFFIX}"))
    }

    pub(crate) fn open_image(&self, name: &str) -> Result<Opened> {
        let path = self.image(name)?;
        if !path.exists() {
            return Err(missing(name));
        }
        Opened::open(&path)
    }

    /// Returns the names of all images.
    pub fn images(&self) -> Result<BTreeSet<String>> {
        self.names("images")
    }

    /// Returns the names of the image files in the directory `inner`, without their suffix.
    pub(crate) fn names(&self, inner: &str) -> Result<BTreeSet<String>> {
        let names = self.files(inner)?.into_iter().filter_map(|path| {
            let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
            (!name.starts_with('.')).then(|| name.to_owned())
        });
        Ok(names.collect())
    }

    /// Returns the files in the directory `inner`. Directories in it are not ours.
    pub(crate) fn files(&self, inner: &str) -> Result<Vec<PathBuf>> {
        let dir = self.dir.join(inner);
        let entries = match std::fs::read_dir(&dir) {
            // The first addition was killed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| failed(&dir, "read", error))?,
        };
        let paths = entries.filter_map(|entry| match entry {
            Ok(entry) if entry.file_type().is_ok_and(|it| it.is_dir()) => None,
            entry => Some(entry.map(|entry| entry.path())),
        });
        let paths: io::Result<_> = paths.collect();
        paths.map_err(|error| failed(&dir, "read", error))
    }

    /// Returns the SHA-256 and the packs of each image, by name. Calls `report` for each damaged
    /// image, which is left out, and for each one with a missing pack.
    fn needs(&self, report: &mut dyn FnMut(Error)) -> Result<BTreeMap<String, Needs>> {
        let mut found = BTreeMap::new();
        for name in self.names("images")? {
            let needs = self.needs_of(&name);
            let mut packs = needs.iter().flat_map(|(_, packs)| packs);
            let missing = packs
                .find(|pack| !self.pack(&pack.sha256).exists())
                .cloned();
            let path = self.image(&name);
            if path.is_ok_and(|path| path.symlink_metadata().is_err()) {
                // Another process has removed the image.
                continue;
            }
            if let Some(PackRef { sha256, .. }) = missing {
                report(missing_pack(&name, &sha256));
            }
            match needs {
                Ok(needs) => _ = found.insert(name, needs),
                Err(error) => report(error),
            }
        }
        Ok(found)
    }

    /// Returns the SHA-256 and the packs of the image `name`.
    pub fn needs_of(&self, name: &str) -> Result<Needs> {
        if let Some(known) = lock(&self.read).images.get(name) {
            return Ok(known.clone());
        }
        let opened = self.open_image(name)?;
        let needs = (hex(&opened.superblock.sha256), packs(&opened)?);
        // A concurrent addition may have inserted its own result.
        let mut read = lock(&self.read);
        Ok(read.images.entry(name.into()).or_insert(needs).clone())
    }

    /// Returns the SHA-256 and size of the image `name` and of each of its packs.
    pub fn parts(&self, name: &str) -> Result<Vec<(String, u64)>> {
        let (sha256, packs) = self.needs_of(name)?;
        let packs = packs.into_iter().map(|pack| {
            let bytes = length(&self.pack(&pack.sha256))?;
            Ok((pack.sha256, bytes))
        });
        let image = std::iter::once_with(|| Ok((sha256, length(&self.image(name)?)?)));
        image.chain(packs).collect()
    }

    /// Keeps other images from using the pack in this file, because its content is damaged.
    pub(crate) fn distrust(&self, pack: &Path) {
        if let Some(sha256) = pack.file_stem().and_then(|name| name.to_str()) {
            lock(&self.read).distrusted.insert(sha256.into());
        }
    }

    /// Returns the pack `sha256`.
    pub(crate) fn known_pack(&self, sha256: &str) -> Result<Arc<Pack>> {
        if let Some(known) = lock(&self.read).packs.get(sha256) {
            return Ok(known.clone());
        }
        let pack = Arc::new(Pack::open(&self.pack(sha256), sha256)?);
        lock(&self.read).packs.insert(sha256.into(), pack.clone());
        Ok(pack)
    }

    /// Returns the pack `sha256` for use by a new image.
    pub(crate) fn trusted_pack(&self, sha256: &str) -> Result<Arc<Pack>> {
        if lock(&self.read).distrusted.contains(sha256) {
            let why = "was damaged when it was read; restore it from a copy";
            return Err(Error::refused(shown_path(&self.pack(sha256)), why));
        }
        self.known_pack(sha256)
    }

    /// Returns all images, by name, see [`crate::Place::list`].
    pub(crate) fn list(&self, report: &mut dyn FnMut(Error)) -> Result<Vec<Listed>> {
        let active = self.active().unwrap_or_else(|error| {
            report(error);
            None
        });
        let needs = self.needs(report)?.into_iter();
        let listed = needs.filter_map(|(name, (sha256, packs))| {
            // Another process may have removed the image.
            let size = length(&self.image(&name).ok()?).ok()?;
            Some(Listed {
                active: active.as_ref() == Some(&name),
                name,
                sha256: Some(sha256),
                size,
                own: size,
                packs,
                entry: None,
            })
        });
        let mut listed: Vec<_> = listed.collect();
        add_packs(&mut listed, |pack| length(&self.pack(pack)).unwrap_or(0));
        Ok(listed)
    }

    /// Returns the name of the image that is mounted if no name is given, if one is active.
    ///
    /// Fails if anything but a link to an image is in its place.
    pub fn active(&self) -> Result<Option<String>> {
        let link = self.dir.join(ACTIVE);
        let target = match std::fs::read_link(&link) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // It is not a link.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => PathBuf::new(),
            target => target.map_err(|error| failed(&link, "read the link", error))?,
        };
        let name = target.to_str().and_then(|target| {
            let name = target.strip_prefix("images/")?.strip_suffix(SUFFIX)?;
            check_name(name).is_ok().then(|| name.to_owned())
        });
        let why = "is not a link to an image of the store; remove it, or use daxfs store activate";
        name.map_or_else(
            || Err(Error::refused(shown_path(&link), why)),
            |name| Ok(Some(name)),
        )
    }

    /// Makes `name` the image to mount if no name is given.
    pub fn activate(&self, name: &str) -> Result<()> {
        if !self.image(name)?.exists() {
            return Err(missing(name));
        }
        for pack in self.needs_of(name)?.1 {
            if !self.pack(&pack.sha256).exists() {
                return Err(missing_pack(name, &pack.sha256));
            }
        }
        let (link, new) = (self.dir.join(ACTIVE), self.dir.join(".active.tmp"));
        let _ = std::fs::remove_file(&new);
        // A link cannot be synced itself. Without a journal, its name could reach the disk first.
        symlink(format!("images/{name}{SUFFIX}"), &new)
            .and_then(|()| File::open(&self.dir))
            .and_then(|dir| Ok(rustix::fs::syncfs(dir)?))
            .and_then(|()| std::fs::rename(&new, &link))
            .map_err(|error| failed(&link, "make the link", error))?;
        sync(&self.dir)
    }

    /// Removes the image `name`. Its packs remain until [`Store::gc`]. Does not wait for additions.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.image(name)?;
        if path.exists()
            && self
                .active()
                .is_ok_and(|active| active.as_deref() == Some(name))
        {
            let link = self.dir.join(ACTIVE);
            std::fs::remove_file(&link).map_err(|error| failed(&link, "remove", error))?;
            sync(&self.dir)?;
        }
        let removed = std::fs::remove_file(&path);
        lock(&self.read).images.remove(name);
        match removed {
            Ok(()) => sync(&self.dir.join("images")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing(name)),
            Err(error) => Err(failed(&path, "remove", error)),
        }
    }

    /// Removes the packs that no image needs, and the remains of interrupted additions. Images in
    /// memory stay there.
    ///
    /// Calls `report` for each damaged image, and for each one with a missing pack. Keeps all packs
    /// if an image is damaged, because the packs that it needs are unknown.
    pub fn gc(&self, report: &mut dyn FnMut(Error)) -> Result<Freed> {
        // Read the images now, so that additions need not wait for that.
        let _ = self.needs(&mut |_| ());
        let _change = lock(&self.change);
        let needs = self.needs(report)?;
        let keep_all = needs.len() < self.names("images")?.len();
        if keep_all {
            report(keeps_all(&self.dir));
        }
        let needed: BTreeSet<PathBuf> = needs
            .values()
            .flat_map(|(_, packs)| packs)
            .map(|pack| self.pack(&pack.sha256))
            .collect();
        let is_pack = |path: &Path| {
            path.extension()
                .is_some_and(|suffix| suffix == &SUFFIX[1..])
        };
        let mut freed = Freed::default();
        for inner in ["images", "packs"] {
            for path in self.files(inner)? {
                let unneeded =
                    inner == "packs" && is_pack(&path) && !keep_all && !needed.contains(&path);
                if !unneeded && !is_remains(&path) {
                    continue;
                }
                freed.bytes += length(&path)?;
                if unneeded {
                    freed.packs += 1
                } else {
                    freed.remains += 1
                }
                let name = path.file_stem().and_then(|name| name.to_str());
                lock(&self.read).forget(name.unwrap_or_default());
                std::fs::remove_file(&path).map_err(|error| failed(&path, "remove", error))?;
            }
            if freed != Freed::default() {
                sync(&self.dir.join(inner))?;
            }
        }
        Ok(freed)
    }
}

/// Returns true for a file left by a killed command.
pub(crate) fn is_remains(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.starts_with(b".mkdaxfs-") && name.ends_with(b".tmp")
}

/// Fails if an image cannot have this name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.starts_with('.') || valid_name(name.as_bytes()).is_none() {
        let why = "is not a name for an image; use 1 to 63 letters, digits and . _ - + : @, not first a dot";
        return Err(Error::refused(shown_path(Path::new(name)), why));
    }
    Ok(())
}

/// Returns the error for damaged images in the store `path`.
pub(crate) fn keeps_all(path: &Path) -> Error {
    let why = "keeps all packs, because images that cannot be read may need them; if they are damaged, remove them with daxfs store remove, or restore them from copies";
    Error::refused(shown_path(path), why)
}

/// Returns the error for a missing image.
fn missing(name: &str) -> Error {
    let why = "no such image in the store; daxfs store list lists them";
    Error::refused(name, why)
}
