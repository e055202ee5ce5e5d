// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The memory of mounted images, from `daxfs load --serve`.

use crate::error::{Failure, Result};
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::{recvmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Returns the memory from which the image with `file` was mounted. `daxfs load` serves its
/// descriptor at `socket`.
///
/// Fails with `NODEV` if it serves another mount's memory, `PROTO` if another program serves there,
/// or the errors of connect(2).
pub fn memory(file: impl AsFd, socket: &Path) -> Result<OwnedFd> {
    let server = UnixStream::connect(socket).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let socket = socket.display();
        Failure::new(
            errno,
            &format!("{socket}: cannot connect to daxfs load --serve: {error}"),
        )
    })?;
    let mut device = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let into = &mut [IoSliceMut::new(&mut device)];
    let received = recvmsg(&server, into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let memory = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MFILE.into());
    }
    let memory = memory.filter(|_| received.bytes == device.len());
    let memory = memory.ok_or(Failure::new(
        Errno::PROTO,
        "no daxfs load serves at the socket",
    ))?;
    if u64::from_ne_bytes(device) == fstat(file)?.st_dev {
        Ok(memory)
    } else {
        Err(Failure::new(
            Errno::NODEV,
            "the socket has the memory of another mount",
        ))
    }
}
