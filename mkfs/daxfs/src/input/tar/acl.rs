// SPDX-License-Identifier: GPL-2.0

//! Access control lists as archives have them, in words, and as the kernel has them.

/// The version of the kernel's form.
const VERSION: u32 = 2;

/// The id of entries that have none.
const NOBODY: u32 = u32::MAX;

/// Kinds of entries, in the order of the kernel's form.
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The kernel's form of a list like `user::rw-,user:lisa:rw-:1000,group::r--,mask::r--,other::---`; none if it says no
/// more than permission bits do, and is not that of a `default`.
///
/// # Errors
///
/// What is wrong with it.
pub fn binary(text: &[u8], default: bool) -> Result<Option<Vec<u8>>, String> {
    let text = String::from_utf8_lossy(text);
    let mut entries: Vec<(u16, u32, u16)> = Vec::new();
    for entry in text.split([',', '\n']) {
        let entry = entry.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let wrong = || {
            format!(
                "the access control list has the entry '{}'",
                entry.escape_debug()
            )
        };
        let entry = entry.strip_prefix("default:").unwrap_or(entry);
        let fields: Vec<&str> = entry.split(':').collect();
        let (kind, who, permissions, id) = match fields[..] {
            // These two are for nobody in particular and may leave that out.
            [kind @ ("mask" | "m" | "other" | "o"), permissions] => (kind, "", permissions, None),
            [kind, who, permissions] => (kind, who, permissions, None),
            [kind, who, permissions, id] => (kind, who, permissions, Some(id)),
            _ => return Err(wrong()),
        };
        let (kind, names) = match (kind, who) {
            ("user" | "u", "") => (USER_OBJ, None),
            ("user" | "u", _) => (USER, Some("/etc/passwd")),
            ("group" | "g", "") => (GROUP_OBJ, None),
            ("group" | "g", _) => (GROUP, Some("/etc/group")),
            ("mask" | "m", "") => (MASK, None),
            ("other" | "o", "") => (OTHER, None),
            _ => return Err(wrong()),
        };
        let id = match names {
            None => NOBODY,
            Some(names) => {
                let number = id.unwrap_or(who).parse().ok();
                number.or_else(|| find(names, who)).ok_or_else(|| {
                    format!(
                        "{}: nobody is called that here; make the archive with numeric owners",
                        wrong()
                    )
                })?
            }
        };
        let mut bits = 0;
        for letter in permissions.trim().chars() {
            bits |= match letter {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                '-' => 0,
                _ => return Err(wrong()),
            };
        }
        entries.push((kind, id, bits));
    }
    entries.sort_unstable_by_key(|&(kind, id, _)| (kind, id));
    let more = entries
        .iter()
        .any(|(kind, ..)| kind & (USER | GROUP | MASK) != 0);
    if entries.is_empty() || !(more || default) {
        return Ok(None);
    }
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (kind, id, bits) in entries {
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&bits.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    Ok(Some(bytes))
}

/// The id of `name` in a file like passwd(5).
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
    use super::binary;

    #[test]
    fn lists() {
        let list = b"user::rw-,group::r--,mask::rw-,other::---,group:nobody:r-x:77,user:1000:r--";
        let expected: Vec<u8> = [
            (1u16, 6u16, u32::MAX),
            (2, 4, 1000),
            (4, 4, u32::MAX),
            (8, 5, 77),
            (16, 6, u32::MAX),
            (32, 0, u32::MAX),
        ]
        .iter()
        .flat_map(|(kind, bits, id)| {
            [
                &kind.to_le_bytes()[..],
                &bits.to_le_bytes(),
                &id.to_le_bytes(),
            ]
            .concat()
        })
        .collect();
        let found = binary(list, false).unwrap().unwrap();
        assert_eq!(found, [&2u32.to_le_bytes()[..], &expected].concat());
        let root = binary(
            b"u::rwx\ngroup:root:r--\ng::---\nm:r--\no::---\t#comment\n",
            false,
        );
        assert_eq!(root.unwrap().unwrap().len(), 4 + 5 * 8);
        let plain = b"user::rw-,group::r--,other::---";
        assert_eq!(binary(plain, false), Ok(None));
        assert!(binary(plain, true).unwrap().is_some());
        assert_eq!(binary(b"", true), Ok(None));
        for wrong in [
            "user",
            "user:a:b:c:d",
            "x::r--",
            "user::rwz",
            "mask:5:r--",
            "user:no such user:r--",
        ] {
            assert!(binary(wrong.as_bytes(), false).is_err(), "{wrong}");
        }
    }
}
