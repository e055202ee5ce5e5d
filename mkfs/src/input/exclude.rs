// SPDX-License-Identifier: GPL-2.0-only

//! Patterns for files to leave out of a tree.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::path::Path;

/// Patterns as in .gitignore. A pattern with a slash at its start or inside matches the path from
/// the image's root, any other pattern matches the name at any depth. `*`, `?` and `[...]` do not
/// match slashes, `**` does. A pattern that ends with a slash matches only directories. Everything
/// below a matching directory is also left out.
pub struct Exclude {
    /// Patterns for all files.
    any: GlobSet,
    /// Patterns for directories.
    directories: GlobSet,
}

impl Exclude {
    /// Compiles `patterns`, or returns `None` for an empty list.
    ///
    /// Returns why a pattern is unusable.
    pub fn new<T: AsRef<str>>(
        patterns: impl IntoIterator<Item = T>,
    ) -> Result<Option<Self>, String> {
        let mut empty = true;
        let (mut any, mut directories) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let directory = pattern.ends_with('/');
            let path = pattern.trim_end_matches('/');
            if let Some(why) = mistake(pattern) {
                return Err(format!("the pattern '{pattern}' {why}"));
            }
            let glob = if path.contains('/') {
                path.trim_start_matches('/').to_string()
            } else {
                format!("**/{path}")
            };
            let glob = GlobBuilder::new(&glob)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|error| format!("the pattern '{pattern}' is wrong: {}", error.kind()))?;
            if directory {
                directories.add(glob);
            } else {
                any.add(glob);
            }
            empty = false;
        }
        let build = |builder: GlobSetBuilder| builder.build().map_err(|error| error.to_string());
        Ok((!empty).then_some(Exclude {
            any: build(any)?,
            directories: build(directories)?,
        }))
    }

    /// Returns true if the file at `path`, relative to the root, is left out.
    pub fn matches(&self, path: &Path, directory: bool) -> bool {
        self.any.is_match(path) || directory && self.directories.is_match(path)
    }
}

/// Returns why a pattern matches nothing, or something else than in other programs.
fn mistake(pattern: &str) -> Option<&'static str> {
    let path = pattern.trim_matches('/');
    let odd = |name| matches!(name, "" | "." | "..");
    let rest = path.strip_suffix(char::is_whitespace);
    let is_blank_at_end = rest.is_some_and(|rest| !rest.ends_with('\\'));
    if path.is_empty() {
        Some("names nothing in the tree")
    } else if pattern.starts_with('\u{feff}') {
        Some(
            "starts with a byte order mark; remove it, or put it into brackets for a name with one",
        )
    } else if pattern.starts_with('!') {
        Some("starts with '!', but patterns have no exceptions; write '\\!' for a name with '!'")
    } else if path.split('/').any(odd) {
        Some("has an empty name, '.' or '..', which match nothing; write the path from the root of the image")
    } else if is_blank_at_end {
        Some("ends with a blank; remove it, or write '[ ]' for a name with one")
    } else {
        None
    }
}

/// Parses a pattern of the command line.
pub fn pattern(text: &str) -> Result<String, String> {
    Exclude::new([text]).map(|_| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    fn matches(pattern: &str, path: &str, directory: bool) -> bool {
        let exclude = Exclude::new([pattern]).unwrap().unwrap();
        exclude.matches(Path::new(path), directory)
    }

    #[test]
    fn patterns() {
        for (pattern, path) in [
            ("*.o", "a.o"),
            ("*.o", "x/y/.o"),
            ("/a", "a"),
            ("a/b", "a/b"),
            ("a/*/c", "a/b/c"),
            ("a/**/c", "a/b/b/c"),
            ("a/**/c", "a/c"),
            ("a?[bc]", "x/axb"),
            ("{a,b}", "b"),
            (r"\*", "*"),
            (r"\!keep.o", "!keep.o"),
            ("/!keep.o", "!keep.o"),
            (r"a\ ", "a "),
            ("a[ ]", "a "),
            (" a", " a"),
            (".a/..b", ".a/..b"),
            ("...", "x/..."),
        ] {
            assert!(matches(pattern, path, false), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("*.o", "a.os"),
            ("/a", "b/a"),
            ("a/b", "x/a/b"),
            ("a/*/c", "a/b/b/c"),
            ("a*c", "a/c"),
            (r"\*", "a"),
            ("a/", "a"),
        ] {
            assert!(!matches(pattern, path, false), "{pattern} {path}");
        }
        assert!(matches("a/", "b/a", true) && matches("b/a/", "b/a", true));
        let odd = Path::new(OsStr::from_bytes(b"x/\xff.o"));
        assert!(Exclude::new(["*.o"]).unwrap().unwrap().matches(odd, false));
    }

    #[test]
    fn wrong_patterns() {
        assert!(Exclude::new([""; 0]).unwrap().is_none());
        let wrong = "|/|//|[|{a|!keep.o|./x|a/./b|..|a/../b|a//b|a |a\t|a\u{a0}|a \r|/ /|\
            \u{feff}*.o";
        for wrong in wrong.split('|') {
            assert!(Exclude::new([wrong]).is_err(), "{wrong}");
        }
    }
}
