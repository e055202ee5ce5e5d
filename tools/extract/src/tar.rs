// SPDX-License-Identifier: GPL-2.0-only

//! Extracts to a tar archive: PAX with extended attributes, nanoseconds, sparse files, and numbers
//! of any size.

use crate::links::Links;
use crate::pax::{pad, put, xattr_keyword, Member, Records, BLOCK};
use daxfs_check::acl::List;
use daxfs_files::bar::Bar;
use daxfs_files::memory::Storage;
use daxfs_files::signals::Interrupt;
use daxfs_files::{Losses, Progress};
use daxfs_image::error::{Error, Result};
use daxfs_image::reader::buffer_for;
use daxfs_image::reader::{Event, Reader};
use daxfs_image::text::shown;
use daxfs_reader::layout::XattrPrefix;
use daxfs_reader::{Content, FileType, Inode};
use std::io::{self, Write};
use tar::EntryType;

/// Zeros of at least this length and alignment become holes, each of which needs a line of the map.
const HOLE: usize = 64 << 10;

/// Writes `start` and everything below to `out` as a tar archive. Returns what could not be stored.
///
/// Fails if the image is damaged or unreadable, or if writing to `out` fails; `failed` converts
/// that error.
pub fn to_tar<S: Storage>(
    reader: &Reader<'_, S>,
    start: &Inode,
    out: &mut dyn Write,
    failed: &dyn Fn(io::Error) -> Error,
    interrupt: &Interrupt,
) -> Result<Losses> {
    let mut archive = Archive {
        reader,
        out,
        failed,
        interrupt,
        losses: Losses::default(),
        links: Links::new(reader),
        bar: Bar::of("extracting", reader.data_length()),
        buffer: Vec::new(),
    };
    reader.walk(start, b".", &mut |path, _, event| {
        interrupt.check()?;
        match event {
            Event::Enter(inode) | Event::File(inode) => archive.member(path, inode),
            Event::Leave(_) => Ok(()),
        }
    })?;
    // Two blocks of zeros end an archive.
    let ended = archive.out.write_all(&[0; 2 * BLOCK]);
    ended.and_then(|()| archive.out.flush()).map_err(failed)?;
    Ok(archive.losses)
}

struct Archive<'a, S> {
    reader: &'a Reader<'a, S>,
    out: &'a mut dyn Write,
    failed: &'a dyn Fn(io::Error) -> Error,
    interrupt: &'a Interrupt,
    losses: Losses,
    links: Links,
    bar: Bar,
    buffer: Vec<u8>,
}

