// SPDX-License-Identifier: GPL-2.0-only

//! Mount options, as in mount(8).

use daxfs_files::values::sha256;
use rustix::mount::MountAttrFlags;
use std::path::PathBuf;

/// Mount options, grouped by destination.
#[derive(Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// For the mount itself.
    pub attributes: MountAttrFlags,
    /// For any filesystem: names and values.
    pub generic: Vec<(String, Option<String>)>,
    /// For this filesystem: names and values.
    pub filesystem: Vec<(String, Option<String>)>,
    /// Files and devices with packs.
    pub packs: Vec<PathBuf>,
}

/// Returns true if this value of `pack=` is for the kernel: a SHA-256, optionally followed by a
/// place on the image's device.
pub fn is_for_kernel(pack: &str) -> bool {
    let sum = pack.split_once(':').map_or(pack, |(sum, _)| sum);
    sha256(sum).is_ok()
}

/// Returns the mount attributes that the option `word` of mount(8) sets, and those that it clears
/// first. Options for mount(8) itself, and for writers, which daxfs never has, do neither.
fn attributes(word: &str) -> Option<(MountAttrFlags, MountAttrFlags)> {
    let none = MountAttrFlags::empty();
    let atime = MountAttrFlags::MOUNT_ATTR__ATIME;
    let strictatime = MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    let nosuid = MountAttrFlags::MOUNT_ATTR_NOSUID;
    let nodev = MountAttrFlags::MOUNT_ATTR_NODEV;
    let noexec = MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let nodiratime = MountAttrFlags::MOUNT_ATTR_NODIRATIME;
    let nosymfollow = MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW;
    Some(match word {
        "nosuid" => (nosuid, none),
        "suid" => (none, nosuid),
        "nodev" => (nodev, none),
        "dev" => (none, nodev),
        "noexec" => (noexec, none),
        "exec" => (none, noexec),
        "nosymfollow" => (nosymfollow, none),
        "symfollow" => (none, nosymfollow),
        "nodiratime" => (nodiratime, none),
        "diratime" => (none, nodiratime),
        "noatime" => (MountAttrFlags::MOUNT_ATTR_NOATIME, atime),
        "strictatime" => (strictatime, atime),
        "nostrictatime" => (none, strictatime),
        "relatime" | "atime" => (none, atime),
        "user" | "users" => (nosuid | nodev | noexec, none),
        "owner" | "group" => (nosuid | nodev, none),
        "" | "ro" | "rw" | "defaults" | "auto" | "noauto" | "nouser" | "nousers" | "noowner"
        | "nogroup" | "nofail" | "_netdev" | "loop" | "silent" | "loud" | "iversion"
        | "noiversion" | "mand" | "nomand" | "norelatime" => (none, none),
        // X-mount.subdir= and the like would have an effect.
        _ if word.starts_with("X-mount.") => return None,
        _ => {
            let comments = ["x-", "X-", "comment=", "user=", "uhelper=", "helper="];
            let mut comments = comments.iter();
            comments.find(|start| word.starts_with(**start))?;
            (none, none)
        }
    })
}

const GENERIC: [&str; 9] = [
    "sync",
    "async",
    "dirsync",
    "lazytime",
    "nolazytime",
    "context",
    "fscontext",
    "defcontext",
    "rootcontext",
];

impl MountOptions {
    /// Sorts `words`, such as `nosuid` and `check=none`. The last of conflicting words wins.
    pub fn parse(words: &[String]) -> Self {
        let mut options = MountOptions {
            attributes: MountAttrFlags::empty(),
            generic: Vec::new(),
            filesystem: Vec::new(),
            packs: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut word = word.clone();
            // A quoted value may contain commas: context="system_u:object_r:tmp_t:s0:c1,c2".
            while word.matches('"').count() % 2 == 1 {
                let Some(rest) = words.next() else { break };
                word = format!("{word},{rest}");
            }
            if let Some((set, clear)) = attributes(&word) {
                options.attributes = options.attributes.difference(clear) | set;
                continue;
            }
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.trim_matches('"').to_owned())),
                None => (word.as_str(), None),
            };
            match (name, value) {
                ("pack", Some(pack)) if !is_for_kernel(&pack) => options.packs.push(pack.into()),
                // First, because packs are searched for in the domain.
                ("domain", value) => options.filesystem.insert(0, (name.into(), value)),
                (_, value) if GENERIC.contains(&name) => options.generic.push((name.into(), value)),
                (_, value) => options.filesystem.push((name.into(), value)),
            }
        }
        options
    }

    /// Returns true if the option `name` is set for this filesystem.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.filesystem.iter().any(|(option, _)| option == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn packs() {
        let sum = format!("pack={}", "0".repeat(64));
        let words = ["pack=a/b".into(), sum.clone() + ":0x200000:4K", sum];
        let words = words
            .into_iter()
            .chain(["domain=x".into(), "pack=1:b".into()]);
        let words: Vec<String> = words.collect();
        let options = MountOptions::parse(&words);
        assert_eq!(options.packs, [Path::new("a/b"), Path::new("1:b")]);
        let names: Vec<_> = options.filesystem.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["domain", "pack", "pack"]);
    }

    #[test]
    fn options_are_sorted() {
        let parse = |text: &str| {
            let words: Vec<_> = text.split(',').map(str::to_owned).collect();
            MountOptions::parse(&words)
        };
        let options =
            parse("rw,nosuid,check=none,sync,context=\"a:b,c\",noexec,X-mount.subdir=a,odd");
        assert_eq!(
            options.attributes,
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC
        );
        let option = |(name, value): (&str, Option<&str>)| (name.to_owned(), value.map(Into::into));
        let expected = [
            ("check", Some("none")),
            ("X-mount.subdir", Some("a")),
            ("odd", None),
        ];
        assert_eq!(options.filesystem, expected.map(option));
        let expected = [("sync", None), ("context", Some("a:b,c"))];
        assert_eq!(options.generic, expected.map(option));
        assert_eq!(
            parse("noatime,strictatime,relatime,nosuid,nodev,suid,dev"),
            parse("")
        );
        assert_eq!(parse("noatime,norelatime,nostrictatime"), parse("noatime"));
    }
}
