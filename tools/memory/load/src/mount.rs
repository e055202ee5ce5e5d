// SPDX-License-Identifier: GPL-2.0-only

//! Mount image files, devices, and memory that is named by a file descriptor.

use crate::buffer::{Buffer, Kind};
use crate::catalog::Chosen;
use crate::context::explain;
use crate::file::ImageFile;
use daxfs_image::error::{Error, Result};
use daxfs_image::text::shown_path;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    move_mount, FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags,
};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Mount options, separated by their destination.
#[derive(Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// For the mount itself.
    pub attributes: MountAttrFlags,
    /// For the filesystem: names and values.
    pub filesystem: Vec<(String, Option<String>)>,
}

impl MountOptions {
    /// Sort `words`, such as `nosuid` and `check=none`.
    pub fn parse(words: &[String]) -> Self {
        let mut options = MountOptions {
            attributes: MountAttrFlags::empty(),
            filesystem: Vec::new(),
        };
        for word in words {
            let flag = match word.as_str() {
                // MountOptions for mount(8) itself, and defaults.
                "" | "ro" | "rw" | "defaults" | "auto" | "noauto" | "user" | "users" | "nofail"
                | "_netdev" | "suid" | "dev" | "exec" | "relatime" | "loop" => continue,
                "nosuid" => MountAttrFlags::MOUNT_ATTR_NOSUID,
                "nodev" => MountAttrFlags::MOUNT_ATTR_NODEV,
                "noexec" => MountAttrFlags::MOUNT_ATTR_NOEXEC,
                "noatime" => MountAttrFlags::MOUNT_ATTR_NOATIME,
                "nosymfollow" => MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW,
                _ => {
                    let (name, value) = match word.split_once('=') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (word.as_str(), None),
                    };
                    options.filesystem.push((name.to_owned(), value));
                    continue;
                }
            };
            options.attributes |= flag;
        }
        options
    }
}

/// The memory to mount.
pub enum Memory<'a> {
    /// A copy of the source.
    Buffer(&'a Buffer),
    /// The source, which is a device.
    Device,
    /// An image of a catalogue, whose place the options name.
    Part(Chosen),
}

/// Bytes of a string that fsconfig(2) takes.
const STRING_MAX: usize = 255;

/// Return the name of `source` for the kernel, which only shows an image file's. So omit the start
/// of a long one.
fn source_name<'a>(source: &'a Path, memory: &Memory<'_>) -> Result<Cow<'a, [u8]>> {
    let name = source.as_os_str().as_bytes();
    match memory {
        _ if name.len() <= STRING_MAX => Ok(name.into()),
        Memory::Buffer(_) => {
            let end = &name[name.len() - (STRING_MAX - 3)..];
            Ok([b"...", end].concat().into())
        }
        _ => Err(Error::refused(
            shown_path(source),
            "the name has more than 255 bytes, which mounting does not take; use a shorter path",
        )),
    }
}

/// A place to mount an image on, of which is known that it is a directory, that the kernel has daxfs
/// and that this process may mount.
pub struct Target<'a> {
    fs: OwnedFd,
    dir: &'a Path,
}

impl<'a> Target<'a> {
    /// Examine `dir`, and begin a mount.
    pub fn new(dir: &'a Path) -> Result<Self> {
        let status = dir.metadata().map_err(|error| refuse(dir, error))?;
        if !status.is_dir() {
            return Err(refuse(dir, Errno::NOTDIR.into()));
        }
        let fs = fsopen("daxfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| {
            let remedy = match error {
                Errno::NODEV => "; load the module (modprobe daxfs), or use daxfs fuse",
                Errno::PERM => "; only root can, others can use daxfs fuse",
                _ => "",
            };
            Error::system("", "cannot mount daxfs", remedy, error)
        })?;
        Ok(Target { fs, dir })
    }
}

/// Return the error for a directory that nothing can be mounted on.
fn refuse(dir: &Path, error: io::Error) -> Error {
    let remedy = match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => "; make the directory first",
        Some(Errno::NOTDIR) => "; name a directory",
        _ => "",
    };
    Error::system(shown_path(dir), "cannot mount there", remedy, error)
}

