// SPDX-License-Identifier: GPL-2.0-only

//! Images on a device that a catalogue divides.
//!
//! The name of an image there has the SHA-256 of its layer. So the image that an earlier run has left on the
//! device is found again, and two snapshots with the same files share one.

use crate::error::{Error, Result};
use crate::files::warn;
use crate::place::{lock, Evicted, Filesystem, Loaded, Place};
use crate::record::Layer;
use daxfs_load::catalog;
use daxfs_load::catalog::Reuse;
use daxfs_reader::catalog::room;
use rustix::fs::{major, minor};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The names of images of layers begin with this. All others on the device are somebody else's.
pub const PREFIX: &str = "layer-";

/// Hexadecimal digits of the SHA-256 in a name, which has 63 letters at most.
const DIGITS: usize = 56;

/// Errors of mounting a damaged image. With other errors, the image may be good.
const DAMAGED: [Errno; 5] = [
    Errno::BADMSG,
    Errno::UCLEAN,
    Errno::INVAL,
    Errno::STALE,
    Errno::IO,
];

/// A block device with a catalogue.
#[derive(Debug)]
pub struct Device {
    path: PathBuf,
    /// The images on the device, by the directory of their snapshot. Locked for a moment.
    images: Mutex<HashMap<PathBuf, Image>>,
    /// Locked while images are added, mounted and removed, so that none is removed before it is mounted.
    /// An image is copied under it: the device takes one at a time.
    change: Mutex<()>,
}

/// An image on the device, which may be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Image {
    name: String,
    size: u64,
}

impl Image {
    fn of(layer: &Layer) -> Self {
        Image {
            name: name(layer),
            // The size is whole blocks.
            size: room(layer.size, 1).1,
        }
    }
}

/// Return the name of the image of a layer.
pub fn name(layer: &Layer) -> String {
    let digits = layer.sha256.get(..DIGITS).unwrap_or(&layer.sha256);
    format!("{PREFIX}{digits}")
}

impl Device {
    /// Return the device `path`.
    pub fn new(path: &Path) -> Self {
        Device {
            path: path.into(),
            images: Mutex::default(),
            change: Mutex::default(),
        }
    }

    /// Return the names of the images that can be mounted.
    fn names(&self) -> Result<HashSet<String>> {
        let images = catalog::images(&self.path)?.into_iter();
        let images = images.filter(|image| !image.removed);
        Ok(images.map(|image| image.name).collect())
    }

    fn remove(&self, name: &str) -> Result<()> {
        Ok(catalog::remove_all(&self.path, &|other| other == name)?)
    }
}

impl Place for Device {
    fn check(&self) -> Result<()> {
        let status = std::fs::metadata(&self.path).map_err(Error::io(&self.path, "examine"))?;
        if !status.file_type().is_block_device() {
            return Err(Error::Unsupported(format!(
                "{}: memory.device is not a block device; only these take images while others are in use",
                daxfs_writer::shown(&self.path)
            )));
        }
        // A partition has no such file.
        let number = status.rdev();
        let path = format!(
            "/sys/dev/block/{}:{}/queue/dax",
            major(number),
            minor(number)
        );
        if std::fs::read_to_string(path).is_ok_and(|text| text.trim_end() == "0") {
            return Err(Error::Unsupported(format!(
                "{}: memory.device has no DAX; use a device such as /dev/pmem0",
                daxfs_writer::shown(&self.path)
            )));
        }
        self.names().map(drop)
    }

    fn load(&self, image: &Path, layer: &Layer, dir: &Path, options: &[String]) -> Result<()> {
        let wanted = Image::of(layer);
        let mut options = options.to_vec();
        options.push(format!("image={}", wanted.name));
        let mount = || daxfs_load::mount(&self.path, dir, &options);
        let _alone = lock(&self.change);
        let there = self.names()?.contains(&wanted.name);
        let mounted = match there.then(mount) {
            // An earlier run may have left a damaged image.
            Some(Err(error)) if is_damaged(&error) => {
                eprintln!("daxfs-snapshotter: warning: {error}; the image is copied again");
                self.remove(&wanted.name)?;
                None
            }
            done => done,
        };
        mounted.unwrap_or_else(|| {
            catalog::add(&self.path, &wanted.name, image, false, Reuse::Unmounted)?;
            mount().inspect_err(|_| {
                if let Err(error) = self.remove(&wanted.name) {
                    warn(&error);
                }
            })
        })?;
        lock(&self.images).insert(dir.into(), wanted);
        Ok(())
    }