impl<S: Storage> Archive<'_, S> {
    fn member(&mut self, path: &[u8], inode: &Inode) -> Result<()> {
        let mut member = Member {
            kind: EntryType::Regular,
            path,
            plain: None,
            mode: inode.permissions().into(),
            owner: (inode.uid, inode.gid),
            mtime: (inode.mtime_sec, inode.mtime_nsec),
            size: 0,
            target: b"",
            device: (0, 0),
        };
        if inode.file_type == FileType::Socket {
            let why = "socket left out; tar archives cannot hold sockets";
            self.losses.add(why.into(), || shown(path));
            return Ok(());
        }
        let first = self.links.meet(self.reader, inode, path)?.map(Vec::from);
        if let Some(first) = &first {
            member.kind = EntryType::Link;
            member.target = first;
            return put(self.out, &member, Records::default()).map_err(self.failed);
        }
        let mut records = Records::default();
        for xattr in self.reader.xattrs(inode, path)? {
            records.add(&xattr_keyword(&xattr.whole_name()), &xattr.value);
            // Also as text, for programs that read lists only in this form.
            let keyword = match xattr.prefix {
                XattrPrefix::AclAccess => b"SCHILY.acl.access".as_slice(),
                XattrPrefix::AclDefault => b"SCHILY.acl.default",
                _ => continue,
            };
            if let Ok(list) = List::parse(&xattr.value) {
                records.add(keyword, list.to_text().as_bytes());
            }
        }
        let target = self.reader.target(inode, path)?;
        let mut directory = path.to_vec();
        match inode.content {
            Content::Regular { .. } | Content::InPack { .. } => {
                return self.regular(member, inode, records);
            }
            Content::Directory(_) => {
                member.kind = EntryType::Directory;
                directory.push(b'/');
                member.path = &directory;
            }
            Content::Symlink { .. } => {
                member.kind = EntryType::Symlink;
                member.target = &target;
            }
            Content::Device { major, minor } => {
                member.kind = match inode.file_type {
                    FileType::BlockDevice => EntryType::Block,
                    _ => EntryType::Char,
                };
                member.device = (major, minor);
            }
            Content::Special => member.kind = EntryType::Fifo,
        }
        put(self.out, &member, records).map_err(self.failed)
    }

    fn regular(
        &mut self,
        mut member: Member<'_>,
        inode: &Inode,
        mut records: Records,
    ) -> Result<()> {
        let path = member.path;
        self.buffer
            .resize(self.buffer.len().max(buffer_for(inode)), 0);
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut ranges = Vec::new();
        if inode.size >= HOLE as u64 {
            ranges = self.ranges(inode, path, &mut buffer)?;
        }
        let stored: u64 = ranges.iter().map(|(_, length)| length).sum();
        let mut map = Vec::new();
        member.size = inode.size;
        if inode.size >= HOLE as u64 && stored < inode.size {
            map = sparse_map(&ranges, inode.size);
            member.size = map.len() as u64 + stored;
            member.plain = Some(b"./GNUSparseFile.0/file");
            records.add(b"GNU.sparse.major", b"1");
            records.add(b"GNU.sparse.minor", b"0");
            records.add(b"GNU.sparse.name", path);
            records.add(b"GNU.sparse.realsize", inode.size.to_string().as_bytes());
        } else {
            ranges = vec![(0, inode.size)];
        }
        let size = member.size;
        let head = put(self.out, &member, records).and_then(|()| self.out.write_all(&map));
        head.map_err(self.failed)?;

        for (mut at, length) in ranges {
            let end = at + length;
            while at < end {
                self.interrupt.check()?;
                let piece = (end - at).min(buffer.len() as u64) as usize;
                let piece = &mut buffer[..piece];
                self.reader.read(inode, path, at, piece)?;
                self.out.write_all(piece).map_err(self.failed)?;
                self.bar.advance(piece.len() as u64);
                at += piece.len() as u64;
            }
        }
        self.buffer = buffer;
        pad(self.out, size).map_err(self.failed)
    }

    /// Returns the ranges of the file that are not zero. They start and end at multiples of
    /// [`HOLE`], or at the end of the file.
    fn ranges(&self, inode: &Inode, path: &[u8], buffer: &mut [u8]) -> Result<Vec<(u64, u64)>> {
        let hole = HOLE as u64;
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        self.reader
            .data(inode, path, buffer, &mut |offset, piece| {
                self.interrupt.check()?;
                let mut at = 0;
                while at < piece.len() {
                    let here = offset + at as u64;
                    let next = (here + 1).next_multiple_of(hole);
                    let length = (next - here).min((piece.len() - at) as u64);
                    if piece[at..at + length as usize]
                        .iter()
                        .any(|&byte| byte != 0)
                    {
                        let start = here / hole * hole;
                        let end = next.min(inode.size);
                        match ranges.last_mut() {
                            Some((first, length)) if *first + *length >= start => {
                                *length = end - *first
                            }
                            _ => ranges.push((start, end - start)),
                        }
                    }
                    at += length as usize;
                }
                Ok(())
            })?;
        Ok(ranges)
    }
}

/// Returns the map that precedes a sparse file: the number of ranges, then offset and length of
/// each, one number per line.
fn sparse_map(ranges: &[(u64, u64)], size: u64) -> Vec<u8> {
    let end = ranges.last().map_or(0, |(start, length)| start + length);
    // An empty range at the end marks the size of a file that ends in a hole.
    let last = (end < size).then_some((size, 0));
    let count = ranges.len() + usize::from(last.is_some());
    let mut map = format!("{count}\n");
    for (start, length) in ranges.iter().copied().chain(last) {
        map += &format!("{start}\n{length}\n");
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

/// Returns the error for an archive `name` that cannot be written.
pub fn unwritten(name: &str, error: io::Error) -> Error {
    Error::system(name, "cannot write", "", error)
}
