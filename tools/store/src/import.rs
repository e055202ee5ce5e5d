// SPDX-License-Identifier: GPL-2.0-only

//! Reads images of a store from an OCI layout, or from containerd's content store.

use crate::add::{may_be_good, Added, Guard, Total, TOGETHER};
use crate::layout::IMAGE;
use crate::pack::{packs, written, Pack, PackRef};
use crate::store::Store;
use crate::verify::{sizes, whole, whole_image, whole_pack};
use daxfs_files::digest::hex;
use daxfs_files::{Output, Progress};
use daxfs_image::error::{Error, Result};
use daxfs_image::source::Opened;
use daxfs_image::text::shown_path;
use daxfs_image::warning::warn;
use mkdaxfs::input::{Blobs, OciImage, Options, PULL};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A store's image in a layout.
pub struct Exported(Blobs);

impl Exported {
    /// Returns the image with these digests, its own and its packs', in containerd's content store
    /// `dir`.
    ///
    /// Fails if one is missing.
    pub fn of(dir: &Path, digests: &[String]) -> Result<Self> {
        Ok(Exported(Blobs::of(dir, IMAGE, digests)?))
    }

    /// Waits for blobs of [`Exported::of`] while containerd fetches them and `still` succeeds.
    ///
    /// Fails if one is missing and containerd fetches nothing.
    pub fn wait<E: From<Error>>(
        dir: &Path,
        digests: &[String],
        still: &dyn Fn() -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        while let Some(missing) = Blobs::missing(dir, digests).map_err(Error::from)? {
            still()?;
            if !is_fetched(dir) {
                let why = format!("is not there, and nothing was fetched for a minute; {PULL}");
                return Err(Error::refused(shown_path(&missing), why).into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Returns the size of the image and of each of its packs.
    pub fn sizes(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.sizes()
    }

    /// Finds the image that `path` names, like [`OciImage::find`], in a directory.
    ///
    /// Returns `None` if it is an image of another kind.
    pub fn find(path: &Path, options: &Options<'_>) -> Result<Option<Self>> {
        let image = OciImage::find(path, options)?;
        let is_image = image.types().next() == Some(IMAGE);
        Ok(is_image.then(|| Exported(image.into_blobs())))
    }
}

impl Store {
    /// Adds `exported`, an image of another store, as the image `name`, bit for bit, see
    /// [`Store::add`]. Does not read packs that the store already has.
    ///
    /// Fails if the image or a new pack does not match its digest, or breaks a rule.
    pub fn import(
        &self,
        name: &str,
        exported: &Exported,
        create: Guard<'_>,
        progress: &dyn Progress,
    ) -> Result<Added> {
        let path = self.new_image(name)?;
        self.changing(&path, || {
            self.import_parts(&path, name, exported, create, progress)
        })
    }

    fn import_parts(
        &self,
        path: &Path,
        name: &str,
        exported: &Exported,
        create: Guard<'_>,
        progress: &dyn Progress,
    ) -> Result<Added> {
        let exported = &exported.0;
        let (file, written) = exported.copy(0, &mut io::sink(), progress)?;
        let image = Opened::open(&file)?;
        whole(&image, true, progress)?;
        let needs = packs(&image)?;
        let (found, all) = (exported.sizes().len() - 1, needs.len());
        if found != all {
            let why = format!("needs {all} packs, and its manifest has {found}; export it again");
            return Err(Error::refused(image.name, why));
        }
        let mut added = Added {
            sha256: hex(&image.superblock.sha256),
            new: Total::default(),
            known: Total::default(),
            packs: all,
            written,
        };
        let dir = self.open_packs()?;
        let (mut found, mut made) = (BTreeMap::new(), Vec::new());
        for (needed, part) in needs.iter().zip(1..) {
            let (pack, total) = match self.trusted_pack(&needed.sha256) {
                Ok(pack) => (pack, &mut added.known),
                Err(error) if may_be_good(&error) => return Err(error),
                Err(error) => {
                    if self.pack(&needed.sha256).exists() {
                        warn(format_args!("{error}; it is replaced"));
                    }
                    let (output, pack, size) =
                        self.import_pack(needed, exported, part, create, progress)?;
                    added.written += size;
                    made.push((output, Arc::clone(&pack)));
                    if made.len() == TOGETHER {
                        self.put_packs(&dir, std::mem::take(&mut made), progress)?;
                    }
                    (pack, &mut added.new)
                }
            };
            for (_, object) in pack.objects() {
                total.add(object.size);
            }
            found.insert(needed.sha256.clone(), sizes(&pack));
        }
        self.put_packs(&dir, made, progress)?;
        first(|report| whole_image(&image, &found, progress, report))?;
        let output = create(path)?;
        exported.copy(0, &mut output.file(), progress)?;
        self.put_image(name, output, &added.sha256, needs, progress)?;
        Ok(added)
    }

    /// Copies the pack in the layer `part`. Returns it with the size of the layer.
    fn import_pack(
        &self,
        needed: &PackRef,
        exported: &Blobs,
        part: usize,
        create: Guard<'_>,
        progress: &dyn Progress,
    ) -> Result<(Output, Arc<Pack>, u64)> {
        let output = create(&self.pack("new"))?;
        let (path, size) = exported.copy(part, &mut output.file(), progress)?;
        let opened = written(&output, size, shown_path(&path))?;
        if hex(&opened.superblock.sha256) != needed.sha256 {
            let why = format!("is not the pack {}; export the image again", needed.sha256);
            return Err(Error::refused(opened.name, why));
        }
        let (_, pack) =
            first(|report| whole_pack(opened, &needed.sha256, false, progress, report))?;
        Ok((output, Arc::new(pack), size))
    }
}

/// Returns whether containerd has written to its content store in `dir` within the last minute.
fn is_fetched(dir: &Path) -> bool {
    let found = std::fs::read_dir(dir.join("ingest")).into_iter().flatten();
    let files = found.filter_map(|entry| Some(entry.ok()?.path().join("data")));
    let age = |path: PathBuf| path.metadata().ok()?.modified().ok()?.elapsed().ok();
    let mut ages = files.chain([dir.join("blobs/sha256")]).filter_map(age);
    ages.any(|age| age < Duration::from_secs(60))
}

/// Calls `check`, and returns the first error that `check` reports or returns.
fn first<T>(check: impl FnOnce(&mut dyn FnMut(Error)) -> Result<T>) -> Result<T> {
    let mut found = None;
    let result = check(&mut |error| _ = found.get_or_insert(error));
    found.map_or(result, Err)
}
