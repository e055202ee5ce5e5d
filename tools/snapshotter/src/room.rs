// SPDX-License-Identifier: GPL-2.0-only

//! Memory for images: how much they use, and how much is free.

use crate::config;
use daxfs_image::error::{Error, Result};
use daxfs_load::Kind;
use std::collections::HashMap;
use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};

/// The memory of this machine.
#[derive(Debug)]
pub struct Room {
    /// Bytes that all images may use, or 0 for no limit.
    limit: u64,
    store: PathBuf,
    /// The directory with proc and sys.
    root: PathBuf,
}

impl Room {
    /// Returns the memory of this machine, with the limit in `config`.
    pub fn new(config: &config::Config) -> Self {
        Room {
            limit: config.memory.limit,
            store: config.root.join("store"),
            root: "/".into(),
        }
    }

    /// Checks that `needed` bytes are free for the image `name`, or, if `alone`, that they would be
    /// if nothing else were in memory.
    ///
    /// Returns [`Error::Full`], or the system's errors.
    pub fn check(&self, name: &str, needed: u64, alone: bool) -> Result<()> {
        let (limit, used) = (self.limit, if alone { 0 } else { self.used() });
        let missing = used.saturating_add(needed).saturating_sub(limit);
        if limit > 0 && missing > 0 {
            return Err(full(name, needed, missing, format!(
                "{used} of {limit} are in use; remove images or end containers, or raise memory.limit in the configuration"
            )));
        }
        self.check_free(name, needed, alone)
    }

    /// Checks that this process can grow to `needed` bytes to make the image `name`; it keeps
    /// memory.
    ///
    /// Returns [`Error::Full`], or the system's errors.
    pub fn check_making(&self, name: &str, needed: u64) -> Result<()> {
        let text = read_to_string(self.root.join("proc/self/status")).unwrap_or_default();
        let own = bytes(&text, "RssAnon").unwrap_or(0);
        self.check_free(name, needed.saturating_sub(own), false)
    }

    /// Checks that the machine and this process's control groups have `needed` bytes for the image
    /// `name`. Otherwise the kernel would kill processes. If `alone`, only their total matters.
    fn check_free(&self, name: &str, needed: u64, alone: bool) -> Result<()> {
        let (available, kept) = self.available(alone)?;
        let free = available.saturating_sub(kept);
        if needed > free {
            return Err(full(name, needed, needed - free, format!(
                "{free} are free: {available} are available, and {kept} are kept for the machine; remove images, end programs, or add memory"
            )));
        }
        for group in self.groups() {
            let Some((most, free)) = free_in(&group) else {
                continue;
            };
            let free = if alone { most } else { free };
            if needed > free {
                let group = daxfs_files::shown_path(&group);
                return Err(full(name, needed, needed - free, format!(
                    "{free} of {most} are free in this program's control group {group}; raise memory.max there, or remove images"
                )));
            }
        }
        Ok(())
    }

    /// Returns the size of the images in memory and of their packs, including images that are only
    /// mounted elsewhere.
    pub fn used(&self) -> u64 {
        let found = read_dir(self.root.join("sys/fs/daxfs"));
        let (mut images, mut packs) = (0, HashMap::new());
        for dir in found.into_iter().flatten().flatten() {
            let text = |name| read_to_string(dir.path().join(name)).unwrap_or_default();
            let source = text("source");
            // The kernel knows only the end of a long name.
            if !Path::new(source.trim_end()).starts_with(&self.store) && !source.starts_with("...")
            {
                continue;
            }
            images += Kind::Memfd.size_of(text("size").trim_end().parse().unwrap_or(0));
            // All images of the store share packs.
            for line in text("packs").lines() {
                let mut words = line.split_whitespace();
                if let (Some(sha256), Some(size), Some("memfd")) =
                    (words.next(), words.next(), words.next())
                {
                    let size = Kind::Memfd.size_of(size.parse().unwrap_or(0));
                    packs.insert(sha256.to_owned(), size);
                }
            }
        }
        images + packs.values().sum::<u64>()
    }

    /// Returns the available bytes of memory, or all if `alone`, and how many of them to reserve
    /// for the machine: a sixteenth of all memory.
    fn available(&self, alone: bool) -> Result<(u64, u64)> {
        let meminfo = self.root.join("proc/meminfo");
        let path = daxfs_files::shown_path(&meminfo);
        let text = read_to_string(&meminfo);
        let text = text.map_err(|error| Error::system(&path, "cannot read", "", error))?;
        let bytes = |name: &str| {
            let why = || format!("no value of {name} in kB; mount proc on /proc");
            bytes(&text, name).ok_or_else(|| Error::refused(&path, why()))
        };
        let total = bytes("MemTotal")?;
        let available = if alone { total } else { bytes("MemAvailable")? };
        Ok((available, total / 16))
    }

    /// Returns the directories of the control groups (version 2) that limit this process's memory.
    fn groups(&self) -> Vec<PathBuf> {
        let text = read_to_string(self.root.join("proc/self/cgroup")).unwrap_or_default();
        let top = self.root.join("sys/fs/cgroup");
        let own = text.lines().find_map(|line| line.strip_prefix("0::/"));
        let own = top.join(own.unwrap_or_default());
        let above = own.ancestors().filter(|group| group.starts_with(&top));
        above.map(Path::to_owned).collect()
    }
}

