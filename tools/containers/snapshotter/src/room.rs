// SPDX-License-Identifier: GPL-2.0-only

//! Memory of the machine for images: used and available memory.

use crate::config;
use crate::error::{Error, Result};
use crate::place::{lock, Evicted, Filesystem, Loaded, Place};
use crate::record::Layer;
use daxfs_load::Kind;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The kernel's file about the memory of this machine.
const MEMINFO: &str = "/proc/meminfo";

/// The account of the memory of images.
#[derive(Debug)]
pub struct Room {
    /// Bytes that all images may take, or 0.
    limit: u64,
    kind: Kind,
    taken: Mutex<Taken>,
    /// A file as /proc/meminfo.
    meminfo: PathBuf,
}

#[derive(Debug, Default)]
struct Taken {
    /// Bytes of each image that is mounted, or is being loaded, by its directory.
    mounted: HashMap<PathBuf, u64>,
    /// Images that are unmounted here, and in use elsewhere, with their bytes.
    elsewhere: Vec<(Filesystem, u64)>,
    /// Bytes of those that are being loaded.
    loading: u64,
}

/// Bytes that are being loaded until this is dropped.
#[derive(Debug)]
pub struct Loading<'a> {
    room: &'a Room,
    size: u64,
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        lock(&self.room.taken).loading -= self.size;
    }
}

impl Room {
    /// Return the account of this machine, with the limit in `config`.
    pub fn new(config: &config::Memory) -> Self {
        Room {
            limit: config.limit,
            kind: config.kind,
            taken: Mutex::default(),
            meminfo: MEMINFO.into(),
        }
    }

    /// Set memory aside for the image file `image` of `size` bytes, which is mounted on `dir`. It is being
    /// loaded until the result is dropped.
    pub fn reserve(&self, image: &Path, size: u64, dir: &Path) -> Result<Loading<'_>> {
        let full = |missing, why| Error::Full {
            path: image.into(),
            missing,
            why,
        };
        let size = self.kind.size_of(size);
        let mut taken = lock(&self.taken);
        taken.elsewhere.retain(|(found, _)| found.is_there());
        let elsewhere: u64 = taken.elsewhere.iter().map(|(_, size)| size).sum();
        // Something else than this process may have unmounted it.
        taken.mounted.remove(dir);
        let used = taken.mounted.values().sum::<u64>() + elsewhere;
        let limit = self.limit;
        let missing = used.saturating_add(size).saturating_sub(limit);
        if limit > 0 && missing > 0 {
            return Err(full(missing, format!(
                "needs {size} bytes of memory, {used} of {limit} are in use, {elsewhere} of these by images that are unmounted but still in use; remove images or end containers, or raise memory.limit in the configuration"
            )));
        }
        // Huge pages are set aside already. All other memory is taken from processes if there is not
        // enough: the kernel would kill some.
        if self.kind != Kind::Hugetlb {
            let (available, kept) = available(&self.meminfo)?;
            let loading = taken.loading;
            let free = available.saturating_sub(kept).saturating_sub(loading);
            if size > free {
                return Err(full(size - free, format!(
                    "needs {size} bytes of memory, {free} are free: {available} are available, {kept} are kept for the machine, and other calls load {loading}; remove images, end programs, or add memory"
                )));
            }
        }
        taken.loading += size;
        taken.mounted.insert(dir.into(), size);
        Ok(Loading { room: self, size })
    }
}

impl Place for Room {
    fn load(&self, image: &Path, layer: &Layer, dir: &Path, options: &[String]) -> Result<()> {
        let _loading = self.reserve(image, layer.size, dir)?;
        if let Err(error) = daxfs_load::load(image, dir, self.kind, options) {
            lock(&self.taken).mounted.remove(dir);
            return Err(error.into());
        }
        Ok(())
    }

    /// Memory that another mount uses counts toward the limit.
    fn release(&self, dir: &Path, before: Option<Filesystem>) -> Result<Evicted> {
        let mut taken = lock(&self.taken);
        let size = taken.mounted.remove(dir).unwrap_or(0);
        Ok(match before.filter(Filesystem::is_there) {
            Some(before) => {
                taken.elsewhere.push((before, size));
                Evicted::Elsewhere
            }
            None => Evicted::Free,
        })
    }

    fn size(&self, dir: &Path) -> u64 {
        lock(&self.taken).mounted.get(dir).copied().unwrap_or(0)
    }

