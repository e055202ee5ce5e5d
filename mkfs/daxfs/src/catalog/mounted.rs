// SPDX-License-Identifier: GPL-2.0-only

//! Images that this kernel has mounted, by /sys/fs/daxfs.

use std::fs;
use std::path::Path;

/// Return the offsets of the images on `device`, a name below /sys/dev, that are mounted.
pub fn offsets(device: &str) -> Vec<u64> {
    offsets_in(Path::new("/sys/fs/daxfs"), device)
}

fn offsets_in(directory: &Path, device: &str) -> Vec<u64> {
    let Ok(mounts) = fs::read_dir(directory) else {
        // Without the module nothing is mounted.
        return Vec::new();
    };
    let value = |path: &Path, name: &str| {
        let text = fs::read_to_string(path.join(name)).ok()?;
        Some(text.trim_end().to_owned())
    };
    // A mount that goes away meanwhile has no files any more.
    mounts
        .filter_map(|mount| {
            let path = mount.ok()?.path();
            let found = value(&path, "device")?;
            (found == device).then_some(())?;
            value(&path, "offset")?.parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_the_device() {
        let directory = tempfile::tempdir().unwrap();
        for (name, device, offset) in [
            ("0:40", "block/259:0", "2097152"),
            ("0:41", "block/259:0", "6291456"),
            ("0:42", "block/259:1", "4194304"),
            ("0:43", "char/259:0", "4194304"),
        ] {
            let path = directory.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("device"), format!("{device}\n")).unwrap();
            fs::write(path.join("offset"), format!("{offset}\n")).unwrap();
        }
        fs::create_dir(directory.path().join("0:44")).unwrap();
        let mut found = offsets_in(directory.path(), "block/259:0");
        found.sort_unstable();
        assert_eq!(found, [2097152, 6291456]);
        let none = directory.path().join("none");
        assert!(offsets_in(&none, "block/259:0").is_empty());
    }
}
