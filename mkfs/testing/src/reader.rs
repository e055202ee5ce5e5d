// SPDX-License-Identifier: GPL-2.0-only

//! Does everything to an image that the reader can do, in the order of a mount and a walk.

use daxfs_reader::{Content, Error, Image, Inode, Memory, Superblock};

/// More entries than this of one directory are not looked at.
const ENTRIES: u32 = 2000;

/// Every error that the reader finds, its own metadata checksum not among them.
pub fn read_everything<M: Memory>(memory: &M) -> Vec<Error> {
    let mut errors = Vec::new();
    let superblock = match Superblock::load(memory) {
        Ok(superblock) => superblock,
        Err(error) => return vec![error],
    };
    let image = Image::new(memory, &superblock);
    errors.extend(image.root().err());
    let count = superblock.inode_count().min(100_000) as u32;
    for ino in 1..=count {
        match image.inode(ino) {
            Ok(inode) => read_inode(&image, &inode, &mut errors),
            Err(error) => errors.push(error),
        }
    }
    errors
}

fn read_inode<M: Memory>(image: &Image<'_, M>, inode: &Inode, errors: &mut Vec<Error>) {
    match image.xattrs(inode) {
        Ok(xattrs) => {
            for xattr in xattrs.take(1000) {
                errors.extend(xattr.err());
            }
        }
        Err(error) => errors.push(error),
    }
    match inode.content {
        Content::Symlink { target, length } => {
            let mut buffer = vec![0; length.into()];
            errors.extend(image.symlink(target, &mut buffer).err());
        }
        Content::Regular { data } if inode.size > 0 => {
            // The image must reach to the end of the last block.
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
            let mut entries = image.list(&directory, 0);
            for position in 0..directory.entries.min(ENTRIES) {
                let entry = match entries.next().unwrap() {
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
                        let inner = match &child.content {
                            Content::Directory(inner) => Some(inner),
                            _ => None,
                        };
                        let file_type = child.file_type;
                        errors.extend(
                            image
                                .check_entry(&directory, &entry, file_type, inner)
                                .err(),
                        );
                    }
                    Err(error) => errors.push(error),
                }
            }
            errors.extend(image.lookup(&directory, b"missing").err());
            errors.extend(image.lookup(&directory, &[0xff; 255]).err());
        }
        _ => (),
    }
}