    fn adopt(&self, layers: &[Loaded<'_>]) -> Result<()> {
        let mounted = layers.iter().filter(|loaded| loaded.mounted);
        let sizes = mounted.map(|loaded| {
            (
                loaded.dir.to_path_buf(),
                self.kind.size_of(loaded.layer.size),
            )
        });
        lock(&self.taken).mounted.extend(sizes);
        Ok(())
    }
}

/// Return the bytes of memory that `meminfo`, a file as /proc/meminfo, says are available, and how many
/// of them are kept for the machine: a sixteenth of all memory.
///
/// Return [`Error::Io`], and [`Error::Unsupported`] if it does not say so.
fn available(meminfo: &Path) -> Result<(u64, u64)> {
    let text = std::fs::read_to_string(meminfo).map_err(Error::io(meminfo, "read"))?;
    let bytes = |name: &str| {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kilobytes = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse().ok());
        let bytes = kilobytes.and_then(|kilobytes: u64| kilobytes.checked_mul(1024));
        bytes.ok_or_else(|| {
            let path = daxfs_writer::shown(meminfo);
            Error::Unsupported(format!(
                "{path}: no value of {name} in kB; mount proc on /proc"
            ))
        })
    };
    Ok((bytes("MemAvailable")?, bytes("MemTotal")? / 16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use daxfs_load::huge::HUGE;
    use rustix::param::page_size;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn limit() {
        let page = page_size() as u64;
        let room = Room::new(&config::Memory {
            limit: 4 * page,
            ..config::Memory::default()
        });
        let (image, dirs) = (Path::new("image"), ["a", "b", "c"].map(Path::new));
        room.reserve(image, page + 1, dirs[0]).unwrap();
        let layer = Layer {
            size: page + 1,
            inodes: 1,
            sha256: String::new(),
        };
        let adopted = |dir, mounted| Loaded {
            layer: &layer,
            dir,
            mounted,
        };
        room.adopt(&[adopted(dirs[1], true), adopted(dirs[2], false)])
            .unwrap();
        let error = room.reserve(image, 1, dirs[2]).unwrap_err();
        assert_eq!(error.code(), tonic::Code::ResourceExhausted);
        let used = 4 * page;
        let wanted =
            format!("image: needs {page} bytes of memory, {used} of {used} are in use, 0 of these");
        assert!(error.to_string().contains(&wanted), "{error}");
        assert_eq!(room.release(dirs[1], None).unwrap(), Evicted::Free);
        room.reserve(image, 1, dirs[2]).unwrap();
        // It is loaded again, after something else has unmounted it.
        room.reserve(image, 1, dirs[2]).unwrap();
        assert_eq!(room.size(dirs[2]), page);
        // These pages are whole, whatever the image has of the last one.
        let room = Room::new(&config::Memory {
            limit: 2 * HUGE,
            kind: Kind::Hugetlb,
            ..config::Memory::default()
        });
        room.reserve(image, 1, dirs[0]).unwrap();
        room.reserve(image, HUGE + 1, dirs[1]).unwrap_err();
    }

    #[test]
    fn memory_of_the_machine() {
        let (available, kept) = available(Path::new(MEMINFO)).unwrap();
        assert!(available > 0 && kept > 0);
        let place = tempfile::TempDir::new().unwrap();
        let meminfo = place.path().join("meminfo");
        // 6 MiB are available, and 2 of them are kept.
        let text = "MemTotal:          32768 kB\nMemFree: 1 kB\nMemAvailable:       6144 kB\n";
        std::fs::write(&meminfo, text).unwrap();
        let room = |kind| Room {
            meminfo: meminfo.clone(),
            ..Room::new(&config::Memory {
                kind,
                ..config::Memory::default()
            })
        };
        let (image, a, b) = (Path::new("image"), Path::new("a"), Path::new("b"));
        for kind in [Kind::Memfd, Kind::Heap, Kind::Udmabuf] {
            let room = room(kind);
            let error = room.reserve(image, 3 * HUGE, a).unwrap_err();
            assert_eq!(error.code(), tonic::Code::ResourceExhausted);
            let wanted = "image: needs 6291456 bytes of memory, 4194304 are free: 6291456 are available, 2097152 are kept";
            assert!(error.to_string().contains(wanted), "{error}");
            assert!(lock(&room.taken).mounted.is_empty());
            // Images that other calls are loading count as well.
            let loading = room.reserve(image, HUGE, a).unwrap();
            let error = room.reserve(image, 2 * HUGE, b).unwrap_err();
            assert!(error.to_string().contains("calls load 2097152;"), "{error}");
            room.reserve(image, HUGE, b).unwrap();
            drop(loading);
            room.reserve(image, 2 * HUGE, b).unwrap();
        }
        room(Kind::Hugetlb).reserve(image, 9 * HUGE, a).unwrap();
        std::fs::write(&meminfo, "MemTotal: 32768 kB\n").unwrap();
        let error = room(Kind::Memfd).reserve(image, 1, a).unwrap_err();
        assert!(error.to_string().contains("MemAvailable"), "{error}");
    }

    #[test]
    fn used_elsewhere() {
        let place = tempfile::TempDir::new().unwrap();
        let room = Room::new(&config::Memory {
            limit: 2 * HUGE,
            ..config::Memory::default()
        });
        let filesystem = |dir: &Path| Filesystem::on_in(place.path(), dir).unwrap();
        let (image, dir) = (Path::new("image"), place.path().join("layer"));
        std::fs::create_dir(&dir).unwrap();
        assert_eq!(filesystem(&dir), None);
        let status = std::fs::metadata(&dir).unwrap();
        let (major, minor) = (
            rustix::fs::major(status.dev()),
            rustix::fs::minor(status.dev()),
        );
        let shown = place.path().join(format!("{major}:{minor}"));
        std::fs::create_dir(&shown).unwrap();

        // It goes away with the mount.
        room.reserve(image, HUGE, &dir).unwrap();
        let before = filesystem(&dir);
        std::fs::remove_dir(&shown).unwrap();
        assert_eq!(room.release(&dir, before).unwrap(), Evicted::Free);
        // It does not, until another filesystem has its number.
        std::fs::create_dir(&shown).unwrap();
        room.reserve(image, 2 * HUGE, &dir).unwrap();
        assert_eq!(
            room.release(&dir, filesystem(&dir)).unwrap(),
            Evicted::Elsewhere
        );
        let error = room.reserve(image, 1, &dir).unwrap_err().to_string();
        assert!(
            error.contains("4194304 of these by images that are unmounted"),
            "{error}"
        );
        std::fs::rename(&shown, place.path().join("other")).unwrap();
        std::fs::create_dir(&shown).unwrap();
        room.reserve(image, 1, &dir).unwrap();
    }
}
