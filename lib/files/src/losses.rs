// SPDX-License-Identifier: GPL-2.0-only

//! Attributes and files that could not be preserved.

use std::collections::BTreeMap;

/// Maximum number of kinds of losses listed one by one, because an archive can invent any number of
/// attribute names.
const MOST: usize = 20;

/// Lost attributes and members, by kind, with the first file and the number of files.
#[derive(Default)]
pub struct Losses(BTreeMap<String, (String, u64)>);

impl Losses {
    /// Records that `what` of a file was lost. `path` returns the file's name for messages.
    pub fn add(&mut self, mut what: String, path: impl FnOnce() -> String) {
        if self.0.len() >= MOST && !self.0.contains_key(&what) {
            what = "further losses, which are not listed".into();
        }
        self.0.entry(what).or_insert_with(|| (path(), 0)).1 += 1;
    }

    /// Returns one line per kind.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|(what, (path, files))| {
            let others = match files - 1 {
                0 => String::new(),
                1 => " (and 1 other file)".into(),
                n => format!(" (and {n} other files)"),
            };
            format!("{path}: {what}{others}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_once() {
        let mut losses = Losses::default();
        for (what, path) in [("a", "x"), ("b", "y"), ("a", "z")] {
            losses.add(what.into(), || path.into());
        }
        let lines: Vec<_> = losses.lines().collect();
        assert_eq!(lines, ["x: a (and 1 other file)", "y: b"]);
        for number in 0..1000 {
            losses.add(number.to_string(), || "file".into());
        }
        assert_eq!(losses.lines().count(), MOST + 1);
    }
}
