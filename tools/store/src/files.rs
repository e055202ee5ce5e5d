// SPDX-License-Identifier: GPL-2.0-only

//! Files, their errors and locks.

use daxfs_image::error::{Error, Result};
use daxfs_image::text::shown_path;
use daxfs_image::warning::warn;
use rustix::fs::{flock, syncfs, FlockOperation as Lock};
use rustix::io::{retry_on_intr, Errno};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

static PATIENT: AtomicBool = AtomicBool::new(false);

/// Makes later calls wait for processes that use a store or a layout, instead of failing.
pub fn wait_for_others() {
    PATIENT.store(true, Ordering::Relaxed);
}

/// Locks `dir` through `file`, maybe `shared`. Messages say that another process does `what`.
pub(crate) fn occupy(dir: &Path, file: &File, shared: bool, what: &str) -> Result<()> {
    let (now, later) = if shared {
        (Lock::NonBlockingLockShared, Lock::LockShared)
    } else {
        (Lock::NonBlockingLockExclusive, Lock::LockExclusive)
    };
    let locked = match flock(file, now) {
        Err(Errno::WOULDBLOCK) if PATIENT.load(Ordering::Relaxed) => {
            let name = shown_path(dir);
            warn(format_args!(
                "{name}: waiting for another process that {what}; --no-wait fails instead"
            ));
            retry_on_intr(|| flock(file, later))
        }
        Err(Errno::WOULDBLOCK) => {
            let why = format!("another process {what}; try again when it has ended");
            return Err(Error::refused(shown_path(dir), why));
        }
        locked => locked,
    };
    locked.map_err(|error| failed(dir, "lock", error.into()))
}

/// Locks a mutex whose data is valid at any time.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the bytes of the file `path`.
pub fn length(path: &Path) -> Result<u64> {
    let status = path.symlink_metadata();
    Ok(status
        .map_err(|error| failed(path, "examine", error))?
        .len())
}

/// Makes the name of the directory `dir` durable. A read-only filesystem, which may be mounted on
/// `dir`, often cannot sync directories, and has nothing to write.
pub fn sync_parent(dir: &Path) -> io::Result<()> {
    match File::open(dir.join("..")).and_then(|parent| parent.sync_all()) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

/// Makes the names in the directory `path` durable.
pub fn sync(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| failed(path, "sync the directory", error))
}

/// Makes all content durable that was written to the filesystem of `dir` since `dir` was opened.
///
/// Fails if any write failed. Much faster than fsync(2) of many files, which all wait for the disk.
pub fn sync_content(dir: &File, path: &Path) -> Result<()> {
    syncfs(dir).map_err(|error| failed(path, "sync the filesystem of the directory", error.into()))
}

/// Returns the error for an operation on the file `path`.
pub fn failed(path: &Path, operation: &str, error: io::Error) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound if operation == "examine" => {
            "; a file of the store is missing: daxfs store verify names all"
        }
        io::ErrorKind::NotFound if operation == "make the directory" => {
            "; create its parent directory first"
        }
        io::ErrorKind::NotADirectory => "; a file is on the way: name another directory",
        io::ErrorKind::PermissionDenied if path.starts_with("/run") => "; only root can",
        io::ErrorKind::PermissionDenied if operation == "make the directory" => {
            "; run as a user who may write there"
        }
        io::ErrorKind::PermissionDenied => "; run as the owner of the store",
        io::ErrorKind::ReadOnlyFilesystem => "; the store is on a read-only filesystem",
        io::ErrorKind::StorageFull => "; free some space",
        _ => "",
    };
    Error::system(
        shown_path(path),
        format!("cannot {operation}"),
        remedy,
        error,
    )
}
