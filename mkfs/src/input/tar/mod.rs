// SPDX-License-Identifier: GPL-2.0-only

//! Reads tar streams: ustar, pax and GNU tar's, with other programs' extensions.

mod pax;
mod sparse;
mod text;

use super::member::{Member, What};
use super::stream::Stream;
use crate::input::budget::Budget;
use crate::input::scan::cannot_store;
use crate::input::xattr::split_name;
use crate::writer::acl;
use crate::writer::origin::{Container, Piece};
use crate::writer::tree::{Kind, Location, XattrSet};
use daxfs_files::{
    decompress_first, occupant, shown, shown_path, Error, Losses, Reason, Result, HEAD,
};
use daxfs_reader::layout::{XattrPrefix, MAGIC};
use daxfs_reader::{FileType, OwnedXattr};
use pax::Records;
use tar::{EntryType, Header};

pub(super) const BLOCK: usize = 512;

/// Size limit of a member's extended headers, which are read into memory.
const EXTENDED: u64 = 64 << 20;

/// Maximum number of bytes that global extended headers add to each member, so that the work for a
/// member does not depend on them.
const GLOBAL: usize = 4096;

/// Why sparse files in older formats are refused.
const OLD_SPARSE: &str =
    "a sparse file has a format that is not 1.0; make the archive with --sparse-version=1.0";

/// Reads the members of an archive one by one.
pub(super) struct TarReader<'a> {
    stream: Stream<'a>,
    budget: &'a Budget,
    /// Records of global extended headers.
    global: Records,
    /// Pieces of the sparse files read so far.
    pieces: Vec<Piece>,
    /// Parts of members that images cannot store.
    losses: Losses,
    warnings: Vec<String>,
    /// Whether the end mark was read.
    ended: bool,
    /// Whether to skip blocks of zeros, which end an archive, and read those after them.
    pub ignore_zeros: bool,
}

/// A header with the extended headers before it.
struct Head {
    header: Header,
    /// Offset of the member's first header.
    at: u64,
    /// Whether there was an extended header.
    pax: bool,
    records: Records,
}

impl<'a> TarReader<'a> {
    pub fn new(stream: Stream<'a>, budget: &'a Budget) -> Self {
        TarReader {
            stream,
            budget,
            global: Records::default(),
            pieces: Vec::new(),
            losses: Losses::default(),
            warnings: Vec::new(),
            ended: false,
            ignore_zeros: false,
        }
    }

    /// Returns the error for the member at `at`: the tree's or archive's own error, or a refusal of
    /// the member.
    pub fn refused(&self, at: u64, why: Reason) -> Error {
        match why.downcast::<Error>() {
            Ok(error) => *error,
            Err(why) => self.error(at, why),
        }
    }

    /// Returns an error about the member at `at`.
    pub fn error(&self, at: u64, why: impl std::fmt::Display) -> Error {
        Error::refused(self.stream.path(), format!("{why} (member at byte {at})"))
    }

    /// Reads to the end. Returns the container of the members' content, and warnings.
    pub fn finish(self) -> Result<(Container, Vec<String>)> {
        let mut warnings = self.warnings;
        let path = shown_path(self.stream.path());
        let losses = self.losses.lines();
        warnings.extend(losses.map(|line| format!("{path}: {line}")));
        let mut container = self.stream.finish(&mut warnings)?;
        container.pieces = self.pieces;
        Ok((container, warnings))
    }

    /// Fails if the archive is empty, unless it is `named` an archive and has no other content.
    /// Disk images often start with zeros, which also end an archive.
    pub fn check_empty(&mut self, named: bool) -> Result<()> {
        if self.stream.position() == 0 {
            let why = "is empty and not an archive";
            return Err(Error::refused(self.stream.path(), why));
        }
        let found = if self.stream.position() == 2 * BLOCK as u64 {
            self.foreign(&[0; 2 * BLOCK])?
        } else {
            None
        };
        match found {
            Some(what) => Err(self.no_archive(Some(what))),
            None if named => Ok(()),
            None => {
                let why =
                    "is an archive without members; if it should be, write tar: before the path";
                Err(Error::refused(self.stream.path(), why))
            }
        }
    }

