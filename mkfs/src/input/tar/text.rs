// SPDX-License-Identifier: GPL-2.0-only

//! Converts access control lists from text, as in archives, to the kernel's form.

use daxfs_check::acl::{Entry, List, GROUP, GROUP_OBJ, MASK, NOBODY, OTHER, USER, USER_OBJ};
use daxfs_files::Reason;

/// Returns the kernel's form of a list like
/// `user::rw-,user:lisa:rw-:1000,group::r--,mask::r--,other::---`, or `None` if it is empty.
pub fn binary(text: &[u8]) -> Result<Option<Vec<u8>>, Reason> {
    let text = String::from_utf8_lossy(text);
    let mut entries: Vec<Entry> = Vec::new();
    for entry in text.split([',', '\n']) {
        let entry = entry.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let wrong = || format!("has an access control list with the entry '{entry}'");
        let entry = entry.strip_prefix("default:").unwrap_or(entry);
        let fields: Vec<&str> = entry.split(':').collect();
        let (kind, who, permissions, id) = match fields[..] {
            // These two have no user or group, and may omit the field.
            [kind @ ("mask" | "m" | "other" | "o"), permissions] => (kind, "", permissions, None),
            [kind, who, permissions] => (kind, who, permissions, None),
            [kind, who, permissions, id] => (kind, who, permissions, Some(id)),
            _ => return Err(wrong().into()),
        };
        let (kind, names) = match (kind, who) {
            ("user" | "u", "") => (USER_OBJ, None),
            ("user" | "u", _) => (USER, Some("/etc/passwd")),
            ("group" | "g", "") => (GROUP_OBJ, None),
            ("group" | "g", _) => (GROUP, Some("/etc/group")),
            ("mask" | "m", "") => (MASK, None),
            ("other" | "o", "") => (OTHER, None),
            _ => return Err(wrong().into()),
        };
        let id = match names {
            None => NOBODY,
            Some(names) => {
                let number = id.unwrap_or(who).parse().ok();
                let why = "no such user or group here; make the archive with numeric owners";
                number
                    .or_else(|| find(names, who))
                    .ok_or_else(|| format!("{}: {why}", wrong()))?
            }
        };
        let mut bits = 0;
        for letter in permissions.trim().chars() {
            bits |= match letter {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                '-' => 0,
                _ => return Err(wrong().into()),
            };
        }
        entries.push(Entry { kind, bits, id });
    }
    entries.sort_unstable_by_key(|entry| (entry.kind, entry.id));
    let list = List::new(entries);
    let list = list.map_err(crate::writer::acl::refused)?;
    Ok((!list.is_empty()).then(|| list.to_bytes()))
}

/// Returns the id of `name` in a file like passwd(5).
fn find(file: &str, name: &str) -> Option<u32> {
    let text = std::fs::read(file).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use daxfs_testing::builder::access_list;

    #[test]
    fn lists() {
        let list = b"user::rw-,group::r--,mask::rw-,other::---,group:nobody:r-x:77,user:1000:r--";
        let expected = access_list(&[
            (1, 6, NOBODY),
            (2, 4, 1000),
            (4, 4, NOBODY),
            (8, 5, 77),
            (16, 6, NOBODY),
            (32, 0, NOBODY),
        ]);
        assert_eq!(binary(list).unwrap(), Some(expected));
        let root = binary(b"u::rwx\ngroup:root:r--\ng::---\nm:r--\no::---\t#comment\n");
        assert_eq!(root.unwrap().unwrap().len(), 4 + 5 * 8);
        let plain = b"user::rw-,group::r--,other::---";
        assert_eq!(binary(plain).unwrap().unwrap().len(), 4 + 3 * 8);
        assert_eq!(binary(b"").unwrap(), None);
        let wrong = "user|user:a:b:c:d|x::r--|user::rwz|mask:5:r--|user:no such user:r--|\
            user::rwx|user::rwx,group::r--,group:1:r--,other::---|\
            user::rwx,user::rwx,group::r--,other::---";
        for wrong in wrong.split('|') {
            assert!(binary(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
