// SPDX-License-Identifier: GPL-2.0-only

//! Images that this kernel has mounted, according to /sys/fs/daxfs.

use daxfs_reader::catalog::Listed;
use daxfs_reader::layout::HUGE_SIZE;
use rustix::fs::statfs;
use rustix::io::Errno;
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;

/// `f_type` of sysfs: `SYSFS_MAGIC` of linux/magic.h.
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// Minimum number of bytes of an image per byte of its table of sums and its signature. The figures
/// of a mount do not include these two.
const SHARE_OF_SUMS: u64 = 4096;

/// Returns the mounted ranges of `device`, a name below /sys/dev, in any order. A `listed` image
/// has the range in the list, unless a longer image is still mounted there. Other ranges end after
/// the image's sums and signature, or later.
///
/// Fails if sysfs is not mounted, or if the kernel's daxfs has no statistics.
pub fn ranges(device: &str, listed: &[Listed]) -> io::Result<Vec<Range<u64>>> {
    ranges_in(Path::new("/sys/fs"), device, listed)
}

/// Like [`ranges`], but with a directory in place of /sys/fs.
fn ranges_in(parent: &Path, device: &str, listed: &[Listed]) -> io::Result<Vec<Range<u64>>> {
    let mounts = match fs::read_dir(parent.join("daxfs")) {
        // Without the module nothing is mounted. Without sysfs, or if the module has no statistics,
        // we do not know.
        Err(error) if error.kind() == ErrorKind::NotFound && is_sysfs(parent)? && !is_loaded()? => {
            return Ok(Vec::new())
        }
        mounts => mounts?,
    };
    let mut found = Vec::new();
    for mount in mounts {
        let path = mount?.path();
        let used = range_of(&path, device).and_then(|image| Ok((image, packs_of(&path, device)?)));
        let used = match used {
            Ok((image, packs)) => image.into_iter().chain(packs),
            Err(error) => match Errno::from_io_error(&error) {
                // After unmounting, a mount's files are gone, even if one was open.
                Some(Errno::NOENT | Errno::NODEV) => continue,
                _ => return Err(error),
            },
        };
        for (start, size) in used {
            let known = listed.binary_search_by_key(&start, |image| image.range.start);
            // An image that was mounted earlier may have been longer.
            let end = known.map(|index| listed[index].range.end.max(start.saturating_add(size)));
            found.push(start..end.unwrap_or_else(|_| end_of(start, size)));
        }
    }
    Ok(found)
}

fn is_loaded() -> io::Result<bool> {
    let all = fs::read_to_string("/proc/filesystems")?;
    Ok(all.lines().any(|line| line.ends_with("\tdaxfs")))
}

fn is_sysfs(path: &Path) -> io::Result<bool> {
    Ok(statfs(path)?.f_type as u64 == SYSFS_MAGIC)
}

/// Returns the start of the image mounted with the figures in `path`, and its size without sums, if
/// it is on `device`.
fn range_of(path: &Path, device: &str) -> io::Result<Option<(u64, u64)>> {
    let text = |name: &str| fs::read_to_string(path.join(name));
    if text("device")?.trim_end() != device {
        return Ok(None);
    }
    let number = |name| {
        text(name)?
            .trim_end()
            .parse::<u64>()
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    };
    Ok(Some((number("offset")?, number("size")?)))
}

/// Returns the start and size, without sums, of each pack on `device` of the mount with the figures
/// in `path`.
fn packs_of(path: &Path, device: &str) -> io::Result<Vec<(u64, u64)>> {
    // An image without packs has no such file, nor has an unmounted one.
    let text = match fs::read_to_string(path.join("packs")) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let place = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (size, place) = (words.next()?.parse(), words.next()?.strip_prefix(device)?);
        Some(
            place
                .strip_prefix('+')?
                .parse()
                .and_then(|start| Ok((start, size?))),
        )
    };
    let found = text.lines().filter_map(place);
    let found: Result<_, _> = found.collect();
    found.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// Returns the largest possible end of an image of `size` bytes, with sums and padding.
fn end_of(start: u64, size: u64) -> u64 {
    let sums = size / SHARE_OF_SUMS + HUGE_SIZE / 2;
    let length = size
        .saturating_add(sums)
        .checked_next_multiple_of(HUGE_SIZE);
    let end = length.and_then(|length| start.checked_add(length));
    end.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_the_device() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("daxfs");
        fs::create_dir(&directory).unwrap();
        for (name, device, offset, size) in [
            ("0:40", "block/259:0", "2097152", "4096"),
            ("0:41", "block/259:0", "6291456", "4194304"),
            ("0:42", "block/259:1", "4194304", "4096"),
            ("0:43", "char/259:0", "4194304", "4096"),
        ] {
            let path = directory.join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("device"), format!("{device}\n")).unwrap();
            fs::write(path.join("offset"), format!("{offset}\n")).unwrap();
            fs::write(path.join("size"), format!("{size}\n")).unwrap();
        }
        let packs = "aa 4096 memfd 1 0\nbb 4096 block/259:0+33554432 0 0\nbc 4096 block/259:1+0  0 0\ncc 4096 missing 0 0\n";
        fs::write(directory.join("0:42/packs"), packs).unwrap();
        // A mount that has disappeared.
        fs::create_dir(directory.join("0:44")).unwrap();
        let ranges = |device, listed: &[Listed]| ranges_in(parent.path(), device, listed);
        let sorted = |listed| {
            let mut found = ranges("block/259:0", listed).unwrap();
            found.sort_unstable_by_key(|range| range.start);
            found
        };
        let pack = 33554432..35651584;
        assert_eq!(
            sorted(&[]),
            [2097152..4194304, 6291456..12582912, pack.clone()]
        );
        // The neighbour of a small image is not mounted.
        let small = |start| Listed {
            name: "small".into(),
            uuid: [0; 16],
            range: start..start + 8192,
            active: false,
            removed: true,
        };
        let listed = [small(2097152), small(2105344)];
        assert_eq!(
            sorted(&listed),
            [2097152..2105344, 6291456..12582912, pack.clone()]
        );
        // A shorter image is listed where a longer one is still mounted.
        let listed = [small(6291456)];
        assert_eq!(sorted(&listed), [2097152..4194304, 6291456..10485760, pack]);
        // A figure that cannot be read is not "nothing".
        fs::write(directory.join("0:40/offset"), "x").unwrap();
        let error = ranges("block/259:0", &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(ranges("block/259:7", &[]).unwrap(), []);
        fs::remove_file(directory.join("0:40/device")).unwrap();
        fs::create_dir(directory.join("0:40/device")).unwrap();
        assert!(ranges("block/259:7", &[]).is_err());
    }

    #[test]
    fn without_sysfs() {
        let parent = tempfile::tempdir().unwrap();
        // An empty directory, as in a container without /sys.
        assert!(ranges_in(parent.path(), "block/259:0", &[]).is_err());
        assert!(ranges_in(&parent.path().join("none"), "block/259:0", &[]).is_err());
    }
}
