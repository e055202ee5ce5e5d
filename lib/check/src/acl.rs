// SPDX-License-Identifier: GPL-2.0-only

//! Access control lists as the extended attributes `system.posix_acl_access` and
//! `system.posix_acl_default` store them, under the rules of setxattr(2).

/// The version at the start of a list.
const VERSION: [u8; 4] = 2_u32.to_le_bytes();

/// Bytes of an entry.
const ENTRY: usize = 8;

/// The id of entries without a user or group.
pub const NOBODY: u32 = u32::MAX;

/// Kinds of entries, in their order in a list.
pub const USER_OBJ: u16 = 0x01;
/// A named user.
pub const USER: u16 = 0x02;
/// The file's group.
pub const GROUP_OBJ: u16 = 0x04;
/// A named group.
pub const GROUP: u16 = 0x08;
/// Upper limit on the permissions of named users and of all groups.
pub const MASK: u16 = 0x10;
/// All other users.
pub const OTHER: u16 = 0x20;

/// An entry of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The kind, such as [`USER_OBJ`].
    pub kind: u16,
    /// 4 to read, 2 to write, 1 to execute.
    pub bits: u16,
    /// The user or group, or [`NOBODY`].
    pub id: u32,
}

/// A list that setxattr(2) would accept: empty, or of at least three entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List(Vec<Entry>);

impl List {
    /// Parses the value of an extended attribute, or returns why setxattr(2) would refuse it.
    pub fn parse(value: &[u8]) -> Result<Self, &'static str> {
        let Some(entries) = value.strip_prefix(&VERSION) else {
            return Err("it has no version 2");
        };
        if entries.len() % ENTRY != 0 {
            return Err("its length is wrong");
        }
        let entries = entries.chunks_exact(ENTRY).map(|bytes| Entry {
            kind: u16::from_le_bytes([bytes[0], bytes[1]]),
            bits: u16::from_le_bytes([bytes[2], bytes[3]]),
            id: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        });
        Self::new(entries.collect())
    }

    /// Creates a list of `entries`, which must be in order.
    pub fn new(entries: Vec<Entry>) -> Result<Self, &'static str> {
        // Like the kernel's posix_acl_valid(): the kind of entry that may come next.
        let mut next = USER_OBJ;
        let mut named = false;
        for entry in &entries {
            if entry.bits > 7 {
                return Err("an entry has unknown permissions");
            }
            next = match (entry.kind, next) {
                (USER_OBJ, USER_OBJ) => USER,
                (USER, USER) | (GROUP, GROUP) if entry.id == NOBODY => {
                    return Err("an entry is for the id 4294967295, which is not a valid id")
                }
                (USER, USER) | (GROUP, GROUP) => {
                    named = true;
                    next
                }
                (GROUP_OBJ, USER) => GROUP,
                (MASK, GROUP) => OTHER,
                (OTHER, OTHER) => 0,
                (OTHER, GROUP) if !named => 0,
                (OTHER, GROUP) => return Err("it names users or groups and has no mask"),
                _ => return Err("its entries are not user, group, mask and other in this order"),
            };
        }
        if next == 0 || entries.is_empty() {
            Ok(List(entries))
        } else {
            Err("entries for user, group or other are missing")
        }
    }

    /// Returns true if the list is empty. Setting an empty list removes a file's list.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if permission bits cannot express the list. Such a list always has a mask,
    /// because entries for other users or groups require one.
    pub fn is_extended(&self) -> bool {
        self.0.iter().any(|entry| entry.kind == MASK)
    }

    /// Returns the permission bits of a file with this access list.
    pub fn permissions(&self) -> u16 {
        let bits = |kind| {
            let entry = self.0.iter().find(|entry| entry.kind == kind);
            entry.map(|entry| entry.bits)
        };
        let group = bits(MASK).or(bits(GROUP_OBJ));
        [bits(USER_OBJ), group, bits(OTHER)]
            .into_iter()
            .fold(0, |sum, bits| (sum << 3) | bits.unwrap_or(0))
    }

    /// Returns the value of the extended attribute.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_vec();
        for entry in &self.0 {
            bytes.extend_from_slice(&entry.kind.to_le_bytes());
            bytes.extend_from_slice(&entry.bits.to_le_bytes());
            bytes.extend_from_slice(&entry.id.to_le_bytes());
        }
        bytes
    }

    /// Formats the list as text, as archives store it: `user::rw-,user:1000:rwx,...`.
    pub fn to_text(&self) -> String {
        let entry = |entry: &Entry| {
            let kind = match entry.kind {
                USER_OBJ | USER => "user",
                GROUP_OBJ | GROUP => "group",
                MASK => "mask",
                _ => "other",
            };
            let id = match entry.kind {
                USER | GROUP => entry.id.to_string(),
                _ => String::new(),
            };
            let letter = |bit, letter| if entry.bits & bit != 0 { letter } else { '-' };
            let (r, w, x) = (letter(4, 'r'), letter(2, 'w'), letter(1, 'x'));
            format!("{kind}:{id}:{r}{w}{x}")
        };
        self.0.iter().map(entry).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entries = entries
            .iter()
            .map(|&(kind, bits, id)| Entry { kind, bits, id });
        List(entries.collect()).to_bytes()
    }

    const N: u32 = NOBODY;

    #[test]
    fn what_setxattr_takes() {
        for (entries, permissions, text) in [
            (
                &[(1, 6, N), (4, 4, N), (32, 0, N)][..],
                0o640,
                "user::rw-,group::r--,other::---",
            ),
            (
                &[
                    (1, 7, N),
                    (2, 7, 10),
                    (4, 7, N),
                    (8, 5, 20),
                    (16, 0, N),
                    (32, 1, N),
                ],
                0o701,
                "user::rwx,user:10:rwx,group::rwx,group:20:r-x,mask::---,other::--x",
            ),
            (
                &[(1, 7, N), (4, 0, N), (16, 7, N), (32, 0, N)],
                0o770,
                "user::rwx,group::---,mask::rwx,other::---",
            ),
        ] {
            let bytes = list(entries);
            let parsed = List::parse(&bytes).unwrap();
            assert_eq!(parsed.permissions(), permissions);
            assert_eq!(parsed.to_bytes(), bytes);
            assert_eq!(parsed.is_extended(), entries.len() > 3);
            assert_eq!(parsed.to_text(), text);
        }
        assert!(List::parse(&VERSION).unwrap().is_empty());
        for wrong in [
            &[(1, 6, N)][..],
            &[(1, 6, N), (4, 4, N)],
            &[(4, 4, N), (1, 6, N), (32, 0, N)],
            &[(1, 8, N), (4, 4, N), (32, 0, N)],
            &[(1, 6, N), (2, 4, 10), (4, 4, N), (32, 0, N)],
            &[(1, 6, N), (2, 4, N), (4, 4, N), (16, 7, N), (32, 0, N)],
            &[(1, 6, N), (4, 4, N), (32, 0, N), (32, 0, N)],
            &[(1, 6, N), (4, 4, N), (64, 0, N), (32, 0, N)],
        ] {
            assert!(List::parse(&list(wrong)).is_err(), "{wrong:?}");
        }
        for wrong in [&b""[..], b"\x02\0\0", b"\x01\0\0\0", b"\x02\0\0\0\x01"] {
            assert!(List::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
