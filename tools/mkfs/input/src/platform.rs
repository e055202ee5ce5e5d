// SPDX-License-Identifier: GPL-2.0-only

//! Processor and operating system of a container image.

use serde::Deserialize;
use std::fmt;

/// Selects one of several images.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Platform {
    os: String,
    architecture: String,
    pub(crate) variant: Option<String>,
}

impl Default for Platform {
    /// Return Linux on this machine's processor, which has the name that Go gives it.
    fn default() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "loongarch64" => "loong64",
            other => other,
        };
        Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: None,
        }
    }
}

impl std::str::FromStr for Platform {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let words: Vec<_> = text.split('/').collect();
        match words[..] {
            [os, architecture, ref variant @ ..]
                if variant.len() < 2 && words.iter().all(|word| !word.is_empty()) =>
            {
                Ok(Platform {
                    os: os.into(),
                    architecture: architecture.into(),
                    variant: variant.first().map(|&variant| variant.into()),
                })
            }
            _ => Err("use OS/ARCH or OS/ARCH/VARIANT, as in linux/arm64"),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl Platform {
    /// Return true if an image for `other` is one for this platform.
    pub fn fits(&self, other: &Platform) -> bool {
        let variant = self.variant.is_none() || other.variant == self.variant;
        other.os == self.os && other.architecture == self.architecture && variant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for wrong in ["", "linux", "linux/", "/arm", "a/b/c/d", "a/b/"] {
            assert!(wrong.parse::<Platform>().is_err(), "{wrong}");
        }
    }
}
