// SPDX-License-Identifier: GPL-2.0-only

//! The server, which listens on a Unix socket.

use crate::api::diff_server::DiffServer;
use crate::api::snapshots_server::SnapshotsServer;
use crate::config::Config;
use crate::error::{warn, Error, Result};
use crate::service::Service;
use crate::snapshotter::Snapshotter;
use std::fs::{DirBuilder, Permissions};
use std::future::Future;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

/// Serves the snapshots of `snapshotter` on `config.socket` until `end` is ready. Calls `ready`
/// once clients can connect.
///
/// Fails if the socket is unusable.
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
    let service = Service::new(snapshotter, &config.containerd);
    let served = Server::builder()
        .add_service(SnapshotsServer::new(service.clone()))
        .add_service(DiffServer::new(service))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), end)
        .await;
    // Another process may be listening there by now.
    if own.is_some() && identity(path) == own {
        let _ = std::fs::remove_file(path);
    }
    served.map_err(|error| Error::io(path, "serve")(io::Error::other(error)))
}

/// Writes the metrics of `snapshotter` to the file `path` every 10 s. Warns about the first failure
/// in a row.
pub fn report(path: &Path, snapshotter: &Snapshotter) -> ! {
    let mut works = true;
    loop {
        let written = replace(path, &snapshotter.metrics()).map_err(Error::io(path, "write"));
        let worked = std::mem::replace(&mut works, written.is_ok());
        if let Some(error) = written.err().filter(|_| worked) {
            warn(&error);
        }
        std::thread::sleep(Duration::from_secs(10));
    }
}

/// Atomically replaces `path` with a world-readable file that contains `text`. If somebody else
/// owns the directory, they cannot redirect the write.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut file = NamedTempFile::new_in(path.parent().ok_or(ErrorKind::IsADirectory)?)?;
    file.write_all(text.as_bytes())?;
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}

/// Returns the identity of the file `path`: device and inode number.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let status = path.symlink_metadata().ok()?;
    Some((status.dev(), status.ino()))
}

/// Listens on `path`, replacing a socket left by an earlier run.
fn listen(path: &Path) -> Result<UnixListener> {
    if let Some(parent) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(Error::io(parent, "create"))?;
    }
    match path.symlink_metadata() {
        Ok(status) if status.file_type().is_socket() => match UnixStream::connect(path) {
            // No process listens there.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(Error::io(path, "remove"))?;
            }
            Ok(_) => {
                return Err(Error::Invalid(format!(
                    "{}: another process listens on it; stop that, or name another socket",
                    daxfs_files::shown_path(path)
                )));
            }
            Err(error) => return Err(Error::io(path, "connect to")(error)),
        },
        Ok(_) => {
            return Err(Error::Invalid(format!(
                "{}: exists and is not a socket; remove it, or name another socket",
                daxfs_files::shown_path(path)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_at_the_file_of_metrics() {
        let place = tempfile::TempDir::new().unwrap();
        let (file, link) = (place.path().join("file"), place.path().join("x.prom"));
        std::fs::write(&file, "of others").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for text in ["first", "second"] {
            replace(&link, text).unwrap();
            assert_eq!(std::fs::read_to_string(&link).unwrap(), text);
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "of others");
        assert_eq!(link.symlink_metadata().unwrap().mode() & 0o777, 0o644);
        assert_eq!(place.path().read_dir().unwrap().count(), 2);
        assert!(replace(&file.join("x.prom"), "text").is_err());
    }

    #[tokio::test]
    async fn sockets_of_others_remain() {
        let place = tempfile::TempDir::new().unwrap();
        let path = place.path().join("socket");
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let own = identity(&path);
        let error = listen(&path).unwrap_err().to_string();
        assert!(error.contains("another process listens"), "{error}");
        assert_eq!(identity(&path), own);
        // It ends without removing its socket, which another test's child may hold for a moment.
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