/// Returns the value of `name` in a file of proc, in bytes.
fn bytes(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kilobytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Returns the error for the image `name`, which lacks `missing` bytes.
fn full(name: &str, needed: u64, missing: u64, why: String) -> Error {
    Error::Full {
        name: format!("image {name}"),
        missing,
        why: format!("needs {needed} bytes of memory, {why}"),
    }
}

/// Returns the limit of the control group `group` in bytes, and how many of them are free or
/// reclaimable. `None` without a limit.
fn free_in(group: &Path) -> Option<(u64, u64)> {
    let text = |name| read_to_string(group.join(name)).ok();
    let number = |name| text(name)?.trim_end().parse::<u64>().ok();
    let (most, current) = (number("memory.max")?, number("memory.current")?);
    // The page cache is reclaimed first.
    let cache = text("memory.stat").map_or(0, |text| {
        let value = |line: &str| match line.split_once(' ') {
            Some(("inactive_file" | "active_file", value)) => value.parse().unwrap_or(0),
            _ => 0u64,
        };
        text.lines().map(value).sum()
    });
    let free = most.saturating_sub(current.saturating_sub(cache));
    Some((most, free))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};

    fn machine(limit: u64) -> (tempfile::TempDir, Room) {
        let place = tempfile::TempDir::new().unwrap();
        let root = place.path().to_path_buf();
        for dir in ["proc/self", "sys/fs/daxfs", "sys/fs/cgroup/a/b"] {
            create_dir_all(root.join(dir)).unwrap();
        }
        // 6 MiB are available, of which 2 are reserved.
        let text = "MemTotal:          32768 kB\nMemFree: 1 kB\nMemAvailable:       6144 kB\n";
        write(root.join("proc/meminfo"), text).unwrap();
        write(root.join("proc/self/cgroup"), "0::/a/b\n").unwrap();
        let room = Room {
            limit,
            store: "/store".into(),
            root,
        };
        (place, room)
    }

    fn missing(room: &Room, needed: u64) -> u64 {
        match room.check("1", needed, false) {
            Ok(()) => 0,
            Err(Error::Full { missing, .. }) => missing,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn limit() {
        let (_place, room) = machine(16384);
        for (name, source, size) in [
            ("0:1", "/store\n", "1\n"),
            ("0:2", "/store2\n", "4096\n"),
            ("0:3", "/dev/pmem0\n", "4096\n"),
            ("0:4", "...images/1.daxfs\n", "1\n"),
        ] {
            let dir = room.root.join("sys/fs/daxfs").join(name);
            create_dir_all(&dir).unwrap();
            write(dir.join("source"), source).unwrap();
            write(dir.join("size"), size).unwrap();
        }
        assert_eq!(missing(&room, 8192), 0);
        assert_eq!(missing(&room, 12288), 4096);
        // One pack is shared by two images, another needs no memory.
        for name in ["0:1", "0:4"] {
            let packs = "aa  1 memfd   0 0\nbb 99 missing 0 0\n";
            write(
                room.root.join("sys/fs/daxfs").join(name).join("packs"),
                packs,
            )
            .unwrap();
        }
        assert_eq!(missing(&room, 8192), 4096);
        assert_eq!(missing(&room, 4096), 0);
        let error = room.check("7", 12288, false).unwrap_err().to_string();
        let wanted = "image 7: needs 12288 bytes of memory, 12288 of 16384 are in use; remove";
        assert!(error.starts_with(wanted), "{error}");
    }

    #[test]
    fn memory_of_the_machine() {
        let (_place, room) = machine(0);
        assert_eq!(missing(&room, 4 << 20), 0);
        assert_eq!(missing(&room, 6 << 20), 2 << 20);
        write(room.root.join("proc/meminfo"), "MemTotal: 32768 kB\n").unwrap();
        let error = room.check("1", 1, false).unwrap_err().to_string();
        assert!(error.contains("MemAvailable"), "{error}");
    }

    /// An image that would not fit even alone.
    #[test]
    fn alone() {
        let (_place, room) = machine(0);
        assert!(room.check("1", 30 << 20, true).is_ok());
        assert!(room.check("1", (30 << 20) + 1, true).is_err());
        let group = room.root.join("sys/fs/cgroup/a");
        write(group.join("memory.max"), "1000000\n").unwrap();
        write(group.join("memory.current"), "900000\n").unwrap();
        assert!(room.check("1", 1_000_000, true).is_ok());
        assert!(room.check("1", 1_000_001, true).is_err());
        let (_place, room) = machine(16384);
        assert!(room.check("1", 16384, true).is_ok());
        assert!(room.check("1", 16385, true).is_err());
    }

    #[test]
    fn control_groups() {
        let (_place, room) = machine(0);
        let group = |name: &str, most: &str| {
            let dir = room.root.join("sys/fs/cgroup").join(name);
            write(dir.join("memory.max"), format!("{most}\n")).unwrap();
            write(dir.join("memory.current"), "1000000\n").unwrap();
            let stat = "anon 1\nfile 900000\ninactive_file 100000\nactive_file 200000\n";
            write(dir.join("memory.stat"), stat).unwrap();
        };
        group("a/b", "max");
        assert_eq!(missing(&room, 3 << 20), 0);
        group("a", "1500000");
        assert_eq!(missing(&room, 800_000), 0);
        assert_eq!(missing(&room, 800_001), 1);
        let error = room.check("1", 900_000, false).unwrap_err().to_string();
        assert!(
            error.contains("sys/fs/cgroup/a; raise memory.max"),
            "{error}"
        );
        assert!(room.check_making("1", 900_000).is_err());
        let text = "Name: x\nRssAnon:\t     200 kB\n";
        write(room.root.join("proc/self/status"), text).unwrap();
        room.check_making("1", 900_000).unwrap();
    }
}
