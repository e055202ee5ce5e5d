// SPDX-License-Identifier: GPL-2.0-only

//! Changes of permissions, in the syntax of chmod(1).

/// Changes to the permission bits of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeChange(Vec<Clause>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clause {
    /// Bits that may change: 0o7777, or the bits of owner, group or others.
    who: u16,
    operator: Operator,
    /// Bits to add, to remove or to set.
    bits: u16,
    /// `X`: execute permission for directories, and for files with any execute permission.
    search: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

/// Set-id and sticky bits.
const SPECIAL: u16 = 0o7000;

/// A text that is not a [`ModeChange`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a mode; use octal digits or changes like u=rwX,go-w")]
pub struct ModeError(String);

impl std::str::FromStr for ModeChange {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        let wrong = || ModeError(text.into());
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let bits = u16::from_str_radix(text, 8).ok();
            let bits = bits.filter(|&bits| bits <= 0o7777).ok_or_else(wrong)?;
            return Ok(ModeChange(vec![Clause {
                who: 0o7777,
                operator: Operator::Set,
                bits,
                search: false,
            }]));
        }
        let mut clauses = Vec::new();
        for clause in text.split(',') {
            let start = clause.find(['+', '-', '=']).ok_or_else(wrong)?;
            let who = who(&clause[..start]).ok_or_else(wrong)?;
            let mut rest = &clause[start..];
            while !rest.is_empty() {
                let operator = match rest.as_bytes()[0] {
                    b'+' => Operator::Add,
                    b'-' => Operator::Remove,
                    _ => Operator::Set,
                };
                let end = rest[1..]
                    .find(['+', '-', '='])
                    .map_or(rest.len(), |end| end + 1);
                let (bits, search) = what(&rest[1..end]).ok_or_else(wrong)?;
                clauses.push(Clause {
                    who,
                    operator,
                    bits,
                    search,
                });
                rest = &rest[end..];
            }
        }
        Ok(ModeChange(clauses))
    }
}

fn who(text: &str) -> Option<u16> {
    text.chars()
        .try_fold(0, |bits, letter| {
            Some(
                bits | match letter {
                    'u' => 0o4700,
                    'g' => 0o2070,
                    'o' => 0o1007,
                    'a' => 0o7777,
                    _ => return None,
                },
            )
        })
        .map(|bits| if bits == 0 { 0o7777 } else { bits })
}

fn what(text: &str) -> Option<(u16, bool)> {
    text.chars().try_fold((0, false), |(bits, search), letter| {
        Some(match letter {
            'r' => (bits | 0o444, search),
            'w' => (bits | 0o222, search),
            'x' => (bits | 0o111, search),
            's' => (bits | 0o6000, search),
            't' => (bits | 0o1000, search),
            'X' => (bits, true),
            _ => return None,
        })
    })
}

impl ModeChange {
    /// Apply the change to the permission bits `mode`.
    pub fn apply(&self, mut mode: u16, directory: bool) -> u16 {
        for clause in &self.0 {
            let mut bits = clause.bits;
            if clause.search && (directory || mode & 0o111 != 0) {
                bits |= 0o111;
            }
            // The sticky bit belongs to no class.
            let who = if bits & 0o1000 != 0 {
                clause.who | 0o1000
            } else {
                clause.who
            };
            let bits = bits & who;
            mode = match clause.operator {
                Operator::Add => mode | bits,
                Operator::Remove => mode & !bits,
                // As chmod(1): a directory keeps its set-id bits unless they are named.
                Operator::Set
                    if clause.who == 0o7777 && clause.bits & SPECIAL == 0 && !directory =>
                {
                    bits
                }
                Operator::Set => {
                    mode & !(clause.who & 0o777) & !(SPECIAL & clause.who & keep(directory)) | bits
                }
            };
        }
        mode
    }
}

/// Return the special bits that an assignment clears.
fn keep(directory: bool) -> u16 {
    if directory {
        0o1000
    } else {
        SPECIAL
    }
}

#[cfg(test)]
mod tests {
    use super::ModeChange;

    fn apply(text: &str, mode: u16, directory: bool) -> u16 {
        text.parse::<ModeChange>().unwrap().apply(mode, directory)
    }

    #[test]
    fn changes() {
        for (text, mode, directory, expected) in [
            ("755", 0o4600, false, 0o755),
            ("0", 0o777, false, 0),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("go-w", 0o666, false, 0o644),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("a=rX", 0o600, true, 0o555),
            ("a=rX", 0o600, false, 0o444),
            ("u+s", 0o755, false, 0o4755),
            ("g-s", 0o6755, false, 0o4755),
            ("+t", 0o777, true, 0o1777),
            ("-t", 0o1777, true, 0o777),
            ("u=rw-w+x", 0o000, false, 0o500),
            ("u=", 0o4755, false, 0o055),
        ] {
            assert_eq!(apply(text, mode, directory), expected, "{text} {mode:o}");
        }
        for wrong in ["", "8", "10000", "u", "u~x", "z+x", "u+q", "u+x,", "rw"] {
            assert!(wrong.parse::<ModeChange>().is_err(), "{wrong}");
        }
    }
}
