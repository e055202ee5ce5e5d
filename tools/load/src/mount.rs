// SPDX-License-Identifier: GPL-2.0-only

//! Mounts image files, devices, and memory behind file descriptors.

use crate::buffer::{Buffer, Kind};
use crate::catalog::Chosen;
use crate::context::{explain, said};
use crate::file::ImageFile;
pub use crate::options::{is_for_kernel, MountOptions};
use crate::packs::{forget, give, Loaded, Packs, Room};
use daxfs_image::error::{Error, Result};
use daxfs_image::text::shown_path;
use rustix::fs::{fstat, fstatfs, open, FileType, Mode, OFlags, CWD};
use rustix::io::Errno;
use rustix::mount::{
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    move_mount, FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags,
};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest string that fsconfig(2) accepts, in bytes.
const STRING_MAX: usize = 255;

/// Returns an image file's name for the kernel, which only shows it. Cuts the start of a long one.
pub fn shortened(source: &Path) -> Cow<'_, [u8]> {
    let name = source.as_os_str().as_bytes();
    match name.len().checked_sub(STRING_MAX) {
        None | Some(0) => name.into(),
        Some(more) => [b"...", &name[more + 3..]].concat().into(),
    }
}

/// Returns a device's name for the kernel, which looks it up.
fn device_name(device: &Path) -> Result<&[u8]> {
    let name = device.as_os_str().as_bytes();
    let why = "the name has more than 255 bytes, which mounting does not take; use a shorter path";
    let refuse = || Error::refused(shown_path(device), why);
    (name.len() <= STRING_MAX)
        .then_some(name)
        .ok_or_else(refuse)
}

/// Begins a mount, if the kernel has daxfs and this process may mount. The mount shows `name` as
/// its source.
fn begin(name: &[u8]) -> Result<OwnedFd> {
    let fs = fsopen("daxfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| {
        let remedy = match error {
            Errno::NODEV => {
                "; load the module (modprobe daxfs), or use daxfs fuse, which needs none"
            }
            Errno::PERM => {
                "; daxfs fuse works now; root can allow mounts in user namespaces (unshare -rm): \
                 echo BYTES >/sys/module/daxfs/parameters/user_memory"
            }
            Errno::MFILE => "; raise the limit of open files (ulimit -Hn, LimitNOFILE=)",
            _ => "",
        };
        Error::system("", "cannot mount daxfs", remedy, error)
    })?;
    fsconfig_set_string(fs.as_fd(), "source", OsStr::from_bytes(name))
        .map_err(|error| explain(&fs, "cannot set the source", error))?;
    Ok(fs)
}

/// Checks that `dir` can be a mount point, without waiting for a systemd mount that may wait for
/// us.
pub fn examine(dir: &Path) -> Result<()> {
    let fail = |error| refuse(dir, error);
    let opened = open(dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let status = fstat(&opened).map_err(fail)?;
    // A FUSE server may be dead, which cached attributes do not show.
    fstatfs(&opened).map_err(fail)?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => Ok(()),
        _ => Err(refuse(dir, Errno::NOTDIR)),
    }
}

/// Returns the error for a directory that cannot be a mount point.
fn refuse(dir: &Path, error: Errno) -> Error {
    let remedy = match error {
        Errno::NOENT => "; make the directory first",
        Errno::NOTDIR => "; name a directory",
        Errno::NOTCONN => "; a FUSE server that was mounted there has ended: unmount it first",
        _ => "",
    };
    Error::system(shown_path(dir), "cannot mount there", remedy, error)
}

/// Passes `options` to the mount context `fs`.
pub fn set(fs: &OwnedFd, options: &[(String, Option<String>)]) -> Result<()> {
    for (name, value) in options {
        let done = match value {
            Some(value) => fsconfig_set_string(fs.as_fd(), name, value),
            None => fsconfig_set_flag(fs.as_fd(), name),
        };
        done.map_err(|error| explain(fs, format!("cannot set option {name}"), error))?;
    }
    Ok(())
}

/// Mounts the filesystem that `fs` describes on `dir`, after calling `check`.
pub fn mount_on(
    fs: &OwnedFd,
    dir: &Path,
    attributes: MountAttrFlags,
    check: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
) -> Result<()> {
    let mount = make(fs, attributes, check)?;
    said(fs);
    place(mount.as_fd(), dir)
}

/// Creates the mount that `fs` describes, and calls `check` on it.
fn make(
    fs: &OwnedFd,
    attributes: MountAttrFlags,
    check: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
) -> Result<OwnedFd> {
    let fail = |error| explain(fs, "cannot mount the image", error);
    fsconfig_create(fs.as_fd()).map_err(fail)?;
    let mount = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(fail)?;
    check(mount.as_fd())?;
    Ok(mount)
}

