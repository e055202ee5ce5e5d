// SPDX-License-Identifier: GPL-2.0-only

//! The name of an artifact on the command line.

use daxfs_image::error::{Error, Result};
use daxfs_image::text::{is_control, shown};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Where an artifact is: `oci:DIRECTORY[:NAME]`.
pub struct Reference {
    /// The argument, as messages show it.
    pub text: String,
    /// The image layout.
    pub directory: PathBuf,
    /// A name or a digest.
    pub name: Option<String>,
}

impl Reference {
    /// Parse an argument. The name starts after the first colon, as for skopeo.
    pub fn parse(argument: &OsStr) -> Result<Self> {
        let text = shown(argument.as_bytes());
        let refuse = |why: &'static str| Err(Error::refused(&text, why));
        let Some(rest) = argument.as_bytes().strip_prefix(b"oci:") else {
            return refuse(
                "is not an artifact in an OCI layout; write oci:DIRECTORY:NAME \
                 (skopeo copies artifacts between that and a registry)",
            );
        };
        let mut parts = rest.splitn(2, |&byte| byte == b':');
        let directory = parts.next().unwrap_or_default();
        if directory.is_empty() {
            return refuse("has no directory; write oci:DIRECTORY:NAME");
        }
        let name = match parts.next().map(std::str::from_utf8) {
            None => None,
            Some(Ok(name)) if !name.is_empty() && !name.contains(is_control) => Some(name.into()),
            Some(_) => return refuse("has no name after the colon; write oci:DIRECTORY:NAME"),
        };
        Ok(Reference {
            directory: OsStr::from_bytes(directory).into(),
            name,
            text,
        })
    }

    /// Create an error about the artifact.
    pub fn refuse(&self, why: impl Into<String>) -> Error {
        Error::refused(&self.text, why.into())
    }
}

#[cfg(test)]
mod tests {
    use super::Reference;
    use std::ffi::OsStr;

    #[test]
    fn references() {
        let parse = |text: &str| Reference::parse(OsStr::new(text));
        let named = parse("oci:dir/layout:example.org:5000/name:tag").unwrap();
        assert_eq!(named.directory.as_os_str(), "dir/layout");
        assert_eq!(named.name.as_deref(), Some("example.org:5000/name:tag"));
        assert_eq!(parse("oci:layout").unwrap().name, None);
        for wrong in [
            "",
            "layout:1",
            "docker://a/b:1",
            "oci:",
            "oci::1",
            "oci:a:",
            "oci:a:\n",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
