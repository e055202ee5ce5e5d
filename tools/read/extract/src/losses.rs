// SPDX-License-Identifier: GPL-2.0-only

//! Attributes that could not be restored.

use daxfs_image::text::shown;
use std::collections::BTreeMap;

/// Attributes that could not be restored: each reason with the first file and the count.
#[derive(Default)]
pub struct Losses(BTreeMap<String, (Vec<u8>, u64)>);

impl Losses {
    /// Record that `what` of the file `path` could not be restored.
    pub(crate) fn add(&mut self, what: String, path: &[u8]) {
        self.0.entry(what).or_insert_with(|| (path.to_vec(), 0)).1 += 1;
    }

    /// Return a line for each.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|(what, (path, files))| {
            let others = match files - 1 {
                0 => String::new(),
                1 => " (and 1 other file)".into(),
                n => format!(" (and {n} other files)"),
            };
            format!("{}: {what}{others}", shown(path))
        })
    }
}
