// SPDX-License-Identifier: GPL-2.0-only

//! Headers of tar archives in the PAX format.
//!
//! The crate `tar` accepts keywords only as text, but names of extended attributes are bytes.

use std::io::{self, Write};
use tar::{EntryType, Header};

/// Unit of an archive in bytes.
pub const BLOCK: usize = 512;

/// Largest values of header fields written in octal.
const ID_LIMIT: u64 = 0o777_7777;
const SIZE_LIMIT: u64 = 0o777_7777_7777;

/// Keywords and values of an extended header.
#[derive(Default)]
pub struct Records(Vec<u8>);

impl Records {
    /// Adds `keyword=value`. Each line begins with its own length.
    pub fn add(&mut self, keyword: &[u8], value: &[u8]) {
        let rest = keyword.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        self.0.extend_from_slice(length.to_string().as_bytes());
        self.0.push(b' ');
        self.0.extend_from_slice(keyword);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }
}

/// A member of an archive.
pub struct Member<'a> {
    /// Its type.
    pub kind: EntryType,
    /// Its name.
    pub path: &'a [u8],
    /// The name in the plain header, if different.
    pub plain: Option<&'a [u8]>,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Modification time.
    pub mtime: (i64, u32),
    /// Size of the content that follows.
    pub size: u64,
    /// Target of a link.
    pub target: &'a [u8],
    /// Numbers of a device.
    pub device: (u32, u32),
}

/// Writes the headers of `member`, with `records` and those that the member itself needs.
pub fn put(out: &mut dyn Write, member: &Member<'_>, mut records: Records) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(member.kind);
    header.set_mode(member.mode);
    let mut number = |value: u64, limit: u64, keyword: &[u8]| {
        if value > limit {
            records.add(keyword, value.to_string().as_bytes());
            return 0;
        }
        value
    };
    header.set_uid(number(member.owner.0.into(), ID_LIMIT, b"uid"));
    header.set_gid(number(member.owner.1.into(), ID_LIMIT, b"gid"));
    header.set_size(number(member.size, SIZE_LIMIT, b"size"));
    let (sec, nsec) = member.mtime;
    let plain = u64::try_from(sec).ok().filter(|&sec| sec <= SIZE_LIMIT);
    header.set_mtime(plain.unwrap_or(0));
    if nsec != 0 || plain.is_none() {
        records.add(b"mtime", time(sec, nsec).as_bytes());
    }
    header.set_device_major(member.device.0)?;
    header.set_device_minor(member.device.1)?;
    let ustar = header.as_ustar_mut();
    if let Some(ustar) = ustar {
        let name = member.plain.unwrap_or(member.path);
        if fill(&mut ustar.name, name) && member.plain.is_none() {
            records.add(b"path", member.path);
        }
        if fill(&mut ustar.linkname, member.target) {
            records.add(b"linkpath", member.target);
        }
    }
    header.set_cksum();
    if !records.0.is_empty() {
        let mut extended = Header::new_ustar();
        extended.set_entry_type(EntryType::XHeader);
        extended.set_mode(0o644);
        extended.set_uid(0);
        extended.set_gid(0);
        extended.set_mtime(0);
        extended.set_size(records.0.len() as u64);
        if let Some(ustar) = extended.as_ustar_mut() {
            fill(&mut ustar.name, b"././@PaxHeader");
        }
        extended.set_cksum();
        out.write_all(extended.as_bytes())?;
        out.write_all(&records.0)?;
        pad(out, records.0.len() as u64)?;
    }
    out.write_all(header.as_bytes())
}

/// Fills a field with the start of `bytes`; returns whether `bytes` was truncated.
fn fill(field: &mut [u8], bytes: &[u8]) -> bool {
    let length = bytes.len().min(field.len());
    field.fill(0);
    field[..length].copy_from_slice(&bytes[..length]);
    length < bytes.len()
}

/// Pads content of `length` bytes with zeros to a whole block.
pub fn pad(out: &mut dyn Write, length: u64) -> io::Result<()> {
    let rest = (BLOCK as u64 - length % BLOCK as u64) % BLOCK as u64;
    out.write_all(&[0; BLOCK][..rest as usize])
}

/// Returns a time as a decimal number: the fraction counts away from zero.
fn time(sec: i64, nsec: u32) -> String {
    if nsec == 0 {
        sec.to_string()
    } else if sec < 0 {
        format!("-{}.{:09}", (sec + 1).unsigned_abs(), 1_000_000_000 - nsec)
    } else {
        format!("{sec}.{nsec:09}")
    }
}

/// Returns the keyword for the extended attribute `name`, as in GNU tar.
pub fn xattr_keyword(name: &[u8]) -> Vec<u8> {
    let mut keyword = b"SCHILY.xattr.".to_vec();
    for &byte in name {
        match byte {
            b'%' => keyword.extend_from_slice(b"%25"),
            b'=' => keyword.extend_from_slice(b"%3D"),
            byte => keyword.push(byte),
        }
    }
    keyword
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_themselves() {
        for length in [0, 1, 80, 84, 85, 86, 980, 985, 990, 991, 992, 10_000] {
            let mut records = Records::default();
            records.add(b"path", &vec![b'x'; length]);
            let digits = records
                .0
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            let told: usize = std::str::from_utf8(&records.0[..digits])
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(told, records.0.len());
        }
    }

    #[test]
    fn times() {
        assert_eq!(time(-1, 0), "-1");
        assert_eq!(time(-1, 1), "-0.999999999");
        assert_eq!(time(-2, 500_000_000), "-1.500000000");
        assert_eq!(time(0, 5), "0.000000005");
        assert_eq!(time(i64::MIN, 0), "-9223372036854775808");
    }
}
