// SPDX-License-Identifier: GPL-2.0-only

//! The directories of a snapshot.

use crate::api::Labels;
use crate::error::{warn, Error, Result};
use crate::idmap::IdMap;
use crate::images::Images;
use crate::quota;
use crate::record::{Record, Snapshot, State};
use crate::tree::remove_tree;
use rustix::fs::statvfs;
use std::fs::{DirBuilder, Metadata, Permissions};
use std::os::unix::fs::{chown, DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Returns whether containerd unpacks a layer into the snapshot `name`: NAMESPACE/NUMBER/KEY.
fn is_unpacked(name: &str) -> bool {
    let key = name.splitn(3, '/').last();
    key.is_some_and(|key| key.starts_with("extract-"))
}

/// Removes the remains of a commit after a crash. Files that cannot be removed cause a warning.
/// Removes nothing unless the rest is complete.
pub fn recover(snapshot: &Snapshot, images: &Images) -> std::result::Result<(), String> {
    let upper = snapshot.upper();
    let is_there = upper.symlink_metadata().is_ok_and(|status| status.is_dir());
    let removed = match &snapshot.record.state {
        State::Committed(_) if is_there => match images.parts(&snapshot.dir) {
            Ok(_) => forget_changes(snapshot),
            Err(error) => {
                return Err(format!(
                    "{error}; the files that the image was made of are in {}: copy them, then remove the snapshot",
                    daxfs_files::shown_path(&upper)
                ));
            }
        },
        State::Committed(_) => forget_changes(snapshot),
        State::Applied(_) if is_there => match images.parts(&snapshot.dir) {
            Ok(_) => Ok(()),
            Err(error) => {
                return Err(format!(
                    "{error}; remove the snapshot, and pull its image again"
                ))
            }
        },
        State::View | State::Active | State::Pending if is_there => images.forget(&snapshot.dir),
        State::View | State::Active | State::Applied(_) | State::Pending => {
            return Err(format!(
                "{} is not there; restore it, or remove the snapshot",
                daxfs_files::shown_path(&upper)
            ));
        }
    };
    if let Err(error) = removed {
        warn(&error);
    }
    Ok(())
}

/// Makes a directory.
pub fn make(path: &Path, mode: u32) -> Result<()> {
    let made = DirBuilder::new().mode(mode).create(path);
    made.map_err(Error::io(path, "create"))
}

/// Makes the directories of a new snapshot. The root directory gets the owner and the permissions in
/// `like`. In a user namespace, the owner is the one on the host. Its files may take `limit` bytes, unless that is 0 or a layer
/// is unpacked.
pub fn fill(snapshot: &Snapshot, like: Option<&Metadata>, limit: u64) -> Result<()> {
    let upper = snapshot.upper();
    let mut owner = like.map(|like| (like.uid(), like.gid()));
    if let Some(map) = IdMap::of(&snapshot.record)? {
        let (uid, gid) = owner.unwrap_or((0, 0));
        owner = Some(map.owner(uid, gid)?);
    }
    make(&upper, 0o755)?;
    // The root of an overlay has the attributes of the upper directory.
    let mode = like.map_or(0o755, |like| like.mode() & 0o7777);
    let mut settled = match owner {
        Some((uid, gid)) => chown(&upper, Some(uid), Some(gid)),
        None => Ok(()),
    };
    settled = settled.and_then(|()| std::fs::set_permissions(&upper, Permissions::from_mode(mode)));
    settled.map_err(Error::io(&upper, "set the attributes"))?;
    if snapshot.record.state == State::Active {
        make(&snapshot.work(), 0o711)?;
        if limit > 0 && !is_unpacked(&snapshot.record.name) {
            quota::limit(snapshot, limit)?;
        }
    }
    Ok(())
}

/// Removes the changes that were committed, unless a container still writes to them.
pub fn forget_changes(snapshot: &Snapshot) -> Result<()> {
    remove_tree(&snapshot.upper())?;
    remove_tree(&snapshot.work())
}

/// Checks that the filesystem of `dir`, the directory with the directories of snapshots, has such limits. No snapshot has the
/// number 0.
///
/// Returns [`Error::Unsupported`] with a remedy.
pub fn check_limits(dir: &Path) -> Result<()> {
    let snapshot = Snapshot {
        dir: dir.join("0"),
        record: Record::new("", "", State::Active, Labels::new()),
    };
    const LIMIT: u64 = 1 << 20;
    make(&snapshot.dir, 0o700)?;
    let why = match fill(&snapshot, None, LIMIT) {
        Ok(()) => statvfs(snapshot.upper()).map_or(Some("statvfs(2) fails".into()), |size| {
            let is_limited = size.f_blocks * size.f_frsize <= LIMIT;
            (!is_limited).then(|| "they are counted, and not enforced".into())
        }),
        Err(error) => Some(error.to_string()),
    };
    quota::remove(&snapshot.dir)?;
    match why {
        None => Ok(()),
        Some(why) => Err(Error::Unsupported(format!(
            "container.limit needs project quotas on the filesystem of {}: {why}; mount it with the option prjquota (ext4 first needs tune2fs -O project,quota), or remove container.limit",
            daxfs_files::shown_path(dir)
        ))),
    }
}
