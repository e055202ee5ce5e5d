// SPDX-License-Identifier: GPL-2.0-only

//! Reading DER, the encoding of certificates and of CMS messages (ITU-T X.690).
//!
//! Only what these need is accepted: tags of one byte, and lengths below 65536 in their shortest
//! form. The kernel's decoder accepts more, but reads the same from encodings that this one
//! accepts.

/// Tag of an INTEGER.
pub const INTEGER: u8 = 0x02;
/// Tag of a BIT STRING.
pub const BIT_STRING: u8 = 0x03;
/// Tag of an OCTET STRING.
pub const OCTET_STRING: u8 = 0x04;
/// Tag of an OBJECT IDENTIFIER.
pub const OBJECT: u8 = 0x06;
/// Tag of a SEQUENCE.
pub const SEQUENCE: u8 = 0x30;
/// Tag of a SET.
pub const SET: u8 = 0x31;
/// Tag of a UTCTime.
pub const UTC_TIME: u8 = 0x17;
/// Tag of a GeneralizedTime.
pub const GENERALIZED_TIME: u8 = 0x18;
/// Constructed tag that a type gives a meaning to, `[0]`.
pub const CONTEXT_0: u8 = 0xa0;

/// An element: tag, length and content.
#[derive(Clone, Copy)]
pub struct Element<'a> {
    /// Tag.
    pub tag: u8,
    /// All bytes.
    pub whole: &'a [u8],
    /// Bytes after tag and length.
    pub content: &'a [u8],
}

impl<'a> Element<'a> {
    /// Return a reader of the elements in this one.
    pub fn inside(&self) -> Reader<'a> {
        Reader::new(self.content)
    }
}

/// Reads one element after another.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Start at the first byte of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    /// Return true after the last element.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Return the tag of the next element, if there is one.
    pub fn tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Return the next element; `None` at the end or if it is invalid.
    pub fn any(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        // Such a tag has more bytes.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x82 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes
                    .iter()
                    .fold(0, |length, &byte| (length << 8) | usize::from(byte));
                // The shortest form has no leading zero, and is not used for less than 128.
                if bytes.first() == Some(&0) || length < 0x80 {
                    return None;
                }
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        let whole = self.0.get(..self.0.len() - rest.len())?;
        self.0 = rest;
        Some(Element {
            tag,
            whole,
            content,
        })
    }

    /// Return the next element, which must have this `tag`.
    pub fn next(&mut self, tag: u8) -> Option<Element<'a>> {
        self.any().filter(|element| element.tag == tag)
    }

    /// Return the next element if it has this `tag`, and leave any other one.
    pub fn optional(&mut self, tag: u8) -> Option<Element<'a>> {
        match self.tag() {
            Some(next) if next == tag => self.any(),
            _ => None,
        }
    }

    /// Return `value` after the last element.
    pub fn end<T>(&self, value: T) -> Option<T> {
        self.is_empty().then_some(value)
    }

    /// Return the OBJECT IDENTIFIER of the next element, an AlgorithmIdentifier. Its parameters
    /// are one element at most, which is not looked at.
    pub fn algorithm(&mut self) -> Option<&'a [u8]> {
        let mut algorithm = self.next(SEQUENCE)?.inside();
        let object = algorithm.next(OBJECT)?.content;
        if !algorithm.is_empty() {
            algorithm.any()?;
        }
        algorithm.end(object)
    }

    /// Return the bytes of the next element, a BIT STRING of whole bytes.
    pub fn bits(&mut self) -> Option<&'a [u8]> {
        match self.next(BIT_STRING)?.content.split_first()? {
            (0, bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Return the next element, a time, in seconds since 1970.
    pub fn time(&mut self) -> Option<i64> {
        let element = self.any()?;
        let (year, rest) = match element.tag {
            // RFC 5280, 4.1.2.5.1: years from 1950 to 2049.
            UTC_TIME => match number(element.content, 2)? {
                (year @ 50..=99, rest) => (1900 + year, rest),
                (year, rest) => (2000 + year, rest),
            },
            GENERALIZED_TIME => number(element.content, 4)?,
            _ => return None,
        };
        let (month, rest) = number(rest, 2)?;
        let (day, rest) = number(rest, 2)?;
        let (hour, rest) = number(rest, 2)?;
        let (minute, rest) = number(rest, 2)?;
        let (second, rest) = number(rest, 2)?;
        let valid = rest == b"Z"
            && (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        valid.then(|| {
            ((days_before(year, month) + day - 1) * 24 + hour) * 3600 + minute * 60 + second
        })
    }
}

/// Return the number that `digits` decimal digits at the start of `text` give, and the rest.
fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    let mut value = 0;
    for &digit in number {
        value = value * 10 + i64::from(char::from(digit).to_digit(10)?);
    }
    Some((value, rest))
}

/// Return true if `year` has 366 days.
const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Return the number of days of `month`, from 1 to 12.
const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Return the number of days from 1970 to the start of `month`.
fn days_before(year: i64, month: i64) -> i64 {
    // Leap days of the Gregorian calendar before `year`, counted from year 0.
    let leap = |year: i64| (year + 3) / 4 - (year + 99) / 100 + (year + 399) / 400;
    let years = 365 * (year - 1970) + leap(year) - leap(1970);
    (1..month).fold(years, |days, month| days + days_in(year, month))
}
