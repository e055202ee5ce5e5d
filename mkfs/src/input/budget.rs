// SPDX-License-Identifier: GPL-2.0-only

//! Limits the memory that an archive can occupy. A few bytes of a compressed archive can expand to
//! any number of members, names, attributes and pieces of sparse files.

use daxfs_files::Reason;
use std::cell::Cell;

/// Maximum number of members, including the directories that they imply.
const MEMBERS: u64 = 16 << 20;

/// Maximum number of bytes that members need beyond that: 64 each.
const BYTES: u64 = 64 * MEMBERS;

/// The parts of members that count towards [`BYTES`].
const TEXTS: &str = "names, symlinks, extended attributes and maps of sparse files";

/// The remedy for an archive that is too large.
const REMEDY: &str = "unpack the archive, and make the image of the directory";

/// Bytes that a piece of a sparse file occupies while its map is read.
const PIECE: u64 = 64;

/// Memory that is left for an archive, or for all layers of a container image.
pub(crate) struct Budget {
    members: Cell<u64>,
    bytes: Cell<u64>,
}

impl Default for Budget {
    fn default() -> Self {
        Budget::new(MEMBERS, BYTES)
    }
}

impl Budget {
    /// Returns a budget of `members`, and of `bytes` for their names and attributes.
    pub fn new(members: u64, bytes: u64) -> Self {
        Budget {
            members: Cell::new(members),
            bytes: Cell::new(bytes),
        }
    }

    /// Charges `members`, and `bytes` for names, link targets and extended attributes.
    ///
    /// Fails if this exceeds the budget.
    pub fn take(&self, members: u64, bytes: u64) -> Result<(), Reason> {
        let left = self.members.get().checked_sub(members);
        let why = || format!("more than {MEMBERS} members and directories; {REMEDY}");
        self.members.set(left.ok_or_else(why)?);
        let left = self.bytes.get().checked_sub(bytes);
        let why = || format!("more than {} MiB of {TEXTS}; {REMEDY}", BYTES >> 20);
        self.bytes.set(left.ok_or_else(why)?);
        Ok(())
    }

