// SPDX-License-Identifier: GPL-2.0-only

//! Values of options: labels, sizes, times.

const LABEL: usize = 64;

/// Seconds since 1970, and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub i64, pub u32);

/// What to write instead of a wrong value.
type Remedy = &'static str;

const BLOCK_SIZE: Remedy = "use 4K, 8K, 16K, 32K or 64K";
const SIZE: Remedy = "use a number of bytes, or one followed by K, M, G or T";
const TIME: Remedy = "use SECONDS or SECONDS.FRACTION since 1970";

/// Parses a label: UTF-8 without NUL, of at most 64 bytes.
pub fn label(text: &str) -> Result<String, String> {
    if text.len() > LABEL {
        return Err(format!("it has {} bytes, {LABEL} is the limit", text.len()));
    }
    if text.contains('\0') {
        return Err("it must not contain NUL".into());
    }
    Ok(text.into())
}

/// Parses a block size.
pub fn block_size(text: &str) -> Result<u32, Remedy> {
    match size(text).map(u32::try_from) {
        Ok(Ok(size)) if size.is_power_of_two() && (4096..=65536).contains(&size) => Ok(size),
        _ => Err(BLOCK_SIZE),
    }
}

/// Parses a number of bytes with an optional suffix K, M, G or T.
pub fn size(text: &str) -> Result<u64, Remedy> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        Some(b't' | b'T') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let (digits, radix) = match digits.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (digits, 10),
    };
    if digits.starts_with('+') {
        return Err(SIZE);
    }
    let number = u64::from_str_radix(digits, radix).map_err(|_| SIZE)?;
    number
        .checked_mul(1 << shift)
        .filter(|&size| size <= i64::MAX as u64)
        .ok_or(SIZE)
}

/// Parses a size to which images can be padded: a multiple of 4096, up to 1 TiB.
pub fn multiple(text: &str) -> Result<u64, Remedy> {
    match size(text)? {
        size if size > 0 && size % 4096 == 0 && size <= 1 << 40 => Ok(size),
        _ => Err("use a multiple of 4096 up to 1T"),
    }
}

/// Parses seconds with up to nine decimals. The fraction counts upwards from the second, as in
/// `stat`.
pub fn time(text: &str) -> Result<Time, Remedy> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
    if fraction.is_empty() || fraction.len() > 9 || !digits {
        return Err(TIME);
    }
    let nanoseconds = format!("{fraction:0<9}").parse().map_err(|_| TIME)?;
    let seconds = seconds.parse().map_err(|_| TIME)?;
    Ok(Time(seconds, nanoseconds))
}

/// Parses the number of a user or group.
pub fn id(text: &str) -> Result<u32, Remedy> {
    let wrong = "use a number below 4294967295, which id -u NAME prints of a user, \
                 and getent group NAME of a group";
    // Linux has no user and no group -1.
    let id = text.parse().ok();
    id.filter(|&id| id != u32::MAX).ok_or(wrong)
}

/// Parses a SHA-256: 64 hexadecimal digits. Returns them in lower case.
pub fn sha256(text: &str) -> Result<String, Remedy> {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("use the 64 hexadecimal digits that daxfs digest prints")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time("0"), Ok(Time(0, 0)));
        assert_eq!(time("-1.5"), Ok(Time(-1, 500_000_000)));
        assert_eq!(time("4294967296.000000001"), Ok(Time(1 << 32, 1)));
        assert_eq!(time("-9223372036854775808"), Ok(Time(i64::MIN, 0)));
        let wrong = "|.|1.|.5|1.0000000000|9223372036854775808|1.-1|1 |1e3";
        for wrong in wrong.split('|') {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("4k"), Ok(4096));
        assert_eq!(size("2M"), Ok(2 << 20));
        assert_eq!(size("0x200000"), Ok(2 << 20));
        assert_eq!(size("1T"), Ok(1 << 40));
        let wrong = "|M|1.5M|-1|+1|1 M|1MB|9223372036854775808|16777216T";
        for wrong in wrong.split('|') {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(multiple("4096"), Ok(4096));
        assert_eq!(block_size("4K"), Ok(4096));
        assert_eq!(block_size("65536"), Ok(65536));
        for wrong in ["2K", "128K", "5000", "4096M", "4T", "K"] {
            assert!(block_size(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0", "4097", "2T"] {
            assert!(multiple(wrong).is_err(), "{wrong}");
        }
    }
}
