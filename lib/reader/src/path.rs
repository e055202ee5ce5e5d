// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Resolution of paths.

use crate::image::{Directory, Error, Image, Inode, Memory, Result};
use std::fmt;

/// Maximum number of symlinks on a path, as in Linux.
const SYMLINKS: u32 = 40;

/// Why [`Image::find`] found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindError {
    /// No file has this path.
    NotFound,
    /// A component on the way is not a directory.
    NotDirectory,
    /// The path ends with a slash, but does not lead to a directory.
    TrailingSlash,
    /// The path leads through too many symlinks.
    Loop,
    /// The image is damaged or cannot be read.
    Image(Error),
}

impl fmt::Display for FindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FindError::NotFound => "no such file in the image",
            FindError::NotDirectory => "not a directory on the way",
            FindError::TrailingSlash => "not a directory",
            FindError::Loop => "too many symbolic links",
            FindError::Image(error) => return error.fmt(f),
        })
    }
}

impl core::error::Error for FindError {}

impl From<Error> for FindError {
    fn from(error: Error) -> Self {
        FindError::Image(error)
    }
}

impl<M: Memory> Image<'_, M> {
    /// Returns the inode at `path` as a process with the image's root sees it: follows `.`, `..`
    /// and symlinks on the way, and a symlink at the end if `follow`.
    ///
    /// ```
    /// use daxfs_reader::{FileType, FindError, Image, Superblock};
    ///
    /// let bytes = std::fs::read("tests/small.daxfs")?;
    /// let memory = bytes.as_slice();
    /// let superblock = Superblock::load(&memory)?;
    /// let image = Image::new(&memory, &superblock);
    ///
    /// assert_eq!(image.find(b"/link", false)?.file_type, FileType::Symlink);
    /// assert_eq!(image.find(b"/link", true)?, image.find(b"/hello", true)?);
    /// assert_eq!(image.find(b"/none", true), Err(FindError::NotFound));
    /// assert_eq!(image.find(b"", true), Err(FindError::NotFound));
    /// assert_eq!(image.find(b"/link/.", false), Err(FindError::NotDirectory));
    /// assert_eq!(image.find(b"/./", true)?, image.root()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A [`FindError`].
    pub fn find(&self, path: &[u8], follow: bool) -> core::result::Result<Inode, FindError> {
        if path.is_empty() {
            return Err(FindError::NotFound);
        }
        let mut above: Vec<Inode> = Vec::new();
        let mut at = self.root()?;
        // The remaining components, the next one last.
        let mut left: Vec<Vec<u8>> = components(path);
        let must_be_directory = path.ends_with(b"/");
        let mut symlinks = 0;
        while let Some(name) = left.pop() {
            let directory = at.directory().ok_or(FindError::NotDirectory)?;
            if name == b"." {
                continue;
            }
            if name == b".." {
                at = above.pop().unwrap_or(at);
                continue;
            }
            let inode = self.child(&directory, &name)?.ok_or(FindError::NotFound)?;
            let followed = follow || !left.is_empty() || must_be_directory;
            let target = if followed { self.target(&inode)? } else { None };
            let Some(target) = target else {
                above.push(at);
                at = inode;
                continue;
            };
            symlinks += 1;
            if symlinks > SYMLINKS {
                return Err(FindError::Loop);
            }
            if target.starts_with(b"/") {
                if let Some(root) = above.first() {
                    at = *root;
                }
                above.clear();
            }
            if target.ends_with(b"/") {
                // Such a symlink must lead to a directory.
                left.push(b".".to_vec());
            }
            left.extend(components(&target));
        }
        if must_be_directory && at.directory().is_none() {
            return Err(FindError::TrailingSlash);
        }
        Ok(at)
    }

    /// Returns the inode of `name`, which must not be empty, in `directory`.
    ///
    /// # Errors
    ///
    /// The problem of the entry or of its inode.
    pub fn child(&self, directory: &Directory, name: &[u8]) -> Result<Option<Inode>> {
        let Some(entry) = self.lookup(directory, name)? else {
            return Ok(None);
        };
        self.entry_inode(directory, &entry).map(Some)
    }
}

/// Splits `path` into its non-empty components, the first one last.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty())
        .map(Vec::from)
        .rev()
        .collect()
}
