// SPDX-License-Identifier: GPL-2.0-only

//! Runs every function of the reader on an image, in the order of a mount and a walk.

use daxfs_reader::layout::XattrPrefix;
use daxfs_reader::{
    Content, Directory, Dirent, Error, Image, Inode, Memory, Problem, Result, Superblock, Xattr,
    XATTR_NAME_MAX,
};

/// Maximum number of entries of a directory to look at.
const ENTRIES: u32 = 2000;

/// Maximum number of positions of a directory, and of entries from each, to compare.
const STARTS: usize = 64;

/// Maximum numbers of attributes of a set to look at, and to look up.
const XATTRS: usize = 1000;
const LOOKUPS: usize = 32;

/// Returns every error that the reader finds, except a wrong metadata checksum. The memory may
/// change.
pub fn read_everything<M: Memory>(memory: &M) -> Vec<Error> {
    read(memory, false)
}

/// Like [`read_everything`], but for memory that does not change.
///
/// # Panics
///
/// If two functions of the reader disagree.
pub fn read_and_compare<M: Memory>(memory: &M) -> Vec<Error> {
    read(memory, true)
}

/// Reads all files of the image in `memory` with data in `pack`, under any number. Returns errors.
pub fn read_from_pack<M: Memory>(memory: &M, pack: &M) -> Vec<Error> {
    let superblocks = (Superblock::load(memory), Superblock::load(pack));
    let (Ok(superblock), Ok(superblock_of_pack)) = superblocks else {
        return Vec::new();
    };
    let image = Image::new(memory, &superblock);
    let count = superblock.inode_count().min(100_000) as u32;
    let inodes = (1..=count).filter_map(|ino| image.inode(ino).ok());
    let in_pack = inodes.filter(|inode| matches!(inode.content, Content::InPack { .. }));
    let read = in_pack.map(|inode| {
        let without = image.source(&inode, |_| None).err();
        assert_eq!(without.map(|error| error.problem), Some(Problem::NoPack));
        let (image, source) =
            image.source(&inode, |_| Some(Image::new(pack, &superblock_of_pack)))?;
        assert!(source.size == inode.size && source.original == 0);
        let last = image.read(&source, inode.size - 1, &mut [0; 2])?;
        assert_eq!(last, 1);
        Ok(())
    });
    read.filter_map(Result::err).collect()
}

fn read<M: Memory>(memory: &M, stable: bool) -> Vec<Error> {
    let mut errors = Vec::new();
    let superblock = match Superblock::load(memory) {
        Ok(superblock) => superblock,
        Err(error) => return vec![error],
    };
    let image = Image::new(memory, &superblock);
    errors.extend(image.root().err());
    errors.extend((0..superblock.pack_count()).filter_map(|index| image.pack(index).err()));
    let count = superblock.inode_count().min(100_000) as u32;
    for ino in 1..=count {
        match image.inode(ino) {
            Ok(inode) => read_inode(&image, &inode, stable, &mut errors),
            Err(error) => errors.push(error),
        }
    }
    errors
}

fn read_inode<M: Memory>(
    image: &Image<'_, M>,
    inode: &Inode,
    stable: bool,
    errors: &mut Vec<Error>,
) {
    read_xattrs(image, inode, stable, errors);
    match inode.content {
        Content::Symlink { target, length } => {
            let mut buffer = vec![0; length.into()];
            errors.extend(image.symlink(target, &mut buffer).err());
        }
        Content::Regular { data } if inode.size > 0 => {
            // The image must extend to the end of the last block.
            let block = u64::from(image.superblock().block_size);
            let end = (data + inode.size).next_multiple_of(block);
            assert!((data % block == 0 || inode.packed) && end <= image.memory().size());
            if inode.original != 0 {
                match image.inode(inode.original) {
                    Ok(original) => {
                        let superblock = image.superblock();
                        errors.extend(inode.check_original(superblock, &original).err());
                    }
                    Err(error) => errors.push(error),
                }
            }
        }
        Content::Directory(directory) => {
            let mut entries = image.entries(&directory, 0);
            let mut listed = Vec::new();
            let mut starts = vec![directory.entries, u32::MAX];
            for position in 0..directory.entries.min(ENTRIES) {
                let next = entries.next().unwrap();
                listed.push(owned(next));
                let entry = match next {
                    Ok((entry, name)) => {
                        errors.extend(image.lookup(&directory, name).err());
                        entry
                    }
                    Err(error) => {
                        errors.push(error);
                        continue;
                    }
                };
                assert_eq!(entry.position, position);
                match image.inode(entry.ino) {
                    Ok(child) => {
                        // A listing may resume at the position where it ended.
                        starts.extend(child.directory().map(|inner| inner.position));
                        errors.extend(image.entry_inode(&directory, &entry).err());
                    }
                    Err(error) => errors.push(error),
                }
            }
            errors.extend(image.lookup(&directory, b"missing").err());
            errors.extend(image.lookup(&directory, &[0xff; 255]).err());
            starts.truncate(STARTS);
            starts.extend(0..directory.entries.min(STARTS as u32));
            for start in starts {
                list_from(image, &directory, start, &listed, stable);
            }
        }
        _ => (),
    }
}

