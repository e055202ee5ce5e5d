// SPDX-License-Identifier: GPL-2.0-only

//! The records of extended headers, from POSIX's pax(1) and from extensions.

use super::sparse::decimal;
use daxfs_files::{shown, Reason};
use daxfs_reader::layout::XATTR_COUNT_MAX;
use std::collections::btree_map::{BTreeMap, Entry};

/// Records of extended headers, for the next member or for all that follow.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime: Option<(i64, u32)>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// Extended attributes by full name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Whether there are `LIBARCHIVE.xattr` records, bsdtar's besides or without `SCHILY.xattr`.
    pub libarchive: bool,
    /// Whether there are `SCHILY.xattr` records.
    pub schily: bool,
    /// Access control lists as text: access, default.
    pub acls: [Option<Vec<u8>>; 2],
    /// GNU tar's records for sparse files: name, size of the whole file, and format.
    pub sparse_name: Option<Vec<u8>>,
    pub sparse_size: Option<u64>,
    pub sparse_major: Option<u64>,
}

impl Records {
    /// Adds the records in `bytes`.
    pub fn add(&mut self, mut bytes: &[u8]) -> Result<(), Reason> {
        // A record is its length in bytes, a blank, key=value and a newline.
        while !bytes.is_empty() && bytes.iter().any(|&byte| byte != 0) {
            let wrong = || "an extended header is malformed";
            let blank = bytes.iter().take(20).position(|&byte| byte == b' ');
            let blank = blank.ok_or_else(wrong)?;
            let length = decimal(&bytes[..blank]).ok_or_else(wrong)?;
            let length = usize::try_from(length).ok().filter(|&n| n <= bytes.len());
            let length = length.filter(|&n| n > blank + 1).ok_or_else(wrong)?;
            let (record, rest) = bytes.split_at(length);
            let record = record[blank + 1..].strip_suffix(b"\n").ok_or_else(wrong)?;
            let equals = record.iter().position(|&byte| byte == b'=');
            let (key, value) = record.split_at(equals.ok_or_else(wrong)?);
            self.set(key, &value[1..])?;
            bytes = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Reason> {
        let wrong = || {
            let key = shown(key);
            let value = shown(&value[..value.len().min(40)]);
            format!("the extended header {key} has the value '{value}'")
        };
        let number = || match value {
            b"" => Ok(None),
            _ => decimal(value).map(Some).ok_or_else(wrong),
        };
        let id = || match number()? {
            Some(value) => u32::try_from(value)
                .map(Some)
                .map_err(|_| format!("{}, and the largest is {}", wrong(), u32::MAX)),
            None => Ok(None),
        };
        let bytes = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = bytes(),
            b"linkpath" => self.link = bytes(),
            b"size" => self.size = number()?,
            b"uid" => self.uid = id()?,
            b"gid" => self.gid = id()?,
            b"SCHILY.devmajor" => self.major = id()?,
            b"SCHILY.devminor" => self.minor = id()?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(time(value).ok_or_else(wrong)?),
            b"GNU.sparse.name" => self.sparse_name = bytes(),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse_size = number()?,
            b"GNU.sparse.major" => self.sparse_major = number()?,
            b"SCHILY.acl.access" => self.acls[0] = bytes(),
            b"SCHILY.acl.default" => self.acls[1] = bytes(),
            // NFSv4 lists, which images cannot store.
            b"SCHILY.acl.ace" if value.is_empty() => (),
            b"SCHILY.acl.ace" => self.xattr(b"system.nfs4_acl", Vec::new(), true)?,
            b"RHT.security.selinux" => {
                // The kernel's own labels end with NUL.
                let mut label = value.to_vec();
                label.push(0);
                self.xattr(b"security.selinux", label, false)?;
            }
            _ => {
                self.libarchive |= key.starts_with(b"LIBARCHIVE.xattr.");
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.schily = true;
                    self.xattr(&decoded(name), value.to_vec(), true)?;
                }
            }
        }
        Ok(())
    }

