// SPDX-License-Identifier: GPL-2.0-only

//! Detects fakeroot(1) and similar programs, which fake the owners of files and devices.
//!
//! They replace functions of the C library, but the tools call the kernel directly and see the real
//! owners.
//! owners.

use daxfs_files::{Error, Result};
use std::path::Path;

/// Fails if this process runs under such a program. `remedy` is what to do instead.
pub fn check(directory: &Path, remedy: &str) -> Result<()> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let preload = variable("LD_PRELOAD");
    let name = if preload.contains("libfakeroot") && !variable("FAKEROOTKEY").is_empty() {
        "fakeroot"
    } else if preload.contains("libpseudo") && variable("PSEUDO_DISABLED") != "1" {
        "pseudo"
    } else {
        return Ok(());
    };
    let why =
        format!("the owners and devices that {name} pretends cannot be seen or set here; {remedy}");
    Err(Error::refused(directory, why))
}
