// SPDX-License-Identifier: GPL-2.0-only

//! The directories of a snapshot.

use crate::error::{warn_of, Error, Result};
use crate::idmap::IdMap;
use crate::images::Images;
use crate::record::{Snapshot, State};
use crate::tree::remove_tree;
use std::fs::{DirBuilder, Metadata, Permissions};
use std::os::unix::fs::{chown, DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Removes the remains of an interrupted commit. Warns about files that it cannot remove. Removes
/// nothing unless the snapshot is otherwise complete.
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
    warn_of(removed);
    Ok(())
}

/// Creates a directory.
pub fn make(path: &Path, mode: u32) -> Result<()> {
    let made = DirBuilder::new().mode(mode).create(path);
    made.map_err(Error::io(path, "create"))
}

/// Creates the directories of a new snapshot. The root directory gets the owner and permissions in
/// `like`. In a user namespace, the owner is the one on the host.
pub fn fill(snapshot: &Snapshot, like: Option<&Metadata>) -> Result<()> {
    let upper = snapshot.upper();
    let mut owner = like.map(|like| (like.uid(), like.gid()));
    if let Some(map) = IdMap::of(&snapshot.record)? {
        let (uid, gid) = owner.unwrap_or((0, 0));
        owner = Some(map.owner(uid, gid)?);
    }
    make(&upper, 0o755)?;
    // The upper directory's attributes become those of the overlay's root.
    let mode = like.map_or(0o755, |like| like.mode() & 0o7777);
    let mut settled = match owner {
        Some((uid, gid)) => chown(&upper, Some(uid), Some(gid)),
        None => Ok(()),
    };
    settled = settled.and_then(|()| std::fs::set_permissions(&upper, Permissions::from_mode(mode)));
    settled.map_err(Error::io(&upper, "set the attributes"))?;
    if snapshot.record.state == State::Active {
        make(&snapshot.work(), 0o711)?;
    }
    Ok(())
}

/// Removes the committed changes, unless a container still writes to them.
pub fn forget_changes(snapshot: &Snapshot) -> Result<()> {
    remove_tree(&snapshot.upper())?;
    remove_tree(&snapshot.work())
}
