// SPDX-License-Identifier: GPL-2.0-only

//! Runs the real binary.

pub mod fixture;
pub mod layout;

pub use daxfs_testing::place::{available, chmod, is_root, skip, who, Place};

/// Creates a directory, runs `script` in it, and makes mkdaxfs available to shell lines.
pub fn place(script: &str) -> Place {
    Place::new(env!("CARGO_BIN_EXE_mkdaxfs"), &["mkdaxfs"], script)
}

/// Runs `script` in a new mount namespace, in `place`. Returns `None` if the user may not mount.
pub fn with_mounts(place: &Place, script: &str) -> Option<daxfs_testing::place::Run> {
    if !is_root() || place.run("unshare -m true").status != 0 {
        skip("mounting needs root");
        return None;
    }
    let mut command = place.command("unshare");
    let output = command.args(["-m", "bash", "-ec", script]).output();
    Some(output.unwrap().into())
}
