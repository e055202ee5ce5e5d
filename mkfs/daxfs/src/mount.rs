// SPDX-License-Identifier: GPL-2.0-only

//! Mount memory that is named by a file descriptor, with fsopen(2) and its family.

use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::text::shown_path;
use rustix::fs::CWD;
use rustix::io::{read, Errno};
use rustix::mount::{
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    move_mount, FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags,
};
use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Mount options, separated by their destination.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// For the mount itself.
    attributes: MountAttrFlags,
    /// For the filesystem: names and values.
    filesystem: Vec<(String, Option<String>)>,
}

impl Options {
    /// Sort `words`, such as `nosuid` and `check=none`.
    pub fn parse(words: &[String]) -> Self {
        let mut options = Options {
            attributes: MountAttrFlags::empty(),
            filesystem: Vec::new(),
        };
        for word in words {
            let flag = match word.as_str() {
                // Options for mount(8) itself, and defaults.
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

/// Return the error of a failed call on the mount context `fs`, with the kernel's message if there
/// is one.
fn explain(fs: &OwnedFd, operation: impl Into<Cow<'static, str>>, error: Errno) -> Error {
    let mut line = [0; 1024];
    match read(fs, &mut line) {
        Ok(length) if length > 2 => {
            // "e daxfs: ...\n": the first letter is the level.
            let text = String::from_utf8_lossy(&line[2..length]);
            Error::Mount(text.trim_end().into())
        }
        _ => Error::system("", operation, "", error),
    }
}

/// The memory to mount.
#[derive(Clone, Copy)]
pub enum Memory<'a> {
    /// A copy of the source.
    Buffer(&'a Buffer),
    /// The source, which is a device.
    Device,
}

/// Mount the image in `memory` on `dir`. `source` is the image file or the device.
///
/// # Errors
///
/// Those of the kernel.
pub fn mount(source: &Path, memory: Memory<'_>, dir: &Path, options: &Options) -> Result<()> {
    let fs = fsopen("daxfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| {
        let remedy = match error {
            Errno::NODEV => "; load the module (modprobe daxfs), or use daxfs fuse",
            Errno::PERM => "; only root can, others can use daxfs fuse",
            _ => "",
        };
        Error::system("", "cannot mount daxfs", remedy, error)
    })?;
    fsconfig_set_string(fs.as_fd(), "source", source)
        .map_err(|error| explain(&fs, "cannot set the source", error))?;
    if let Memory::Buffer(buffer) = memory {
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
    fsconfig_create(fs.as_fd()).map_err(|error| explain(&fs, "cannot mount the image", error))?;
    let mount = fsmount(
        fs.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        options.attributes,
    )
    .map_err(|error| explain(&fs, "cannot mount the image", error))?;
    move_mount(
        mount.as_fd(),
        "",
        CWD,
        dir,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .map_err(|error| {
        let remedy = match error {
            Errno::NOENT => "; make the directory first",
            Errno::NOTDIR => "; name a directory",
            _ => "",
        };
        Error::system(shown_path(dir), "cannot mount there", remedy, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_sorted() {
        let words = ["rw", "nosuid", "check=none", "noexec", "odd"].map(str::to_owned);
        let options = Options::parse(&words);
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
