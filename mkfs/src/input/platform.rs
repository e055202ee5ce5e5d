// SPDX-License-Identifier: GPL-2.0-only

//! Processor and operating system of a container image.

use serde::Deserialize;
use std::fmt;

/// Selects one of several images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// The operating system; in arguments with its features in parentheses: `linux(+erofs)`.
    os: String,
    #[serde(rename = "os.features")]
    features: Option<Vec<String>>,
    /// Go's name for the processor.
    pub architecture: String,
    variant: Option<String>,
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
                    features: None,
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
        write!(f, "{}/{}", self.system(), self.architecture)?;
        match self.variant.as_deref() {
            None | Some("") => Ok(()),
            Some(variant) => write!(f, "/{variant}"),
        }
    }
}

impl Platform {
    /// Returns Linux on this machine's processor, under Go's name.
    pub fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "loongarch64" => "loong64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            other => other,
        };
        Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            ..Platform::default()
        }
    }

    /// Returns the operating system with the features that an image requires.
    fn system(&self) -> String {
        let mut features = self.features.clone().unwrap_or_default();
        features.sort();
        if features.is_empty() {
            self.os.to_lowercase()
        } else {
            format!("{}(+{})", self.os.to_lowercase(), features.join("+"))
        }
    }

    /// Returns the architecture by Go's name, and the variant, by default the usual one.
    fn processor(&self) -> (String, String) {
        let architecture = self.architecture.to_lowercase();
        let variant = self.variant.as_deref().unwrap_or_default().to_lowercase();
        let (architecture, usual) = match &*architecture {
            "amd64" | "x86_64" | "x86-64" => ("amd64", "v1"),
            "arm64" | "aarch64" => ("arm64", "v8"),
            "arm" | "armhf" => ("arm", "v7"),
            "armel" => ("arm", "v6"),
            "386" | "i386" => ("386", ""),
            other => (other, ""),
        };
        let variant = if variant.is_empty() {
            usual.into()
        } else {
            variant
        };
        (architecture.into(), variant)
    }

    /// Returns false if a program wrote the platform without knowing it.
    pub fn is_known(&self) -> bool {
        !self.architecture.is_empty()
    }

    /// Ranks how well `image` fits this platform: the later the processor version that it requires,
    /// the better.
    ///
    /// Returns `None` if the image does not run here. The rules are containerd's, except that
    /// images of other architectures never fit, such as 386 on amd64.
    pub fn rank(&self, image: &Platform) -> Option<(u32, u32)> {
        let ((architecture, wanted), (other, variant)) = (self.processor(), image.processor());
        if image.system() != self.system() || other != architecture {
            return None;
        }
        let numbered = matches!(&*architecture, "amd64" | "arm" | "arm64");
        let versions = version(&wanted).zip(version(&variant));
        let Some((wanted, found)) = versions.filter(|_| numbered) else {
            let exact = variant == wanted;
            return (exact || variant.is_empty()).then_some((exact.into(), 0));
        };
        // Armv9.0 includes all of Armv8.5.
        let runs = match (&*architecture, wanted.0, found.0) {
            ("arm64", 9, 8) => found.1 <= wanted.1 + 5,
            ("arm64", a, b) if a != b => false,
            _ => found <= wanted,
        };
        runs.then_some(found)
    }
}

/// Returns the numbers of a variant such as `v7`, `8` or `v8.2`.
fn version(variant: &str) -> Option<(u32, u32)> {
    let numbers = variant.strip_prefix('v').unwrap_or(variant);
    let (major, minor) = numbers.split_once('.').unwrap_or((numbers, "0"));
    major.parse().ok().zip(minor.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        for text in ["linux/amd64", "linux/arm/v7", "linux(+erofs)/amd64"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for wrong in ["", "linux", "linux/", "/arm", "a/b/c/d", "a/b/"] {
            assert!(wrong.parse::<Platform>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn best() {
        // The requested platform, the images in their order, and the chosen one.
        for (wanted, images, best) in [
            ("amd64", "amd64/v3 amd64", "amd64"),
            ("amd64", "amd64/v3 amd64/v2", ""),
            ("amd64/v3", "amd64 amd64/v4 amd64/v2 386", "amd64/v2"),
            ("x86_64", "amd64/v1", "amd64/v1"),
            ("arm", "arm/v5 arm/v7 arm/v6", "arm/v7"),
            ("arm", "arm/v5 arm/v8 arm/v6", "arm/v6"),
            ("arm/6", "arm/v5 arm arm/v7", "arm/v5"),
            ("arm/v5", "arm arm/v7", ""),
            ("armel", "arm/v7 arm/v6", "arm/v6"),
            ("arm64/v8", "arm64", "arm64"),
            ("arm64", "arm64/v9 arm64/v8", "arm64/v8"),
            ("aarch64/v9.1", "arm64/v8.7 arm64/v8.6 arm64", "arm64/v8.6"),
            ("arm64/v8.1", "arm/v7 arm64/v8.2 arm64", "arm64"),
            ("riscv64", "riscv64/rva23u64 riscv64", "riscv64"),
            ("ppc64le/power9", "ppc64le/power10 ppc64le", "ppc64le"),
            ("ppc64le/power9", "ppc64le/power9 ppc64le", "ppc64le/power9"),
        ] {
            let parse = |text: &str| format!("linux/{text}").parse::<Platform>().unwrap();
            let wanted = parse(wanted);
            let ranked = images
                .split(' ')
                .map(|text| (wanted.rank(&parse(text)), text));
            let (rank, found) = ranked.max().unwrap();
            assert_eq!(rank.map_or("", |_| found), best, "{images}");
        }
    }
}
