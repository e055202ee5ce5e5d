// SPDX-License-Identifier: GPL-2.0-only

//! The parts of a container image, in a directory or in an archive.

use super::super::blob::{Blob, Raw};
use super::super::member::{components, What};
use super::super::stream::Stream;
use super::super::tar::Reader;
use crate::budget::Budget;
use daxfs_check::Progress;
use daxfs_writer::tree::{Kind, Place};
use daxfs_writer::{Error, Result};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Size limit of a description, which is read into memory.
pub const DESCRIPTION: u64 = 16 << 20;

/// Limit of symlinks from part to part.
const LINKS: usize = 40;

/// The parts of a container image, by name.
pub struct Store {
    path: PathBuf,
    parts: Parts,
}

enum Parts {
    Directory,
    Archive {
        /// The archive.
        whole: Blob,
        members: HashMap<Vec<u8>, Part>,
    },
}

enum Part {
    /// Offset and size.
    File(u64, u64),
    /// A link to this part.
    Alias(Vec<u8>),
}

impl Store {
    /// Open the directory or archive `path`.
    pub fn open(path: &Path, scratch: &Path, progress: &dyn Progress) -> Result<Self> {
        if path.is_dir() {
            return Ok(Store {
                path: path.into(),
                parts: Parts::Directory,
            });
        }
        let raw = Raw::open(path)?;
        let path = raw.path().to_path_buf();
        progress.step("reading", raw.size());
        let budget = Budget::default();
        let mut reader = Reader::new(Stream::new(&raw, scratch, progress)?, &budget);
        let members = list(&mut reader, &budget)?;
        let (container, _) = reader.finish()?;
        let public = matches!(&raw, Raw::Blob(blob) if blob.public);
        let whole = Blob {
            file: container.file,
            path: path.clone(),
            start: 0,
            end: u64::MAX,
            public,
        };
        Ok(Store {
            path,
            parts: Parts::Archive { whole, members },
        })
    }

    /// Return its name in messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Return true if there is a part called `name`.
    pub fn has(&self, name: &str) -> bool {
        match &self.parts {
            Parts::Directory => self.path.join(name).is_file(),
            Parts::Archive { members, .. } => members.contains_key(name.as_bytes()),
        }
    }

    /// Return the part `name`, which must not contain components such as `..`.
    pub fn get(&self, name: &str) -> Result<Blob> {
        let missing = || {
            let why = format!(
                "has no '{}'; it is not a complete container image",
                name.escape_debug()
            );
            Error::refused(&self.path, why)
        };
        if components(name.as_bytes()).is_err() {
            return Err(missing());
        }
        match &self.parts {
            Parts::Directory => {
                let path = self.path.join(name);
                if !path.exists() {
                    return Err(missing());
                }
                Blob::open(&path)
            }
            Parts::Archive { whole, members } => {
                let mut at = name.as_bytes();
                for _ in 0..LINKS {
                    match members.get(at).ok_or_else(missing)? {
                        Part::Alias(other) => at = other,
                        Part::File(offset, size) => {
                            let mut path = self.path.clone().into_os_string();
                            path.push(":");
                            path.push(OsStr::from_bytes(name.as_bytes()));
                            return whole.part(*offset, *size, path.into());
                        }
                    }
                }
                Err(missing())
            }
        }
    }

    /// Return the content of the part called `name`, a description in JSON.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        read(&self.get(name)?)
    }
}

/// Return the parts in an archive.
fn list(reader: &mut Reader<'_>, budget: &Budget) -> Result<HashMap<Vec<u8>, Part>> {
    let mut members = HashMap::new();
    while let Some(member) = reader.next()? {
        let at = member.at;
        let name = |path: &[u8]| -> Result<Vec<u8>> {
            Ok(components(path)
                .map_err(|why| reader.error(at, why))?
                .join(&b'/'))
        };
        let part = match member.what {
            What::File(Kind::Regular {
                size,
                place: Place::Part(offset),
            }) => Part::File(offset, size),
            What::HardLink(target) => Part::Alias(name(&target)?),
            // Older archives have one file for identical layers.
            What::File(Kind::Symlink(target)) => Part::Alias(beside(&name(&member.path)?, &target)),
            _ => continue,
        };
        let name = name(&member.path)?;
        let target = match &part {
            Part::Alias(target) => target.len(),
            Part::File(..) => 0,
        };
        let bytes = (name.len() + target) as u64;
        budget.take(1, bytes).map_err(|why| reader.error(at, why))?;
        members.insert(name, part);
    }
    Ok(members)
}

/// Return the content of a description.
pub fn read(blob: &Blob) -> Result<Vec<u8>> {
    if blob.size() > DESCRIPTION {
        let why = format!("has {} bytes, too many for a description", blob.size());
        return Err(Error::refused(&blob.path, why));
    }
    let mut bytes = vec![0; blob.size() as usize];
    let length = blob.read_at(&mut bytes, 0)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Return the name of the target of the symlink `name`.
fn beside(name: &[u8], target: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = name.split(|&byte| byte == b'/').collect();
    names.pop();
    for component in target.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => (),
            b".." => drop(names.pop()),
            component => names.push(component),
        }
    }
    names.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::list;
    use crate::budget::tests::{member, reading, refused};
    use crate::budget::Budget;

    /// The parts of an image count as the files of an archive do.
    #[test]
    fn parts() {
        let names: Vec<String> = (0..8)
            .map(|n| format!("blobs/{n}/{}", "x".repeat(80)))
            .collect();
        let archive: Vec<u8> = names
            .iter()
            .flat_map(|name| member(b'0', name, b""))
            .collect();
        let listed = |members, bytes| {
            let budget = Budget::new(members, bytes);
            reading(&archive, &budget, &mut |reader| {
                list(reader, &budget).map(drop)
            })
        };
        listed(8, 1000).unwrap();
        refused(listed(7, 1000), "members and directories", 7 * 512);
        refused(listed(8, 500), "MiB of names", 5 * 512);
    }

    #[test]
    fn symlinks() {
        assert_eq!(
            super::beside(b"a/layer.tar", b"../b/layer.tar"),
            b"b/layer.tar"
        );
        assert_eq!(super::beside(b"layer.tar", b"../../x"), b"x");
    }
}