    /// Charges `count` pieces of a sparse file.
    pub fn take_pieces(&self, count: u64) -> Result<(), Reason> {
        self.take(0, count.saturating_mul(PIECE))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::input::blob::Raw;
    use crate::input::member::Placer;
    use crate::input::options::Options;
    use crate::input::stream::Stream;
    use crate::input::tar::TarReader;
    use crate::writer::build::Builder;
    use crate::writer::origin::Container;
    use crate::writer::tree::ROOT;
    use daxfs_files::Error;
    use daxfs_testing::feed;
    use std::io::Write;

    type Reading<'a> = &'a mut dyn FnMut(&mut TarReader<'_>) -> daxfs_files::Result<()>;

    /// Returns a member with its content.
    pub fn member(kind: u8, name: &str, content: &[u8]) -> Vec<u8> {
        feed::member(name.as_bytes(), kind, b"", 0o644, content)
    }

    /// Returns a record of an extended header.
    fn record(key: &str, value: &str) -> String {
        String::from_utf8(feed::records(&[(key, value.as_bytes())])).unwrap()
    }

    fn extended(kind: u8, records: &str) -> Vec<u8> {
        member(kind, "x", records.as_bytes())
    }

    /// Reads `archive` and everything after it. Returns the warnings.
    pub fn reading(
        archive: &[u8],
        budget: &Budget,
        read: Reading<'_>,
    ) -> daxfs_files::Result<(Container, Vec<String>)> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(archive).unwrap();
        file.write_all(&[0; 1024]).unwrap();
        let raw = Raw::open(file.path()).unwrap();
        let scratch = std::env::temp_dir();
        let mut reader = TarReader::new(Stream::new(&raw, &Options::new(&scratch))?, budget);
        read(&mut reader)?;
        reader.finish()
    }

    /// Reads `archive` into a tree.
    fn place(archive: &[u8], budget: &Budget) -> daxfs_files::Result<(Container, Vec<String>)> {
        let mut builder = Builder::new();
        let mut placer = Placer::new(&mut builder, ROOT, 0, budget);
        reading(archive, budget, &mut |reader| {
            while let Some(member) = reader.next()? {
                let at = member.at;
                placer
                    .put(member)
                    .map_err(|refusal| reader.refused(at, refusal))?;
            }
            Ok(())
        })
    }

    /// Asserts that the member at byte `at` is refused.
    #[track_caller]
    pub fn refused<T>(result: daxfs_files::Result<T>, what: &str, at: usize) {
        let error: Error = result.err().expect("is refused");
        let error = error.to_string();
        let place = format!("(member at byte {at})");
        assert!(error.contains(what) && error.ends_with(&place), "{error}");
    }

    #[test]
    fn members_and_their_directories_count() {
        let link = feed::member(b"link", b'1', b"a/b/fifo", 0o644, b"");
        let first = [member(b'6', "a/b/fifo", b""), link].concat();
        place(&first, &Budget::new(4, 1000)).unwrap();
        let all = [first, member(b'5', "a", b"")].concat();
        let refusal = place(&all, &Budget::new(4, 1000));
        refused(refusal, "members and directories", 1024);
    }

    #[test]
    fn bytes_of_members() {
        let xattr = |value: &str| extended(b'x', &record("SCHILY.xattr.user.a", value));
        let target = |letter: &str| extended(b'x', &record("linkpath", &letter.repeat(900)));
        let with = |mut header: Vec<u8>, kind, name: &str| {
            header.extend(member(kind, name, b""));
            header
        };
        for [first, second] in [
            ["a", "b"].map(|letter| with(xattr(&letter.repeat(900)), b'0', letter)),
            ["a", "b"].map(|letter| with(target("t"), b'2', letter)),
            ["a", "b"].map(|letter| {
                let path = [letter.repeat(250), letter.repeat(250), letter.repeat(250)].join("/");
                with(extended(b'x', &record("path", &path)), b'0', "-")
            }),
        ] {
            let both = [&first[..], &second].concat();
            place(&first, &Budget::new(9, 1000)).unwrap();
            place(&both, &Budget::new(9, 2000)).unwrap();
            refused(place(&both, &Budget::new(9, 1000)), TEXTS, first.len());
        }
        // Shared attributes of members count once.
        let shared = ["a", "b", "c"].map(|name| with(xattr(&"v".repeat(900)), b'0', name));
        place(&shared.concat(), &Budget::new(9, 1000)).unwrap();
    }

    /// Of sparse files.
    #[test]
    fn pieces() {
        let map: Vec<String> = (0..30).map(|n| format!("{}\n1\n", 2 * n)).collect();
        let mut new = format!("30\n{}", map.concat()).into_bytes();
        new.resize(512, 0);
        new.extend([1; 30]);
        let records = record("GNU.sparse.major", "1") + &record("GNU.sparse.realsize", "60");
        let new = [extended(b'x', &records), member(b'0', "a", &new)].concat();
        let found = place(&new, &Budget::new(9, 30 * PIECE + 10));
        assert_eq!(found.unwrap().0.pieces.len(), 30);
        let twice = [&new[..], &new].concat();
        let found = place(&twice, &Budget::new(9, 40 * PIECE));
        refused(found, TEXTS, new.len());
        place(&twice, &Budget::new(9, 60 * PIECE + 10)).unwrap();
        // Maps that the archive only announces.
        let much = member(b'0', "a", format!("{}\n", u64::MAX).as_bytes());
        let much = [extended(b'x', &records), much].concat();
        refused(place(&much, &Budget::default()), TEXTS, 0);
    }

    /// The work for a member does not depend on the headers before.
    #[test]
    fn extended_headers() {
        let global = |length| extended(b'g', &record("path", &"/".repeat(length)));
        let comment = extended(b'g', &record("comment", &"c".repeat(100_000)));
        let file = member(b'0', "a", b"");
        let archive = [comment, global(4096), global(4096), file.clone()].concat();
        place(&archive, &Budget::default()).unwrap();
        let archive = [global(4097), file.clone()].concat();
        let what = "more than 4096 bytes in global extended headers";
        refused(place(&archive, &Budget::default()), what, 0);
        let xattrs = |count| -> String {
            let name = |n| format!("SCHILY.xattr.user.{n}");
            (0..count).map(|n| record(&name(n), "")).collect()
        };
        let archive = |count| [extended(b'x', &xattrs(count)), file.clone()].concat();
        place(&archive(9362), &Budget::default()).unwrap();
        let what = "more than 9362 extended attributes";
        refused(place(&archive(9363), &Budget::default()), what, 0);
        let large = extended(b'x', &record("comment", &"c".repeat(40 << 20)));
        let archive = [&file[..], &large, &large, &file].concat();
        let what = "its extended headers have more than 67108864 bytes";
        refused(place(&archive, &Budget::default()), what, file.len());
    }
}
