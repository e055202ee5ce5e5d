// SPDX-License-Identifier: GPL-2.0-only

//! Shares a mount's memory: a socket passes its descriptor to each process that connects.

use crate::buffer::Kind;
use crate::mount::{examine, place, Loading};
use daxfs_files::notify;
use daxfs_image::error::{Error, Result};
use daxfs_image::text::shown_path;
use rustix::fs::fstat;
use rustix::mount::{open_tree, unmount, OpenTreeFlags, UnmountFlags};
use rustix::net::{sendmsg, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::convert::Infallible;
use std::fs::{remove_file, File, Metadata};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// Loads the image file `image` and mounts it on `dir`, see [`crate::load_on`]. Then notifies
/// systemd, and passes the memory's descriptor to each process that connects to the new socket
/// `socket`, until this process ends. Access is controlled only by the socket's mode.
///
/// A message consists of 8 bytes, the `st_dev` of the mounted files, and the descriptor.
pub fn serve_on(
    image: &Path,
    dir: &Path,
    kind: Kind,
    words: &[String],
    socket: &Path,
) -> Result<Infallible> {
    let fail = |error: io::Error| {
        let is_socket = |it: Metadata| it.file_type().is_socket();
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse if socket.symlink_metadata().is_ok_and(is_socket) => {
                "; remove it, unless another daxfs load --serve has it (ss -xlp)"
            }
            io::ErrorKind::AddrInUse => "; use another name",
            io::ErrorKind::NotFound => "; make its directory first",
            _ => "",
        };
        Error::system(shown_path(socket), "cannot serve there", remedy, error)
    };
    examine(dir)?;
    let listener = UnixListener::bind(socket).map_err(fail)?;
    let start = || -> Result<_> {
        let loading = Loading {
            image,
            source: image,
            kind,
            words,
            room: &|_| Ok(()),
            on_demand: false,
        };
        let (mount, buffer, _) = loading.make()?;
        // While a mount of this filesystem exists, no other gets its `st_dev`. As this one is not
        // attached, it does not prevent umount(8).
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let kept = open_tree(&mount, "", flags).map_err(|error| fail(error.into()))?;
        let device = fstat(&kept).map_err(|error| fail(error.into()))?.st_dev;
        place(mount.as_fd(), dir)?;
        notify().map_err(|error| {
            let _ = unmount(dir, UnmountFlags::DETACH);
            Error::system("", "cannot notify systemd", "", error)
        })?;
        Ok((kept, buffer, device.to_ne_bytes()))
    };
    let (_kept, buffer, device) = start().inspect_err(|_| {
        let _ = remove_file(socket);
    })?;
    // Each client gets its own offset and flags, except those of a dma-buf.
    let path = format!("/proc/self/fd/{}", buffer.fd.as_raw_fd());
    loop {
        let Ok((connection, _)) = listener.accept() else {
            // The system is temporarily short of memory or descriptors.
            sleep(Duration::from_millis(100));
            continue;
        };
        let own = File::open(&path);
        let fds = [own.as_ref().map_or(buffer.fd.as_fd(), AsFd::as_fd)];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        // The client may be gone.
        let _ = sendmsg(
            &connection,
            &[IoSlice::new(&device)],
            &mut control,
            SendFlags::NOSIGNAL,
        );
    }
}
