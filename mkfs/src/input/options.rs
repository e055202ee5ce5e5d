// SPDX-License-Identifier: GPL-2.0-only

//! Options of reading.

use crate::input::exclude::Exclude;
use crate::input::platform::Platform;
use daxfs_files::{Identity, Progress, Silent};
use std::path::Path;

/// How to read inputs.
pub struct Options<'a> {
    /// The directory that receives the image, which must not be in the tree.
    pub output: Option<Identity>,
    /// Leave mount points below the directory empty.
    pub one_file_system: bool,
    /// Store the files that symlinks lead to instead of the symlinks.
    pub dereference: bool,
    /// Read on after the end of an archive.
    pub ignore_zeros: bool,
    /// Files to leave out.
    pub exclude: Option<&'a Exclude>,
    /// Directory for temporary files, for archives that can be read only once.
    pub scratch: &'a Path,
    /// Platform of the container image, by default this machine's if there are several.
    pub platform: Option<Platform>,
    /// Receives the progress.
    pub progress: &'a dyn Progress,
    /// Receives a line for everything that is left out.
    pub warn: &'a (dyn Fn(String) + Sync),
}

impl<'a> Options<'a> {
    /// Returns options that read all files and report nothing, with temporary files in the directory
    /// `scratch`.
    pub fn new(scratch: &'a Path) -> Self {
        Options {
            output: None,
            one_file_system: false,
            dereference: false,
            ignore_zeros: false,
            exclude: None,
            scratch,
            platform: None,
            progress: &Silent,
            warn: &|_| (),
        }
    }
}
