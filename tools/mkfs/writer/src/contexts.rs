// SPDX-License-Identifier: GPL-2.0-only

//! SELinux's file_contexts: labels by path.

use crate::error::{Error, Result};
use daxfs_reader::FileType;
use regex::bytes::{Regex, RegexBuilder};
use std::cell::OnceCell;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Memory limit of an expression.
const REGEX_SIZE: usize = 10 << 20;

/// The lines of a file_contexts file. The last one that matches a path gives its label, but a line
/// without operators of regular expressions takes precedence over lines with operators.
pub struct Contexts {
    /// In order of precedence.
    rules: Vec<Rule>,
    /// Aliases of starts of paths.
    aliases: Vec<(Vec<u8>, Vec<u8>)>,
    /// The file.
    path: PathBuf,
}

struct Rule {
    /// Start of all paths that match.
    stem: Vec<u8>,
    /// The whole expression, if it is more than the stem.
    pattern: Option<Pattern>,
    /// Type of file that it applies to, or `None` for all types.
    file_type: Option<FileType>,
    /// None for `<<none>>`.
    label: Option<String>,
}

struct Pattern {
    text: String,
    /// Compiled on first use.
    regex: OnceCell<Option<Regex>>,
}

impl Contexts {
    /// Read `path`, and `path.homedirs`, `path.local`, `path.subs_dist` and `path.subs` if they
    /// exist.
    ///
    /// Return [`Error::Io`], and [`Error::Refused`] for a line that is malformed.
    pub fn load(path: &Path) -> Result<Self> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| Error::io(path, "read the file", error))
        };
        let beside = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            let name = PathBuf::from(name);
            name.exists().then_some(name)
        };
        let mut rules = Vec::new();
        parse(&read(path)?, path, &mut rules)?;
        for suffix in [".homedirs", ".local"] {
            if let Some(path) = beside(suffix) {
                parse(&read(&path)?, &path, &mut rules)?;
            }
        }
        let mut aliases = Vec::new();
        for suffix in [".subs_dist", ".subs"] {
            if let Some(path) = beside(suffix) {
                let text = read(&path)?;
                let lines = text
                    .lines()
                    .map(|line| line.split('#').next().unwrap_or_default());
                aliases.extend(lines.filter_map(|line| {
                    let mut words = line.split_whitespace();
                    Some((words.next()?.into(), words.next()?.into()))
                }));
            }
        }
        rules.reverse();
        // A stable sort keeps the order within both kinds.
        rules.sort_by_key(|rule| rule.pattern.is_some());
        Ok(Contexts {
            rules,
            aliases,
            path: path.into(),
        })
    }

    /// Return the label of the file at `path`, relative to the root, if it has one.
    ///
    /// Return [`Error::Refused`] for an expression that is too large.
    pub fn find(&self, path: &Path, file_type: FileType) -> Result<Option<&str>> {
        let mut full = b"/".to_vec();
        full.extend_from_slice(path.as_os_str().as_bytes());
        for (alias, meant) in self.aliases.iter().rev() {
            if let Some(rest) = full.strip_prefix(alias.as_slice()) {
                if rest.is_empty() || rest.starts_with(b"/") {
                    full = [meant, rest].concat();
                    break;
                }
            }
        }
        for rule in &self.rules {
            if rule
                .matches(&full, file_type)
                .map_err(|why| Error::refused(&self.path, why))?
            {
                return Ok(rule.label.as_deref());
            }
        }
        Ok(None)
    }
}

/// A regular expression that would take too much memory.
#[derive(Debug, thiserror::Error)]
#[error("the expression '{0}' is too large")]
struct TooLarge(String);

impl Rule {
    fn matches(&self, path: &[u8], file_type: FileType) -> std::result::Result<bool, TooLarge> {
        if self.file_type.is_some_and(|only| only != file_type) || !path.starts_with(&self.stem) {
            return Ok(false);
        }
        match &self.pattern {
            None => Ok(path == self.stem),
            Some(pattern) => Ok(pattern.regex()?.is_match(path)),
        }
    }
}

impl Pattern {
    fn compile(text: &str) -> std::result::Result<Regex, regex::Error> {
        // In SELinux, `.` matches newlines, too, and the whole path must match.
        RegexBuilder::new(&format!("^(?:{text})$"))
            .unicode(false)
            .dot_matches_new_line(true)
            .size_limit(REGEX_SIZE)
            .build()
    }

    fn regex(&self) -> std::result::Result<&Regex, TooLarge> {
        let regex = self.regex.get_or_init(|| Self::compile(&self.text).ok());
        regex.as_ref().ok_or_else(|| TooLarge(self.text.clone()))
    }
}