type Listed = Result<(Dirent, Vec<u8>)>;

fn owned(entry: Result<(Dirent, &[u8])>) -> Listed {
    entry.map(|(entry, name)| (entry, name.to_vec()))
}

/// Lists `directory` from entry `start` in both ways. The result must be the rest of `listed`, the
/// whole list.
fn list_from<M: Memory>(
    image: &Image<'_, M>,
    directory: &Directory,
    start: u32,
    listed: &[Listed],
    stable: bool,
) {
    let mut entries = image.entries(directory, start);
    let rest = listed.get(start as usize..).unwrap_or_default();
    for expected in rest.iter().take(STARTS) {
        let found = owned(entries.next().unwrap());
        assert!(
            !stable || found == *expected,
            "{found:?} is not {expected:?}"
        );
    }
    if listed.len() == directory.entries as usize && rest.len() <= STARTS {
        assert!(entries.next().is_none());
    }

    let mut passed = Vec::new();
    let result = image.list(directory, start).each(
        |error| error,
        || Ok(()),
        |entry, name| {
            passed.push(owned(Ok((entry, name))));
            Ok(passed.len() < STARTS)
        },
    );
    passed.extend(result.err().map(Err));
    // The list ends with the first error.
    let until = rest.iter().position(|listed| listed.is_err());
    let wanted = until.map_or(rest.len(), |until| until + 1).min(STARTS);
    let complete = listed.len() == directory.entries as usize || rest.len() >= STARTS;
    assert!(
        !stable || !complete || passed[..] == rest[..wanted],
        "{passed:?} is not {rest:?}"
    );
}

/// Lists the attributes of `inode`, reads each name and value, and looks them up by name.
fn read_xattrs<M: Memory>(
    image: &Image<'_, M>,
    inode: &Inode,
    stable: bool,
    errors: &mut Vec<Error>,
) {
    let set = match image.xattr_set(inode.xattrs) {
        Ok(set) => set,
        Err(error) => return errors.push(error),
    };
    let before = errors.len();
    let mut listed: Vec<(Xattr, Vec<u8>)> = Vec::new();
    let mut buffer = [0; XATTR_NAME_MAX];
    let mut count = 0;
    for xattr in set.take(XATTRS) {
        count += 1;
        let read = xattr.and_then(|xattr| {
            let mut value = vec![0; xattr.value_len as usize];
            image.xattr_value(&xattr, &mut value)?;
            let name = image.xattr_name(&xattr, &mut buffer)?;
            Ok((xattr, name.to_vec()))
        });
        match read {
            Ok(read) => listed.push(read),
            Err(error) => errors.push(error),
        }
    }
    let place = |(xattr, name): &(Xattr, Vec<u8>)| (xattr.prefix, name.clone());
    let valid = errors.len() == before && listed.is_sorted_by(|a, b| place(a) < place(b));
    let mut look_up = |prefix, name: &[u8]| {
        let found = image.xattr(inode.xattrs, prefix, name);
        errors.extend(found.err());
        if !stable || count == XATTRS {
            return;
        }
        let expected = listed
            .iter()
            .find(|(xattr, is)| (xattr.prefix, &is[..]) == (prefix, name));
        match found {
            Ok(Some(found)) => assert_eq!(Some(found), expected.map(|(xattr, _)| *xattr)),
            // A misplaced attribute, or one after an invalid one, need not be found.
            found => assert!(!valid || (found == Ok(None) && expected.is_none())),
        }
    };
    for (xattr, name) in listed.iter().take(LOOKUPS) {
        look_up(xattr.prefix, name);
    }
    for prefix in XattrPrefix::ALL {
        look_up(prefix, b"");
        look_up(prefix, b"missing");
    }
}
