// SPDX-License-Identifier: GPL-2.0-only

//! How messages and listings show names, modes, times and bytes.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
pub use daxfs_files::{cause, shown, shown_path};
use daxfs_reader::{FileType, Problem, Superblock};
use prost_types::Timestamp;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Returns the label of an image without padding.
pub fn label(superblock: &Superblock) -> &[u8] {
    let label = &superblock.label;
    label.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Returns the remedy for an image with `problem`, with a leading separator.
pub fn remedy(problem: Problem) -> &'static str {
    match problem {
        Problem::Version | Problem::Feature => "; use the tools that made it, or newer ones",
        Problem::Unreadable => {
            "; the file is too short, or its storage fails: restore it from a copy"
        }
        Problem::IS_CATALOG => {
            "; daxfs store list shows its images: commands take --image NAME, and mounts of a device image=NAME (losetup makes a device of a file)"
        }
        Problem::Catalog(_) => "; make it again with daxfs store init",
        Problem::NoPack => "; name the file of the pack with --pack",
        Problem::Truncated => "; the copy is incomplete: copy all of it",
        _ => "; the image is damaged: restore it from a copy, or make it again",
    }
}

/// Returns a mode as ls(1) shows it, `drwxr-xr-x`.
pub fn mode(file_type: FileType, permissions: u16) -> String {
    let kind = match file_type {
        FileType::Fifo => 'p',
        FileType::CharDevice => 'c',
        FileType::Directory => 'd',
        FileType::BlockDevice => 'b',
        FileType::Regular => '-',
        FileType::Symlink => 'l',
        FileType::Socket => 's',
    };
    let mut text = String::from(kind);
    for (shift, special, with, without) in [
        (6, 0o4000, 's', 'S'),
        (3, 0o2000, 's', 'S'),
        (0, 0o1000, 't', 'T'),
    ] {
        let bits = permissions >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (permissions & special != 0, bits & 1 != 0) {
            (true, true) => with,
            (true, false) => without,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// Returns `size` with a unit as `ls -h` shows it: rounded up to three characters, powers of 1024.
pub fn human(size: u64) -> String {
    let mut unit = 1_u128;
    let size = u128::from(size);
    for name in ["", "K", "M", "G", "T", "P", "E"] {
        let tenths = (size * 10).div_ceil(unit);
        if unit > 1 && tenths < 100 {
            return format!("{}.{}{name}", tenths / 10, tenths % 10);
        }
        let whole = size.div_ceil(unit);
        if whole < 1024 || name == "E" {
            return format!("{whole}{name}");
        }
        unit *= 1024;
    }
    size.to_string()
}

/// Returns the name of a type, as in `dump`.
pub fn type_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Fifo => "fifo",
        FileType::CharDevice => "character-device",
        FileType::Directory => "directory",
        FileType::BlockDevice => "block-device",
        FileType::Regular => "file",
        FileType::Symlink => "symlink",
        FileType::Socket => "socket",
    }
}

/// Returns a time in UTC, `2026-11-20 10:32:12.000000000`.
pub fn time(seconds: i64, nanoseconds: u32) -> String {
    let text = Timestamp { seconds, nanos: 0 }
        .to_string()
        .replace('T', " ");
    format!("{}.{nanoseconds:09}", text.trim_end_matches('Z'))
}

/// Returns the seconds since 1970 of a time such as `2026-11-20 10:32:12Z`, 0 if it is earlier.
pub fn parse_time(text: &str) -> Option<u64> {
    let Timestamp { seconds, .. } = text.parse().ok()?;
    Some(seconds.try_into().unwrap_or(0))
}

/// Bytes in JSON: a string if they are UTF-8, else an object with the member `base64`.
pub struct Bytes<'a>(pub &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", &STANDARD.encode(self.0))?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(mode(FileType::Regular, 0o644), "-rw-r--r--");
        assert_eq!(mode(FileType::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(mode(FileType::Symlink, 0o7000), "l--S--S--T");
        assert_eq!(mode(FileType::Regular, 0o6755), "-rwsr-sr-x");
    }

    #[test]
    fn sizes() {
        for (size, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0K"),
            (1025, "1.1K"),
            (10_137, "9.9K"),
            (10_138, "10K"),
            (1_047_552, "1023K"),
            (1_047_553, "1.0M"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(human(size), text);
        }
    }

    #[test]
    fn times() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (-2_203_891_200, "1900-03-01 00:00:00"),
            (253_402_300_799, "9999-12-31 23:59:59"),
        ] {
            assert_eq!(time(seconds, 5), format!("{text}.000000005"));
            assert_eq!(parse_time(text), Some(seconds.max(0) as u64));
        }
        assert_eq!(parse_time("Jan 1 1970"), None);
        // An image may contain any time.
        time(i64::MIN, 0);
        time(i64::MAX, 0);
    }
}