/// Add the rules in `text`.
fn parse(text: &str, path: &Path, rules: &mut Vec<Rule>) -> Result<()> {
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| Err(Error::refused(path, format!("line {number}: {what}")));
        let words: Vec<&str> = line.split_whitespace().collect();
        let (text, file_type, label) = match words[..] {
            [text, label] => (text, None, label),
            [text, file_type, label] => match self::file_type(file_type) {
                Some(file_type) => (text, Some(file_type), label),
                None => return wrong(&format!("unknown file type '{file_type}'")),
            },
            _ => return wrong("expected an expression, a file type or none, and a label"),
        };
        let (stem, whole) = stem(text);
        let pattern = if whole {
            None
        } else {
            // Compiling thousands of expressions takes too long. Only check their syntax.
            if let Err(error) = regex_syntax::ParserBuilder::new()
                .unicode(false)
                .utf8(false)
                .build()
                .parse(text)
            {
                let error = error.to_string();
                let why = error.lines().last().unwrap_or_default().to_string();
                return wrong(&format!("the expression '{text}' is not understood: {why}"));
            }
            Some(Pattern {
                text: text.into(),
                regex: OnceCell::new(),
            })
        };
        rules.push(Rule {
            stem,
            pattern,
            file_type,
            label: (label != "<<none>>").then(|| label.into()),
        });
    }
    Ok(())
}

fn file_type(text: &str) -> Option<FileType> {
    Some(match text {
        "--" => FileType::Regular,
        "-d" => FileType::Directory,
        "-l" => FileType::Symlink,
        "-b" => FileType::BlockDevice,
        "-c" => FileType::CharDevice,
        "-p" => FileType::Fifo,
        "-s" => FileType::Socket,
        _ => return None,
    })
}

/// Return the literal bytes that an expression starts with, and whether the expression has no
/// others.
fn stem(text: &str) -> (Vec<u8>, bool) {
    let mut stem: Vec<u8> = Vec::new();
    // An alternative at the top level leaves no common start.
    let mut depth = 0;
    for byte in text.bytes() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'|' if depth <= 0 => return (stem, false),
            _ => (),
        }
    }
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.peek() {
                Some(next) if next.is_ascii_punctuation() => {
                    stem.push(*next);
                    bytes.next();
                }
                _ => return (stem, false),
            },
            b'.' | b'^' | b'$' | b'[' | b'(' | b'|' => return (stem, false),
            // They make the previous byte optional.
            b'?' | b'*' | b'+' | b'{' => {
                stem.pop();
                return (stem, false);
            }
            byte => stem.push(byte),
        }
    }
    (stem, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts(text: &str) -> Contexts {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file_contexts");
        std::fs::write(&path, text).unwrap();
        std::fs::write(
            directory.path().join("file_contexts.subs_dist"),
            "/lib64 /usr/lib\n",
        )
        .unwrap();
        Contexts::load(&path).unwrap()
    }

    #[test]
    fn last_and_literal_rules_win() {
        let contexts = contexts(
            "# comment\n\
             /.*\t\tsystem_u:object_r:default_t:s0\n\
             /\t-d\troot_t\n\
             /usr/lib(/.*)?  lib_t\n\
             /usr/lib/.*\\.so(\\.[^/]*)* -- so_t\n\
             /usr/lib/exact\\.so plain_t\n\
             /usr/lib/.* -l link_t\n\
             /proc(/.*)? <<none>>\n\
             /etc/x? x_t\n\
             /opt(x)|/srv/y{0,1} either_t\n",
        );
        let find = |path: &str, kind| contexts.find(Path::new(path), kind).unwrap();
        let regular = FileType::Regular;
        assert_eq!(find("", FileType::Directory), Some("root_t"));
        assert_eq!(
            find("a\nb", regular),
            Some("system_u:object_r:default_t:s0")
        );
        assert_eq!(find("usr/lib", FileType::Directory), Some("lib_t"));
        assert_eq!(find("usr/lib/a.so.1", regular), Some("so_t"));
        assert_eq!(find("usr/lib/a.so.1", FileType::Symlink), Some("link_t"));
        assert_eq!(find("usr/lib/a.so/b", regular), Some("lib_t"));
        assert_eq!(find("usr/lib/exact.so", FileType::Symlink), Some("plain_t"));
        assert_eq!(find("lib64/a.so", regular), Some("so_t"));
        assert_eq!(
            find("lib64x/a.so", regular),
            Some("system_u:object_r:default_t:s0")
        );
        assert_eq!(find("proc/1", FileType::Directory), None);
        assert_eq!(find("etc/", FileType::Directory), Some("x_t"));
        assert_eq!(find("srv/", regular), Some("either_t"));
        assert_eq!(find("optx", regular), Some("either_t"));
    }

    #[test]
    fn wrong_lines() {
        for (text, what) in [
            ("/a\n", "line 1: expected"),
            ("\n/a -x b\n", "line 2: unknown file type '-x'"),
            ("/a( b\n", "line 1: the expression '/a(' is not understood"),
            ("/(?=a) b\n", "is not understood"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("file_contexts");
            std::fs::write(&path, text).unwrap();
            let error = Contexts::load(&path).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