    /// Returns the type of the input, which begins with `start`, the bytes read so far.
    fn foreign(&mut self, start: &[u8]) -> Result<Option<&'static str>> {
        let mut head = start.to_vec();
        head.resize(HEAD, 0);
        let length = self.stream.read(&mut head[start.len()..])?;
        Ok(occupant(&head[..start.len() + length]))
    }

    /// Returns the error for an input that contains `what` instead.
    fn no_archive(&self, what: Option<&str>) -> Error {
        let mut why = String::from("is neither a tar archive nor a daxfs image");
        why += &match what {
            Some(what) => format!(", but {what}; unpack or mount it, and name the directory"),
            None => "; name a directory, an archive or an image".into(),
        };
        Error::refused(self.stream.path(), why)
    }

    /// Returns the next member, if any.
    pub fn next(&mut self) -> Result<Option<Member>> {
        while let Some(head) = self.head()? {
            if let Some(member) = self.member(head)? {
                return Ok(Some(member));
            }
        }
        Ok(None)
    }

    /// Reads a header. Returns `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        let mut at = self.stream.position();
        let mut length = self.stream.read(header.as_mut_bytes())?;
        while self.ignore_zeros && length > 0 && header.as_bytes()[..length] == [0; BLOCK][..length]
        {
            at = self.stream.position();
            length = self.stream.read(header.as_mut_bytes())?;
            if length == 0 && !self.stream.has_garbage() {
                self.ended = true;
                return Ok(None);
            }
        }
        let bytes = header.as_bytes();
        if length == 0 {
            if at == 0 {
                // Layers without changes may look like this.
                return Ok(None);
            }
            if self.stream.has_garbage() {
                return Err(self.stream.cut_short());
            }
            let path = shown_path(self.stream.path());
            self.warnings.push(format!(
                "{path}: the archive has no end mark; make sure that it was not cut short"
            ));
            return Ok(None);
        }
        if length < BLOCK {
            let is_archive = at > 0 || length >= 262 && bytes[257..262] == *b"ustar";
            return Err(if is_archive || self.stream.has_garbage() {
                self.stream.cut_short()
            } else {
                self.no_archive(occupant(&bytes[..length]))
            });
        }
        let mut next = Vec::new();
        if *bytes == [0; BLOCK] {
            // A second block of zeros ends the archive, but may be missing.
            next.resize(BLOCK, 0);
            self.stream.read(&mut next)?;
            if next == [0; BLOCK] {
                self.ended = true;
                return Ok(None);
            }
        }
        if !has_sum(bytes) {
            if at == 0 && bytes.starts_with(&MAGIC) {
                let path = self.stream.path();
                let remedy = match self.stream.program() {
                    None => "leave out tar:".to_owned(),
                    Some(it) => decompress_first(it, &shown_path(path), "| mkdaxfs - IMAGE"),
                };
                let why = format!("is a daxfs image, not an archive; {remedy}");
                return Err(Error::refused(path, why));
            }
            if at == 0 {
                let what = self.foreign(&[bytes, &next[..]].concat())?;
                // The first header is damaged.
                return Err(
                    self.no_archive(what.filter(|_| header.as_bytes()[257..262] != *b"ustar"))
                );
            }
            let why = format!("is damaged: no member's header at byte {at}; get it again");
            return Err(Error::refused(self.stream.path(), why));
        }
        Ok(Some(header))
    }

    /// Returns whether the next block is a header or ends the archive.
    fn is_next(&mut self) -> Result<bool> {
        let mut block = [0; BLOCK];
        let length = self.stream.peek(&mut block)?;
        Ok(length < BLOCK || block == [0; BLOCK] || has_sum(&block))
    }

    /// Reads headers up to and including the member's own.
    fn head(&mut self) -> Result<Option<Head>> {
        let at = self.stream.position();
        // In any order: pax headers take precedence over GNU tar's, and these over global ones.
        let (mut own, mut path, mut link) = (Vec::<Vec<u8>>::new(), None, None);
        let (mut pending, mut left) = (false, EXTENDED);
        while let Some(header) = self.header()? {
            let kind = header.entry_type().as_byte();
            if !b"gxXLK".contains(&kind) {
                let mut records = self.global.clone();
                records.path = path.or(records.path);
                records.link = link.or(records.link);
                for bytes in &own {
                    records.add(bytes).map_err(|why| self.error(at, why))?;
                }
                return Ok(Some(Head {
                    header,
                    at,
                    pax: !own.is_empty(),
                    records,
                }));
            }
            let size = self.field(at, "size", &header.as_old().size)?;
            let bytes = self.extended(at, size, &mut left)?;
            pending |= kind != b'g';
            match kind {
                b'L' => path = Some(until_nul(bytes)),
                b'K' => link = Some(until_nul(bytes)),
                b'g' => {
                    let added = self.global.add(&bytes);
                    added.map_err(|why| self.error(at, why))?;
                    if self.global.bytes() > GLOBAL {
                        let why = "bytes in global extended headers; make the archive without them";
                        return Err(self.error(at, format!("more than {GLOBAL} {why}")));
                    }
                }
                _ => own.push(bytes),
            }
        }
        let why = "its extended headers have no member";
        match (pending, self.ended) {
            (false, _) => Ok(None),
            // Some programs write extended headers and then leave the file out.
            (true, true) => {
                self.warnings.push(self.error(at, why).to_string());
                Ok(None)
            }
            (true, false) => Err(self.error(at, format!("{why}; get it again"))),
        }
    }

    /// Returns the content of an extended header. A member may have `left` more bytes of them.
    fn extended(&mut self, at: u64, size: u64, left: &mut u64) -> Result<Vec<u8>> {
        let rest = left.checked_sub(size);
        let why = || format!("its extended headers have more than {EXTENDED} bytes");
        *left = rest.ok_or_else(|| self.error(at, why()))?;
        let mut bytes = vec![0; size as usize];
        self.stream.read_exact(&mut bytes)?;
        self.pad(size)?;
        Ok(bytes)
    }

    /// Skips the padding after `size` bytes, which may be missing at the end of the archive.
    fn pad(&mut self, size: u64) -> Result<()> {
        let mut block = [0; BLOCK];
        let length = (size.next_multiple_of(BLOCK as u64) - size) as usize;
        self.stream.read(&mut block[..length]).map(drop)
    }

    /// Returns the number in a field of the member at `at`.
    fn field(&self, at: u64, name: &str, field: &[u8]) -> Result<u64> {
        unsigned(field).ok_or_else(|| self.error(at, format!("its {name} is malformed")))
    }

    fn id(&self, at: u64, name: &str, field: &[u8], record: Option<u32>) -> Result<u32> {
        if let Some(id) = record {
            return Ok(id);
        }
        let value = self.field(at, name, field)?;
        u32::try_from(value).map_err(|_| self.error(at, format!("its {name} is {value}")))
    }

    /// Returns a header's member, or `None` if images have nothing like it.
    fn member(&mut self, mut head: Head) -> Result<Option<Member>> {
        let at = head.at;
        let header = head.header.clone();
        let old = header.as_old();
        let path = head.records.sparse_name.take().or(head.records.path.take());
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = head.records.link.take();
        let link = link
            .or_else(|| header.link_name_bytes().map(Into::into))
            .unwrap_or_default();
        let mut size = match head.records.size {
            Some(size) => size,
            None => self.field(at, "size", &old.size)?,
        };
        // Other types have no content, even if the header gives a size.
        let kind = header.entry_type();
        let what = match kind.as_byte() {
            b'1' => {
                // In pax, the size is the content's. Elsewhere it is the file's, even without
                // content.
                if !head.pax && (header.as_ustar().is_none() || size > 0 && self.is_next()?) {
                    size = 0;
                }
                What::HardLink(link, self.regular(&head, kind, size)?)
            }
            b'2' => What::File(Kind::Symlink(link.into())),
            b'3' => What::File(self.device(&head, FileType::CharDevice)?),
            b'4' => What::File(self.device(&head, FileType::BlockDevice)?),
            b'5' => What::File(Kind::Directory(Vec::new())),
            b'6' => What::File(Kind::Fifo),
            // The archive's label.
            b'V' => return self.content(size).map(|()| None),
            b'M' => {
                let why = "is continued from another volume; join the volumes first";
                return Err(self.error(at, why));
            }
            // An incremental archive stores the names in a directory.
            b'D' => {
                self.content(size)?;
                What::File(Kind::Directory(Vec::new()))
            }
            b'\0' | b'0' if size == 0 && path.ends_with(b"/") => {
                What::File(Kind::Directory(Vec::new()))
            }
            b'\0' | b'0' | b'7' | b'S' => What::File(self.regular(&head, kind, size)?),
            other => {
                let kind = char::from(other).escape_default();
                let what = format!("the unknown type '{kind}' is taken for a regular file");
                self.losses.add(what, || shown(&path));
                What::File(self.regular(&head, EntryType::Regular, size)?)
            }
        };
        let seconds = || number(&old.mtime).map(|seconds| (seconds, 0));
        let mtime = head.records.mtime.or_else(seconds);
        let mtime = mtime.ok_or_else(|| self.error(at, "its time is malformed"))?;
        let mut permissions = (self.field(at, "mode", &old.mode)? & 0o7777) as u16;
        // As in Linux, whatever another system wrote.
        if matches!(what, What::File(Kind::Symlink(_))) {
            permissions = 0o777;
        }
        let uid = self.id(at, "owner", &old.uid, head.records.uid)?;
        let gid = self.id(at, "group", &old.gid, head.records.gid)?;
        let mut xattrs = XattrSet::new();
        // A hard link shares its target's attributes.
        if let What::File(kind) = &what {
            xattrs = self
                .xattrs(&path, head)
                .and_then(|mut set| {
                    acl::settle(&mut set, &mut permissions, kind.file_type())?;
                    Ok(set)
                })
                .map_err(|why| self.error(at, format!("'{}' {why}", shown(&path))))?;
        }
        Ok(Some(Member {
            permissions,
            uid,
            gid,
            mtime,
            xattrs,
            path,
            what,
            at,
        }))
    }

    fn content(&mut self, size: u64) -> Result<()> {
        self.stream.skip(size)?;
        self.pad(size)
    }

    /// Stores the content of a regular file, which occupies `stored` bytes in the archive.
    fn regular(&mut self, head: &Head, kind: EntryType, stored: u64) -> Result<Kind> {
        let at = head.at;
        let records = &head.records;
        let (stream, budget) = (&mut self.stream, self.budget);
        let found = match (head.header.as_gnu(), records.sparse_size) {
            (Some(header), _) if kind.is_gnu_sparse() => {
                sparse::old(header, stream, budget).map(|(map, size)| Some((map, size, 0)))
            }
            (_, Some(size)) if records.sparse_major == Some(1) => {
                sparse::new(stream, stored, budget).map(|(map, used)| Some((map, size, used)))
            }
            (_, Some(_)) => Err(OLD_SPARSE.into()),
            _ => Ok(None),
        };
        let found = found.map_err(|refusal| self.refused(at, refusal))?;
        let Some((map, size, in_map)) = found else {
            let offset = self.stream.keep(stored)?;
            self.pad(stored)?;
            return Ok(Kind::Regular {
                size: stored,
                location: Location::Part(offset),
            });
        };
        let data = stored.checked_sub(in_map);
        let data = data.ok_or_else(|| self.error(at, sparse::MALFORMED))?;
        let offset = self.stream.keep(data)?;
        self.pad(data)?;
        let pieces = sparse::pieces(&map, offset, data, size);
        let pieces = pieces.map_err(|why| self.error(at, why))?;
        let (first, count) = (self.pieces.len(), pieces.len());
        self.pieces.extend(pieces);
        Ok(Kind::Regular {
            size,
            location: Location::Pieces { first, count },
        })
    }

    /// Returns a member's device. The kernel has 12-bit majors and 20-bit minors.
    fn device(&self, head: &Head, file_type: FileType) -> Result<Kind> {
        // These fields have the same offset in all formats.
        let bytes = head.header.as_bytes();
        let (records, at) = (&head.records, head.at);
        let major = self.id(at, "device number", &bytes[329..337], records.major)?;
        let minor = self.id(at, "device number", &bytes[337..345], records.minor)?;
        if major >> 12 != 0 || minor >> 20 != 0 {
            let why = format!("device number {major}:{minor} is not supported by Linux");
            return Err(self.error(at, why));
        }
        Ok(Kind::Device {
            file_type,
            major,
            minor,
        })
    }

    /// Returns a member's extended attributes.
    fn xattrs(&mut self, path: &[u8], head: Head) -> std::result::Result<XattrSet, Reason> {
        let mut set = XattrSet::new();
        if head.records.libarchive && !head.records.schily {
            let what = "attributes of LIBARCHIVE left out; make the archive with --options pax:xattrheader=SCHILY";
            self.losses.add(what.into(), || shown(path));
        }
        for (attribute, value) in head.records.xattrs {
            if attribute.contains(&0) {
                let name = shown(&attribute);
                let why = format!("has the extended attribute '{name}' with a NUL in its name");
                return Err(why.into());
            }
            match split_name(&attribute) {
                Some((prefix, rest)) if rest.len() <= 255 => set.push(OwnedXattr {
                    prefix,
                    name: rest.into(),
                    value: value.into(),
                }),
                _ => self.losses.add(cannot_store(&attribute), || shown(path)),
            }
        }
        let kinds = [XattrPrefix::AclAccess, XattrPrefix::AclDefault];
        for (prefix, text) in kinds.into_iter().zip(&head.records.acls) {
            let Some(text) = text else {
                continue;
            };
            let list = text::binary(text)?;
            if let (Some(list), false) = (list, set.iter().any(|xattr| xattr.prefix == prefix)) {
                set.push(OwnedXattr {
                    prefix,
                    name: Box::default(),
                    value: list.into(),
                });
            }
        }
        Ok(set)
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|&byte| byte == 0);
    bytes.truncate(end.unwrap_or(bytes.len()));
    bytes
}

