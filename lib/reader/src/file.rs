// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The content, the target and the extended attributes of a file.

use crate::image::layout::XattrPrefix;
use crate::image::{
    Content, Directory, Dirent, Error, Image, Inode, Memory, Problem, Result, Xattr, XATTR_NAME_MAX,
};

/// A copy of an extended attribute, which compares in the order of the image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnedXattr {
    /// Start of the name.
    pub prefix: XattrPrefix,
    /// The rest of the name.
    pub name: Box<[u8]>,
    /// The value.
    pub value: Box<[u8]>,
}

impl OwnedXattr {
    /// Returns the whole name.
    pub fn whole_name(&self) -> Vec<u8> {
        [self.prefix.text().as_bytes(), &self.name].concat()
    }
}

impl<M: Memory> Image<'_, M> {
    /// Returns the inode of `entry` in `directory`, after [`Image::check_entry`]. A walk that gets
    /// all inodes from here visits each directory at most once.
    ///
    /// # Errors
    ///
    /// The problem of the entry or of its inode.
    pub fn entry_inode(&self, directory: &Directory, entry: &Dirent) -> Result<Inode> {
        let inode = self.inode(entry.ino)?;
        let inner = inode.directory();
        self.check_entry(directory, entry, inode.file_type, inner.as_ref())?;
        Ok(inode)
    }

    /// Reads content of the regular file `inode` at `offset`. Returns the number of bytes: less
    /// than `into.len()` at the end of the file, 0 for other files.
    ///
    /// # Errors
    ///
    /// [`Problem::NoPack`] if the data is in a pack, see [`Self::source`]; [`Problem::Unreadable`].
    pub fn read(&self, inode: &Inode, offset: u64, into: &mut [u8]) -> Result<usize> {
        let left = inode.size.saturating_sub(offset).min(into.len() as u64) as usize;
        match inode.data(self.superblock())? {
            Some(data) if left > 0 => self.memory().read(data + offset, &mut into[..left])?,
            Some(_) => (),
            None => return Ok(0),
        }
        Ok(left)
    }

    /// Returns the image with the data of the regular file `inode`, this image or one of its packs,
    /// and the inode there. `pack` returns a pack by its index, counted from 0.
    ///
    /// # Errors
    ///
    /// In this image: [`Problem::NoPack`] if `pack` returns none, [`Problem::Original`] if the pack
    /// lacks the file. In the pack: [`Problem::Unreadable`].
    pub fn source(
        &self,
        inode: &Inode,
        pack: impl FnOnce(u32) -> Option<Self>,
    ) -> Result<(Self, Inode)> {
        let Content::InPack {
            pack: index,
            original,
        } = inode.content
        else {
            let image = Image::new(self.memory(), self.superblock());
            return Ok((image, *inode));
        };
        let pack = pack(index).ok_or_else(|| inode.no_pack(self.superblock(), index))?;
        let original = pack.inode(original).map_err(|error| match error.problem {
            Problem::Unreadable => error,
            _ => inode.unsuitable_original(self.superblock()),
        })?;
        inode.check_in_pack(self.superblock(), &original)?;
        Ok((pack, original))
    }

    /// Returns the target of the symlink `inode`, `None` for other files.
    ///
    /// # Errors
    ///
    /// [`Problem::Symlink`] or [`Problem::Unreadable`].
    pub fn target(&self, inode: &Inode) -> Result<Option<Vec<u8>>> {
        let Content::Symlink { target, length } = inode.content else {
            return Ok(None);
        };
        let mut text = vec![0; length.into()];
        self.symlink(target, &mut text)?;
        Ok(Some(text))
    }

    /// Returns the extended attributes of `inode`, in the order of the image.
    ///
    /// # Errors
    ///
    /// [`Problem::Xattr`], including wrong order and duplicate names; [`Problem::Unreadable`].
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<OwnedXattr>> {
        let mut all = Vec::new();
        self.each_xattr(inode, |xattr, name| {
            let mut value = vec![0; xattr.value_len as usize].into_boxed_slice();
            self.xattr_value(xattr, &mut value)?;
            all.push(OwnedXattr {
                prefix: xattr.prefix,
                name: name.into(),
                value,
            });
            Ok(())
        })?;
        Ok(all)
    }

    /// Returns the whole names of the extended attributes of `inode` with `visible` prefixes, each
    /// terminated by NUL, as listxattr(2) does. Does not read values.
    ///
    /// # Errors
    ///
    /// Those of [`Self::xattrs`] that concern names.
    pub fn xattr_names(
        &self,
        inode: &Inode,
        visible: impl Fn(XattrPrefix) -> bool,
    ) -> Result<Vec<u8>> {
        let mut names = Vec::new();
        self.each_xattr(inode, |xattr, name| {
            if visible(xattr.prefix) {
                names.extend_from_slice(xattr.prefix.text().as_bytes());
                names.extend_from_slice(name);
                names.push(0);
            }
            Ok(())
        })?;
        Ok(names)
    }

    /// Passes each extended attribute of `inode`, and the rest of its name, to `take`.
    fn each_xattr(
        &self,
        inode: &Inode,
        mut take: impl FnMut(&Xattr, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut last: Option<(XattrPrefix, Vec<u8>)> = None;
        let mut buffer = [0; XATTR_NAME_MAX];
        for xattr in self.xattr_set(inode.xattrs)? {
            let xattr = xattr?;
            let name = self.xattr_name(&xattr, &mut buffer)?;
            let is_first =
                |(prefix, last): &(_, Vec<u8>)| (*prefix, &last[..]) < (xattr.prefix, name);
            if !last.as_ref().is_none_or(is_first) {
                let length = xattr.name_len.into();
                return Err(Error::new(Problem::Xattr, xattr.name, length));
            }
            take(&xattr, name)?;
            last = Some((xattr.prefix, name.to_vec()));
        }
        Ok(())
    }

    /// Returns the value of the extended attribute of `inode` with this whole `name`.
    ///
    /// # Errors
    ///
    /// [`Problem::Xattr`] or [`Problem::Unreadable`].
    pub fn xattr_named(&self, inode: &Inode, name: &[u8]) -> Result<Option<Vec<u8>>> {
        for prefix in XattrPrefix::ALL {
            let Some(rest) = name.strip_prefix(prefix.text().as_bytes()) else {
                continue;
            };
            if let Some(xattr) = self.xattr(inode.xattrs, prefix, rest)? {
                let mut value = vec![0; xattr.value_len as usize];
                self.xattr_value(&xattr, &mut value)?;
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}