    fn release(&self, dir: &Path, before: Option<Filesystem>) -> Result<Evicted> {
        // No other call loads or releases the image of this directory now.
        let Some(image) = lock(&self.images).get(dir).cloned() else {
            return Ok(Evicted::Free);
        };
        let _alone = lock(&self.change);
        let is_other =
            |(other, found): (&PathBuf, &Image)| other != dir && found.name == image.name;
        let shared = lock(&self.images).iter().any(is_other);
        if !shared {
            self.remove(&image.name)?;
        }
        lock(&self.images).remove(dir);
        Ok(match before.filter(Filesystem::is_there) {
            _ if shared => Evicted::Used,
            Some(_) => Evicted::Elsewhere,
            None => Evicted::Free,
        })
    }

    fn size(&self, dir: &Path) -> u64 {
        lock(&self.images).get(dir).map_or(0, |image| image.size)
    }

    fn adopt(&self, layers: &[Loaded<'_>]) -> Result<()> {
        let _alone = lock(&self.change);
        let names = self.names()?;
        let mut images = lock(&self.images);
        for loaded in layers {
            let image = Image::of(loaded.layer);
            if loaded.mounted || names.contains(&image.name) {
                images.insert(loaded.dir.into(), image);
            }
        }
        let known: HashSet<_> = images.values().map(|image| image.name.clone()).collect();
        drop(images);
        // The process may have ended before it could remove one.
        let unwanted = |name: &str| name.starts_with(PREFIX) && !known.contains(name);
        Ok(catalog::remove_all(&self.path, &unwanted)?)
    }
}

/// Return whether a mount failed because of the image.
fn is_damaged(error: &daxfs_image::Error) -> bool {
    let daxfs_image::Error::Mount { source, .. } = error else {
        return false;
    };
    Errno::from_io_error(source).is_some_and(|errno| DAMAGED.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use daxfs_reader::catalog::CATALOG_COPIES;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    fn layer(digit: char) -> Layer {
        Layer {
            size: 1,
            inodes: 1,
            sha256: digit.to_string().repeat(64),
        }
    }

    #[test]
    fn images_of_an_earlier_run() {
        let place = tempfile::TempDir::new().unwrap();
        let path = place.path().join("device");
        catalog::init(&path, Some(32 << 20), false).unwrap();
        let image = Path::new("../../read/reader/tests/small.daxfs");
        let [a, b, c] = ['a', 'b', 'c'].map(layer);
        assert_eq!(name(&a), format!("layer-{}", "a".repeat(56)));
        for name in [name(&a), name(&b), "other".into()] {
            catalog::add(&path, &name, image, false, Reuse::Unmounted).unwrap();
        }

        // a has two snapshots, b none, and c is not there.
        let device = Device::new(&path);
        let dirs = ["1", "2", "3"].map(Path::new);
        let loaded = |layer, dir, mounted| Loaded {
            layer,
            dir,
            mounted,
        };
        let layers = [
            loaded(&a, dirs[0], false),
            loaded(&a, dirs[1], true),
            loaded(&c, dirs[2], false),
        ];
        device.adopt(&layers).unwrap();
        let names = |wanted: &[&str]| {
            let wanted: HashSet<_> = wanted.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(device.names().unwrap(), wanted);
        };
        names(&["other", &name(&a)]);
        let sizes = dirs.map(|dir| device.size(dir));
        assert_eq!(sizes, [4096, 4096, 0]);

        // The last one frees it.
        let release = |dir| device.release(dir, None).unwrap();
        assert_eq!(release(dirs[0]), Evicted::Used);
        names(&["other", &name(&a)]);
        assert_eq!(release(dirs[1]), Evicted::Free);
        names(&["other"]);
        assert_eq!(release(dirs[2]), Evicted::Free);
        assert_eq!(dirs.map(|dir| device.size(dir)), [0; 3]);

        // Power was lost in the middle of a change.
        let file = File::options().write(true).open(&path).unwrap();
        for (start, name) in CATALOG_COPIES.into_iter().zip(["first", "second"]) {
            file.write_all_at(&[0xff; 8], start + 100).unwrap();
            let add = || catalog::add(&path, name, image, false, Reuse::Unmounted);
            let error = add().unwrap_err().to_string();
            assert!(
                error.contains("copy of the catalogue is damaged"),
                "{error}"
            );
            device.adopt(&[]).unwrap();
            add().unwrap();
        }

        // It is neither a block device nor anything that can be mounted.
        let error = device.check().unwrap_err().to_string();
        assert!(error.contains("not a block device"), "{error}");
    }
}
