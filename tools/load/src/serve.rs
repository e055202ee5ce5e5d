// SPDX-License-Identifier: GPL-2.0-only

//! Memory of a mount for other processes: a socket that gives its descriptor to each process that connects.

use crate::buffer::Kind;
use crate::mount::{examine, load, place};
use daxfs_files::notify;
use daxfs_image::error::{Error, Result};
use daxfs_image::text::shown_path;
use rustix::fs::fstat;
use rustix::mount::{open_tree, OpenTreeFlags};
use rustix::net::{sendmsg, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Loads the image file `image` and mounts it on `dir`, see [`crate::load_on`]. Then tells systemd that this service is
/// ready, and gives the descriptor of the memory to each process that connects to the new socket `socket`, until this
/// process ends. Such a process is not asked anything: the mode of the socket says who may connect.
///
/// A message has 8 bytes, the `st_dev` of the mounted files, and the descriptor.
pub fn serve_on(
    image: &Path,
    dir: &Path,
    kind: Kind,
    words: &[String],
    socket: &Path,
) -> Result<Infallible> {
    let fail = |error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "; remove it, unless another daxfs load --serve has it (ss -xlp)"
            }
            io::ErrorKind::NotFound => "; make its directory first",
            _ => "",
        };
        Error::system(shown_path(socket), "cannot serve there", remedy, error)
    };
    examine(dir)?;
    let (mount, buffer) = load(image, image, kind, words)?;
    let listener = UnixListener::bind(socket).map_err(fail)?;
    place(mount.as_fd(), dir)?;
    // Another mount gets the number of this one only when nobody has a mount of its filesystem any longer. One that is in no
    // directory does not prevent umount(8).
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let kept = open_tree(&mount, "", flags).map_err(|error| fail(error.into()))?;
    drop(mount);
    let device = fstat(&kept).map_err(|error| fail(error.into()))?.st_dev;
    let device = device.to_ne_bytes();
    notify().map_err(|error| Error::system("", "cannot notify systemd", "", error))?;
    loop {
        let (connection, _) = listener.accept().map_err(fail)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [buffer.fd.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        // The client may have gone away.
        let _ = sendmsg(
            &connection,
            &[IoSlice::new(&device)],
            &mut control,
            SendFlags::NOSIGNAL,
        );
    }
}