/// Returns whether a block has a header's checksum.
fn has_sum(bytes: &[u8; BLOCK]) -> bool {
    // Both checksums are in use. The field itself counts as blanks.
    let field = 148..156;
    let (mut unsigned, mut signed) = (0i64, 0i64);
    for (place, &byte) in bytes.iter().enumerate() {
        let byte = if field.contains(&place) { b' ' } else { byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte as i8);
    }
    number(&bytes[field]).is_some_and(|sum| sum == unsigned || sum == signed)
}

/// Returns the number in a header's field unless it is negative.
fn unsigned(field: &[u8]) -> Option<u64> {
    number(field).and_then(|value| u64::try_from(value).ok())
}

/// Returns the number in a header's field: octal, or binary if the first bit is set.
///
/// Digits end at a NUL or a blank. Some programs put other bytes after that, or nothing before it.
fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // Two's complement without the first bit.
        let start = i128::from(((first << 1) as i8) >> 1);
        let mut value = start;
        for &byte in rest {
            value = value.checked_mul(256)? + i128::from(byte);
        }
        return i64::try_from(value).ok();
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_blank(byte));
    let (blanks, text) = field.split_at(start.unwrap_or(field.len()));
    let mut value = 0i64;
    let digits = text.iter().take_while(|byte| (b'0'..b'8').contains(byte));
    for digit in digits.clone() {
        value = value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))?;
    }
    let ends = match digits.count() {
        0 => text.is_empty() || blanks.contains(&0),
        count => text.get(count).is_none_or(is_blank),
    };
    ends.then_some(value)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers() {
        for (field, expected) in [
            (&b"0000644\0"[..], 0o644),
            (b"   644 \0", 0o644),
            (b"644", 0o644),
            (b"77777777777 ", 0o77_777_777_777),
            (b"", 0),
            (b"\0\0\0", 0),
            (b"1 2", 1),
            (b"644\0x/y", 0o644),
            (b"0000644 \xff\0", 0o644),
            (b"\0 644 ", 0o644),
            (b"\0ustar\0", 0),
            (b"\x80\0\0\0\0\0\0\x03\0\0\0\0", 3 << 32),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", -1),
            (b"\xff\xff\xff\xff\x80\0\0\0", -0x8000_0000),
        ] {
            let found = number(field);
            assert_eq!(found, (!field.is_empty()).then_some(expected), "{field:?}");
        }
        for wrong in [
            &b"8"[..],
            b"0x1",
            b"9\0",
            b"  x\0",
            b"-1",
            b"7777777777777777777777777",
            b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(number(wrong), None, "{wrong:?}");
        }
    }
}