    /// Sets an attribute. Keeps an existing value unless `replace`.
    fn xattr(&mut self, name: &[u8], value: Vec<u8>, replace: bool) -> Result<(), Reason> {
        let room = self.xattrs.len() < XATTR_COUNT_MAX as usize;
        match self.xattrs.entry(name.into()) {
            Entry::Occupied(mut present) if replace => drop(present.insert(value)),
            Entry::Occupied(_) => (),
            Entry::Vacant(place) if room => drop(place.insert(value)),
            Entry::Vacant(_) => {
                let why = "extended attributes, which Linux cannot list; remove some";
                return Err(format!("more than {XATTR_COUNT_MAX} {why}").into());
            }
        }
        Ok(())
    }

    /// Returns the bytes of memory that names, links, attributes and maps occupy.
    pub fn bytes(&self) -> usize {
        let texts = [&self.path, &self.link, &self.sparse_name];
        let texts = texts.into_iter().chain(&self.acls).flatten();
        let xattrs = self.xattrs.iter();
        texts.map(Vec::len).sum::<usize>()
            + xattrs
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>()
    }
}

/// Returns the name of an extended attribute, in which GNU tar and bsdtar encode `%` and `=`. Like
/// GNU tar, decodes `%25` and `%3D` from any program, because the record does not identify its
/// writer.
fn decoded(mut name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    loop {
        let (byte, rest) = match name {
            [b'%', b'2', b'5', rest @ ..] => (b'%', rest),
            [b'%', b'3', b'D', rest @ ..] => (b'=', rest),
            [byte, rest @ ..] => (*byte, rest),
            [] => return plain,
        };
        plain.push(byte);
        name = rest;
    }
}

/// Parses seconds with decimals, which count away from zero. Rounds to nanoseconds towards the
/// past.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let dot = text.iter().position(|&byte| byte == b'.');
    let (seconds, fraction) = match dot {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b""[..]),
    };
    let seconds = i64::try_from(decimal(seconds)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |place: usize| u32::from(fraction.get(place).map_or(0, |byte| byte - b'0'));
    let nanoseconds = (0..9).fold(0, |sum, place| sum * 10 + digit(place));
    let more = fraction.iter().skip(9).any(|&byte| byte != b'0');
    Some(match nanoseconds + u32::from(more) {
        _ if !negative => (seconds, nanoseconds),
        0 => (-seconds, 0),
        below => (-seconds - 1, 1_000_000_000 - below),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in [
            ("0", (0, 0)),
            ("1.5", (1, 500_000_000)),
            ("-1.5", (-2, 500_000_000)),
            ("-0.000000001", (-1, 999_999_999)),
            ("-1", (-1, 0)),
            ("1.1234567899", (1, 123_456_789)),
            ("-1.0000000001", (-2, 999_999_999)),
            ("5.", (5, 0)),
        ] {
            assert_eq!(time(text.as_bytes()), Some(expected), "{text}");
        }
        let wrong = "|-|.5|x|1.x|1e5|--1|99999999999999999999";
        for wrong in wrong.split('|') {
            assert_eq!(time(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn records() {
        let mut records = Records::default();
        let text = b"12 path=a\n2\n28 SCHILY.xattr.user.x=\n\0=\xff\n\0\0";
        records.add(text).unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"a\n2"[..]));
        assert_eq!(
            records.xattrs,
            BTreeMap::from([(b"user.x".to_vec(), b"\n\0=\xff".to_vec())])
        );
        for wrong in [
            &b"5 a=b\n"[..],
            b"7 a=b\n",
            b"x a=b\n",
            b"4 ab\n",
            b"99999999999999999999999 a=b\n",
            b"10 size=x\n",
        ] {
            let shown = String::from_utf8_lossy(wrong);
            assert!(Records::default().add(wrong).is_err(), "{shown}");
        }
    }
}
