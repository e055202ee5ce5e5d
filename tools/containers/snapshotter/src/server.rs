// SPDX-License-Identifier: GPL-2.0-only

//! The server: listens on a Unix socket, and tells systemd when it does.

use crate::api::snapshots_server::SnapshotsServer;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::service::Service;
use crate::snapshotter::Snapshotter;
use hyper::header::{HeaderValue, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::Response;
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::fs::{DirBuilder, Permissions};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::{spawn_blocking, AbortHandle, JoinError};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

/// Serve the snapshots of `snapshotter` on `config.socket` until `end` is ready. Call `ready` when
/// clients can connect.
///
/// Fail if the socket cannot be used.
pub async fn serve(
    config: &Config,
    snapshotter: Arc<Snapshotter>,
    ready: impl FnOnce(),
    end: impl Future<Output = ()>,
) -> Result<()> {
    let path = &config.socket;
    let listener = listen(path)?;
    let own = identity(path);
    ready();
    let opened = Arc::clone(&snapshotter);
    spawn_blocking(move || opened.tidy());
    let served = Server::builder()
        .add_service(SnapshotsServer::new(Service::new(snapshotter)))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), end)
        .await;
    // Another process may listen there now.
    if own.is_some() && identity(path) == own {
        let _ = std::fs::remove_file(path);
    }
    served.map_err(|error| Error::io(path, "serve")(io::Error::other(error)))
}

/// Answer each HTTP request to `listener` with the metrics of `snapshotter`. A client has a few seconds, or until there are
/// too many newer ones: those that say nothing hold up no other.
pub async fn answer(listener: TcpListener, snapshotter: Arc<Snapshotter>) {
    // As many answers are made at once.
    let turns = Arc::new(Semaphore::new(4));
    let mut clients = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // There may be too many open files.
            sleep(Duration::from_secs(1)).await;
            continue;
        };
        let asked = (Arc::clone(&snapshotter), Arc::clone(&turns));
        let metrics = service_fn(move |_| {
            let (snapshotter, turns) = asked.clone();
            async move {
                let turn = turns.acquire_owned().await;
                let made = spawn_blocking(move || (snapshotter.metrics(), turn));
                let mut response = Response::new(made.await?.0);
                let format = HeaderValue::from_static("text/plain; version=0.0.4");
                response.headers_mut().insert(CONTENT_TYPE, format);
                Ok::<_, JoinError>(response)
            }
        });
        let mut http = http1::Builder::new();
        http.keep_alive(false).max_buf_size(8192);
        let served = http.serve_connection(TokioIo::new(stream), metrics);
        let served = tokio::spawn(timeout(Duration::from_secs(5), served));
        clients.push_back(served.abort_handle());
        if clients.len() > 16 {
            clients.pop_front().inspect(AbortHandle::abort);
        }
    }
}

/// Return what tells the file `path` from others: device and inode number.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let status = path.symlink_metadata().ok()?;
    Some((status.dev(), status.ino()))
}

/// Listen on `path`, in place of the socket that an earlier run may have left.
fn listen(path: &Path) -> Result<UnixListener> {
    if let Some(parent) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(Error::io(parent, "create"))?;
    }
    match path.symlink_metadata() {
        Ok(status) if status.file_type().is_socket() => match UnixStream::connect(path) {
            // No process listens.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(Error::io(path, "remove"))?;
            }
            Ok(_) => {
                return Err(Error::Invalid(format!(
                    "{}: another process listens on it; stop that, or name another socket",
                    daxfs_writer::shown(path)
                )));
            }
            Err(error) => return Err(Error::io(path, "connect to")(error)),
        },
        Ok(_) => {
            return Err(Error::Invalid(format!(
                "{}: exists and is not a socket; remove it, or name another socket",
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
/// Return the errors of the socket in `NOTIFY_SOCKET`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_of_others_remain() {
        let place = tempfile::TempDir::new().unwrap();
        let path = place.path().join("socket");
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let own = identity(&path);
        let error = listen(&path).unwrap_err().to_string();
        assert!(error.contains("another process listens"), "{error}");
        assert_eq!(identity(&path), own);
        // It ends without removing its socket. The child of another test may have it for a moment.
        drop(other);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let listener = loop {
            match listen(&path) {
                Ok(listener) => break listener,
                Err(error) => assert!(std::time::Instant::now() < end, "{error}"),
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        assert!(UnixStream::connect(&path).is_ok());
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "file").unwrap();
        assert!(listen(&path).is_err() && path.exists());
    }
}