/// Attaches `mount`, which is not attached yet, to `dir`.
pub fn place(mount: BorrowedFd<'_>, dir: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    let moved = move_mount(mount, "", CWD, dir, flags);
    moved.map_err(|error| refuse(dir, error))
}

/// An image file to load and mount.
pub struct Loading<'a> {
    /// The image file.
    pub image: &'a Path,
    /// The source that the mount shows.
    pub source: &'a Path,
    /// The kind of memory.
    pub kind: Kind,
    /// Mount options, such as `nosuid` and `check=none`; `pack=` names files and devices with
    /// packs.
    pub words: &'a [String],
    /// Called before anything is loaded.
    pub room: Room<'a>,
    /// Whether to load no packs.
    pub on_demand: bool,
}

impl Loading<'_> {
    /// Loads the image and those of its packs that are not in memory, and creates a mount without
    /// attaching it. Also returns the memory, which the mount itself keeps alive.
    ///
    /// An image in a store uses the store's packs, and shares them with the other images.
    pub fn make(&self) -> Result<(OwnedFd, Buffer, Loaded)> {
        let mut options = MountOptions::parse(self.words);
        let image = ImageFile::open(self.image)?;
        let packs = Packs::of_file(&image, &options.packs)?;
        let domain = packs.domain()?;
        let is_stored = domain.is_some();
        if let Some(domain) = domain.filter(|_| !options.has("domain")) {
            options
                .filesystem
                .insert(0, ("domain".into(), Some(domain)));
        }
        let fs = begin(&shortened(self.source))?;
        set(&fs, &options.filesystem)?;
        let (shared, others) = if self.on_demand {
            (0, Vec::new())
        } else {
            packs.choose(&fs, options.has("domain"))?
        };
        let sizes = others.iter().filter(|file| file.device().is_none());
        let sizes = sizes.map(|file| Kind::Memfd.size_of(file.size));
        (self.room)(self.kind.size_of(image.size) + sizes.sum::<u64>())?;
        let mut loaded = Loaded {
            shared,
            ..Loaded::default()
        };
        give(&fs, &others, &mut loaded)?;
        let buffer = self.kind.make(&image)?;
        loaded.count(&image);
        if is_stored {
            forget(self.image);
        }
        fsconfig_set_fd(fs.as_fd(), buffer.option, buffer.fd.as_fd())
            .map_err(|error| explain(&fs, "cannot hand over the memory", error))?;
        set(&fs, &options.generic)?;
        let mount = make(&fs, options.attributes, |_| Ok(()))?;
        // The kernel warns about missing packs.
        if !self.on_demand {
            said(&fs);
        }
        Ok((mount, buffer, loaded))
    }
}

/// Loads the image file `image` into memory of this kind, and mounts it on `dir` with the options
/// `words`, see [`Loading`].
pub fn load_on(image: &Path, dir: &Path, kind: Kind, words: &[String]) -> Result<()> {
    // Report problems of the mount point before copying the image.
    examine(dir)?;
    let source = image;
    let room: Room<'_> = &|_| Ok(());
    let loading = Loading {
        image,
        source,
        kind,
        words,
        room,
        on_demand: false,
    };
    place(loading.make()?.0.as_fd(), dir)
}

/// Mounts an image on `device` on `dir`, with its `packs`: the one in the options `words`, or the
/// one `chosen` from the device's store.
///
/// Fails if the device's name is too long for the kernel.
pub fn mount_on_device(
    device: &Path,
    chosen: Option<Chosen>,
    packs: &Packs,
    dir: &Path,
    words: &[String],
) -> Result<()> {
    examine(dir)?;
    let options = MountOptions::parse(words);
    let fs = begin(device_name(device)?)?;
    set(&fs, &options.filesystem)?;
    let (_, others) = packs.choose(&fs, options.has("domain"))?;
    give(&fs, &others, &mut Loaded::default())?;
    set(&fs, &options.generic)?;
    mount_on(&fs, dir, options.attributes, |mount| match chosen {
        Some(mut chosen) => chosen.check(mount),
        None => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sources() {
        let name = |length| "n".repeat(length);
        let shown = |length| {
            let name = name(length);
            String::from_utf8(shortened(Path::new(&name)).into_owned()).unwrap()
        };
        assert_eq!(shown(255), name(255));
        assert_eq!(shown(256), format!("...{}", name(252)));
        assert!(device_name(Path::new(&name(255))).is_ok());
        let error = device_name(Path::new(&name(256))).map(drop).unwrap_err();
        assert!(error.to_string().contains("255 bytes"), "{error}");
    }
}
