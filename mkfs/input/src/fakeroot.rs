// SPDX-License-Identifier: GPL-2.0

//! fakeroot(1) and its like, which pretend to programs that files have other owners, or are devices.
//!
//! They do so through the C library, which these programs do not use for files: only the real owners are seen here.

use daxfs_writer::{Error, Result};
use std::path::Path;

/// Refuse `directory` if files have other owners for the programs around this one; `remedy` is what to do instead.
///
/// # Errors
///
/// [`Error::Refused`] then.
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
