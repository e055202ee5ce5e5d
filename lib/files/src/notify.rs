// SPDX-License-Identifier: GPL-2.0-only

//! Reports the state of a service to systemd.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Reports to systemd, if it started the service, that the service is ready: sd_notify(3).
///
/// Returns the errors of the socket in `NOTIFY_SOCKET`.
pub fn notify() -> io::Result<()> {
    let name = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    if name.is_empty() {
        return Ok(());
    }
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(&name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    Ok(())
}
