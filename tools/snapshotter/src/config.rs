// SPDX-License-Identifier: GPL-2.0-only

//! The configuration file.

use crate::error::{Error, Result};
use crate::options::CONFIG;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The configuration.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directory for snapshots.
    pub root: PathBuf,
    /// The Unix socket to listen on.
    pub socket: PathBuf,
    /// Directory with containerd's data, including the layers that are applied to snapshots.
    pub containerd: PathBuf,
    /// File for metrics, or an empty path.
    pub metrics: PathBuf,
    /// Whether to start in a separate mount namespace.
    #[serde(rename = "private-mounts")]
    pub private_mounts: bool,
    /// When to load images' packs.
    pub load: Load,
    /// Limit on the memory of all images together.
    pub memory: Limit,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            root: "/var/lib/daxfs-snapshotter".into(),
            socket: "/run/daxfs-snapshotter/daxfs-snapshotter.sock".into(),
            containerd: "/var/lib/containerd".into(),
            metrics: PathBuf::new(),
            private_mounts: false,
            load: Load::default(),
            memory: Limit::default(),
        }
    }
}

/// When to load images' packs.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// Before the image is mounted.
    #[default]
    All,
    /// When a file in the pack is opened.
    Demand,
}

/// A limit.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Limit {
    /// Bytes; 0 for no limit.
    #[serde(deserialize_with = "size")]
    pub limit: u64,
}

fn size<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    daxfs_files::values::size(&text).map_err(D::Error::custom)
}

impl Config {
    /// Reads the configuration file `path`. Returns the defaults if [`CONFIG`] does not exist.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && path == Path::new(CONFIG) => {
                return Ok(Config::default());
            }
            Err(error) => return Err(Error::io(path, "read")(error)),
        };
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| {
                text.as_bytes()[..span.start]
                    .iter()
                    .filter(|&&byte| byte == b'\n')
                    .count()
                    + 1
            });
            Error::Invalid(format!(
                "{}: line {line}: {}",
                daxfs_files::shown_path(path),
                error.message().replace('\n', " ")
            ))
        })
    }

    /// Checks that the paths are usable.
    pub fn check(&self) -> Result<()> {
        let given = |what, path| (!Path::as_os_str(path).is_empty()).then_some((what, path));
        let metrics = given("metrics", &self.metrics);
        let paths = [
            ("root", &*self.root),
            ("socket", &*self.socket),
            ("containerd", &*self.containerd),
        ];
        for (what, path) in paths.into_iter().chain(metrics) {
            let shown = daxfs_files::shown_path(path);
            if !path.is_absolute() {
                return Err(Error::Invalid(format!(
                    "{what} = {shown:?}: use an absolute path"
                )));
            }
            let Some(text) = path.to_str() else {
                return Err(Error::Invalid(format!("{what} = {shown:?}: use UTF-8")));
            };
            // These characters separate lower layers and options.
            if what == "root" && text.contains([':', ',', '\\', '"']) {
                return Err(Error::Invalid(format!(
                    "root = {shown:?}: overlayfs takes no colon, comma, backslash or quotation mark in the path"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::read(file.path())
    }

    #[test]
    fn packaged_file_has_the_defaults() {
        let text = include_str!("../../../debian/daxfs-snapshotter.toml");
        assert_eq!(parse(text).unwrap(), Config::default());
        // Commented lines show defaults, too.
        let set: String = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest)
                    if rest.starts_with(|c: char| c.is_ascii_lowercase())
                        && rest.contains(" = ") =>
                {
                    rest
                }
                _ => line,
            })
            .fold(String::new(), |text, line| text + line + "\n");
        assert_ne!(set, text);
        assert_eq!(parse(&set).unwrap(), Config::default());
        assert!(Config::read(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn values_and_errors() {
        let config = parse("root = \"/r\"\n[memory]\nlimit = \"3G\"\n").unwrap();
        assert_eq!(config.root, Path::new("/r"));
        assert_eq!(config.memory.limit, 3 << 30);
        assert!(parse("private-mounts = true\n").unwrap().private_mounts);
        let old = parse("metrics = \"127.0.0.1:9744\"\n").unwrap().check();
        let error = old.unwrap_err().to_string();
        assert!(error.starts_with("metrics = \"127.0.0.1:9744\": use an absolute"));
        for (text, wants) in [
            ("\nrot = 1\n", "line 2: unknown field `rot`"),
            (
                "[memory]\ndevice = \"/dev/pmem0\"\n",
                "line 2: unknown field `device`",
            ),
            ("[memory]\nlimit = \"much\"\n", "line 2"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(wants), "{error}");
        }
        for root in ["var", "/a:b", "/a,b"] {
            let config = Config {
                root: root.into(),
                ..Config::default()
            };
            assert_eq!(
                config.check().unwrap_err().code(),
                tonic::Code::InvalidArgument
            );
        }
    }
}