/// Mount the image in `memory` on `target`. `source` is the image file or the device.
///
/// Fail if the name of a device is too long for the kernel.
pub fn attach(
    source: &Path,
    memory: Memory<'_>,
    target: Target<'_>,
    options: &MountOptions,
) -> Result<()> {
    let Target { fs, dir } = target;
    let name = source_name(source, &memory)?;
    fsconfig_set_string(fs.as_fd(), "source", OsStr::from_bytes(&name))
        .map_err(|error| explain(&fs, "cannot set the source", error))?;
    if let Memory::Buffer(buffer) = &memory {
        fsconfig_set_fd(fs.as_fd(), buffer.option, buffer.fd.as_fd())
            .map_err(|error| explain(&fs, "cannot hand over the memory", error))?;
    }
    for (name, value) in &options.filesystem {
        match value {
            Some(value) => fsconfig_set_string(fs.as_fd(), name, value),
            None => fsconfig_set_flag(fs.as_fd(), name),
        }
        .map_err(|error| explain(&fs, format!("cannot set option {name}"), error))?;
    }
    place(&fs, dir, options.attributes, |mount| match memory {
        Memory::Part(mut chosen) => chosen.check(mount),
        _ => Ok(()),
    })
}

/// Mount the filesystem that `fs` describes on `dir`, after `check` has seen it.
pub fn place(
    fs: &OwnedFd,
    dir: &Path,
    attributes: MountAttrFlags,
    check: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
) -> Result<()> {
    let fail = |error| explain(fs, "cannot mount the image", error);
    fsconfig_create(fs.as_fd()).map_err(fail)?;
    let mount = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(fail)?;
    check(mount.as_fd())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    let moved = move_mount(mount.as_fd(), "", CWD, dir, flags);
    moved.map_err(|error| refuse(dir, error.into()))
}

/// Load the image file `image` into memory of this kind and mount it on `dir`. `words` are mount
/// options, such as `nosuid` and `check=none`.
pub fn load(image: &Path, dir: &Path, kind: Kind, words: &[String]) -> Result<()> {
    let options = MountOptions::parse(words);
    let image = ImageFile::open(image)?;
    // Report problems of the mount point before copying the image.
    let target = Target::new(dir)?;
    let buffer = kind.make(&image)?;
    attach(&image.path, Memory::Buffer(&buffer), target, &options)
}

/// Mount the image on `device`, or the one of its catalogue that `words` name, on `dir`.
pub fn mount(device: &Path, dir: &Path, words: &[String]) -> Result<()> {
    let mut words = words.to_vec();
    let memory = Chosen::find(device, &mut words)?.map_or(Memory::Device, Memory::Part);
    let options = MountOptions::parse(&words);
    attach(device, memory, Target::new(dir)?, &options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sources() {
        let name = |length| "n".repeat(length);
        let file = std::fs::File::open("/dev/null").unwrap();
        let buffer = Buffer {
            fd: file.into(),
            option: "memfd",
        };
        let shown = |length| {
            let name = name(length);
            let shown = source_name(Path::new(&name), &Memory::Buffer(&buffer)).unwrap();
            String::from_utf8(shown.into_owned()).unwrap()
        };
        assert_eq!(shown(255), name(255));
        assert_eq!(shown(256), format!("...{}", name(252)));
        assert!(source_name(Path::new(&name(255)), &Memory::Device).is_ok());
        let error = source_name(Path::new(&name(256)), &Memory::Device).unwrap_err();
        assert!(error.to_string().contains("255 bytes"), "{error}");
    }

    #[test]
    fn options_are_sorted() {
        let words = ["rw", "nosuid", "check=none", "noexec", "odd"].map(str::to_owned);
        let options = MountOptions::parse(&words);
        assert_eq!(
            options.attributes,
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC
        );
        let expected = [
            ("check".to_owned(), Some("none".to_owned())),
            ("odd".to_owned(), None),
        ];
        assert_eq!(options.filesystem, expected);
    }
}
