// SPDX-License-Identifier: GPL-2.0-only

//! The parts of a container image, in a directory or an archive.

use super::super::blob::{Blob, Raw};
use super::super::member::{components, What};
use super::super::stream::Stream;
use super::super::tar::TarReader;
use crate::input::budget::Budget;
use crate::input::options::Options;
use crate::writer::tree::{Kind, Location};
use daxfs_files::{Error, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Size limit of a description, which is read into memory.
pub const DESCRIPTION: u64 = 16 << 20;

/// The remedy for a missing or damaged blob in containerd, which keeps blobs that images use.
pub const PULL: &str = "remove the container images that have it, and pull them again";

/// The parts of a container image, by name.
pub struct Parts {
    path: PathBuf,
    within: Within,
}

enum Within {
    Directory,
    /// The directory of containerd's content store.
    Content,
    Archive {
        whole: Blob,
        /// Offset and size of each member.
        members: HashMap<Vec<u8>, (u64, u64)>,
    },
}

impl Parts {
    /// Returns the parts in containerd's content store, the directory `path`.
    pub fn of_content(path: &Path) -> Self {
        Parts {
            path: path.into(),
            within: Within::Content,
        }
    }

    /// Opens the directory or archive `path`.
    pub fn open(path: &Path, options: &Options<'_>) -> Result<Self> {
        if path.is_dir() {
            return Ok(Parts {
                path: path.into(),
                within: Within::Directory,
            });
        }
        let raw = Raw::open(path)?;
        let path = raw.path().to_path_buf();
        options.progress.step("reading", raw.size());
        let budget = Budget::default();
        let stream = Stream::new(&raw, options)?;
        let mut reader = TarReader::new(stream, &budget);
        reader.ignore_zeros = options.ignore_zeros;
        let members = list(&mut reader, &budget)?;
        if members.is_empty() {
            reader.check_empty(true)?;
        }
        let (container, warnings) = reader.finish()?;
        warnings.into_iter().for_each(options.warn);
        let public = matches!(&raw, Raw::Blob(blob) if blob.public);
        let whole = Blob {
            file: container.file,
            path: path.clone(),
            start: 0,
            end: u64::MAX,
            public,
        };
        Ok(Parts {
            path,
            within: Within::Archive { whole, members },
        })
    }

    /// Returns the name for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the remedy for a damaged blob.
    pub fn remedy(&self) -> &'static str {
        match self.within {
            // Programs that write layouts do not replace existing files.
            Within::Directory => "remove this file, and copy the image to the layout again",
            Within::Content => PULL,
            Within::Archive { .. } => "get the archive again",
        }
    }

    /// Returns true if the part `name` exists.
    pub fn has(&self, name: &str) -> bool {
        match &self.within {
            Within::Directory | Within::Content => self.path.join(name).exists(),
            Within::Archive { members, .. } => members.contains_key(name.as_bytes()),
        }
    }

    /// Returns the part `name`, which must not contain components such as `..`.
    pub fn get(&self, name: &str) -> Result<Blob> {
        let missing = || {
            let incomplete = "it is not a complete OCI image layout.";
            let why = match self.within {
                Within::Content => PULL.to_owned(),
                Within::Directory if name.starts_with("blobs/") => {
                    format!("{incomplete} Copy the image to it again")
                }
                _ => format!("{incomplete} skopeo copy makes one, also of docker-archive:FILE"),
            };
            let why = format!("has no '{name}'; {why}");
            Error::refused(&self.path, why)
        };
        if components(name.as_bytes()).is_err() {
            return Err(missing());
        }
        match &self.within {
            Within::Directory | Within::Content => {
                if !self.has(name) {
                    return Err(missing());
                }
                Blob::open(&self.path.join(name))
            }
            Within::Archive { whole, members } => {
                let &(offset, size) = members.get(name.as_bytes()).ok_or_else(missing)?;
                let mut path = self.path.clone().into_os_string();
                path.push(":");
                path.push(name);
                whole.part(offset, size, path.into())
            }
        }
    }

    /// Returns the content of the part `name`, a description in JSON.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        read(&self.get(name)?)
    }
}

/// Returns the parts in an archive.
fn list(reader: &mut TarReader<'_>, budget: &Budget) -> Result<HashMap<Vec<u8>, (u64, u64)>> {
    let (mut members, mut links) = (HashMap::new(), Vec::new());
    while let Some(member) = reader.next()? {
        let at = member.at;
        let fail = |why| reader.error(at, why);
        let name = components(&member.path).map_err(fail)?.join(&b'/');
        match member.what {
            What::File(Kind::Regular {
                size,
                location: Location::Part(offset),
            }) => {
                budget.take(1, name.len() as u64).map_err(fail)?;
                members.insert(name, (offset, size));
            }
            What::HardLink(target, _) => {
                let target = components(&target).map_err(fail)?.join(&b'/');
                let bytes = name.len() + target.len();
                budget.take(1, bytes as u64).map_err(fail)?;
                links.push((name, target));
            }
            What::File(_) => (),
        }
    }
    for (name, target) in links {
        if let Some(&part) = members.get(&target) {
            members.insert(name, part);
        }
    }
    Ok(members)
}

/// Returns the content of a description.
pub fn read(blob: &Blob) -> Result<Vec<u8>> {
    if blob.size() > DESCRIPTION {
        let why = format!(
            "has {} bytes, more than a description may have",
            blob.size()
        );
        return Err(Error::refused(&blob.path, why));
    }
    let mut bytes = vec![0; blob.size() as usize];
    let length = blob.read_at(&mut bytes, 0)?;
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::list;
    use crate::input::budget::tests::{member, reading, refused};
    use crate::input::budget::Budget;

    /// An image's parts count like an archive's files.
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
}
