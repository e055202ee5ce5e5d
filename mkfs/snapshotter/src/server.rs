// SPDX-License-Identifier: GPL-2.0-only

//! The server: listens on a Unix socket, and tells systemd when it does.

use crate::api::snapshots_server::SnapshotsServer;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::service::Service;
use crate::snapshotter::Snapshotter;
use std::fs::{DirBuilder, Permissions};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

/// Serve the snapshots of `config.root` on `config.socket` until `end` is ready. Call `ready` when
/// clients can connect.
///
/// # Errors
///
/// The snapshots cannot be opened, or the socket cannot be used.
pub async fn serve(
    config: &Config,
    memory: Box<dyn Memory>,
    ready: impl FnOnce(),
    end: impl Future<Output = ()>,
) -> Result<()> {
    config.check()?;
    // This also makes sure that the socket is not another process's.
    let snapshotter = Snapshotter::open(config, memory)?;
    let path = &config.socket;
    let listener = listen(path)?;
    ready();
    let served = Server::builder()
        .add_service(SnapshotsServer::new(Service::new(snapshotter)))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), end)
        .await;
    let _ = std::fs::remove_file(path);
    served.map_err(|error| Error::io(path, "serve")(io::Error::other(error)))
}

/// Listen on `path`, in place of the socket that an earlier run may have left.
fn listen(path: &Path) -> Result<UnixListener> {
    if let Some(parent) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(Error::io(parent, "create"))?;
    }
    match path.symlink_metadata() {
        Ok(status) if status.file_type().is_socket() => {
            std::fs::remove_file(path).map_err(Error::io(path, "remove"))?;
        }
        Ok(_) => {
            return Err(Error::Invalid(format!(
                "{}: exists and is no socket; remove it, or name another socket",
                daxfs_writer::shown(path)
            )));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io(path, "examine")(error)),
    }
    let listener = UnixListener::bind(path).map_err(Error::io(path, "listen on"))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
        .map_err(Error::io(path, "set the permissions of"))?;
    Ok(listener)
}

/// Tell systemd that the service is ready, if systemd has started it: sd_notify(3).
///
/// # Errors
///
/// Those of the socket in `NOTIFY_SOCKET`.
pub fn notify() -> io::Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(&name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    Ok(())
}
