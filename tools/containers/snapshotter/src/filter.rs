// SPDX-License-Identifier: GPL-2.0-only

//! Filters of `List`, in containerd's language.
//!
//! A filter is a list of conditions with commas between them, which must all hold: a field, or a
//! field, an operator and a value. Fields are `name`, `parent`, `kind` and `labels.NAME`; parts of a
//! field may be quoted. Without an operator, the field must be there and not empty. The operators are
//! `==`, `!=` and `~=`, for a regular expression. A value is a text up to a comma, or in quotation marks; for `~=` also
//! between two slashes or bars.

use crate::api::Kind;
use crate::error::{Error, Result};
use crate::record::Record;
use regex::bytes::{Regex, RegexBuilder};

/// A filter.
#[derive(Debug)]
pub struct Filter {
    conditions: Vec<Condition>,
}

#[derive(Debug)]
struct Condition {
    field: Vec<String>,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Present,
    Equal(String),
    Unequal(String),
    Matches(Regex),
}

impl Filter {
    /// Parse a filter.
    ///
    /// Return [`Error::Invalid`], with the place.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser { text, at: 0 };
        let mut conditions = Vec::new();
        if !text.is_empty() {
            conditions.push(parser.condition()?);
        }
        while parser.take(",") {
            conditions.push(parser.condition()?);
        }
        match parser.rest() {
            "" => Ok(Filter { conditions }),
            _ => Err(parser.error("expected a comma")),
        }
    }

    /// Return whether `record` matches.
    pub fn matches(&self, record: &Record) -> bool {
        self.conditions.iter().all(|condition| {
            let value = field(record, &condition.field);
            let text = value.unwrap_or_default();
            match &condition.test {
                Test::Present => !text.is_empty(),
                Test::Equal(wanted) => value == Some(wanted),
                Test::Unequal(unwanted) => text != unwanted,
                Test::Matches(regex) => regex.is_match(text.as_bytes()),
            }
        })
    }
}

/// Return the value of a field of `record`, if it is there.
fn field<'a>(record: &'a Record, path: &[String]) -> Option<&'a str> {
    let (first, rest) = path.split_first()?;
    match (first.as_str(), rest) {
        ("name", []) => Some(&record.name),
        ("parent", []) => Some(&record.parent),
        ("kind", []) => Some(match record.kind() {
            Kind::View => "view",
            Kind::Active => "active",
            Kind::Committed => "committed",
            Kind::Unknown => "unknown",
        }),
        ("labels", rest) if !rest.is_empty() => {
            record.labels.get(&rest.join(".")).map(String::as_str)
        }
        _ => None,
    }
}

struct Parser<'a> {
    text: &'a str,
    /// Offset of the unread rest.
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self, what: &str) -> Error {
        let (text, at) = (self.text, self.at);
        Error::Invalid(format!("filter {text:?}: {what} at byte {at}"))
    }

    /// Skip `word` if it comes next.
    fn take(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn condition(&mut self) -> Result<Condition> {
        let mut field = vec![self.part()?];
        while self.take(".") {
            field.push(self.part()?);
        }
        let test = if self.take("==") {
            Test::Equal(self.value(&['"'])?)
        } else if self.take("!=") {
            Test::Unequal(self.value(&['"'])?)
        } else if self.take("~=") {
            let start = self.at;
            let pattern = self.value(&['"', '/', '|'])?;
            // As in Go, classes such as \w cover ASCII only.
            let regex = RegexBuilder::new(&pattern).unicode(false).build();
            Test::Matches(regex.map_err(|_| {
                self.at = start;
                self.error("expected a regular expression")
            })?)
        } else {
            Test::Present
        };
        Ok(Condition { field, test })
    }

    /// Read a part of the path of a field.
    fn part(&mut self) -> Result<String> {
        if self.rest().starts_with('"') {
            return self.quoted('"');
        }
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let part = &rest[..end.unwrap_or(rest.len())];
        if !part.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(self.error("expected a field"));
        }
        self.at += part.len();
        Ok(part.into())
    }

    /// Read a value, which may be quoted by one of `quotes`.
    fn value(&mut self, quotes: &[char]) -> Result<String> {
        let rest = self.rest();
        if let Some(quote) = rest.chars().next().filter(|first| quotes.contains(first)) {
            return self.quoted(quote);
        }
        let end = rest.find(|c: char| c == ',' || c.is_whitespace());
        let value = &rest[..end.unwrap_or(rest.len())];
        if value.is_empty() {
            return Err(self.error("expected a value"));
        }
        self.at += value.len();
        Ok(value.into())
    }

    /// Read a text in quotation marks. A backslash before a quotation mark makes it part of the text.
    /// Between / or |, a backslash before any other character is kept.
    fn quoted(&mut self, quote: char) -> Result<String> {
        let mut text = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((offset, c)) = characters.next() {
            match c {
                _ if c == quote => {
                    self.at += offset + c.len_utf8();
                    return Ok(text);
                }
                '\\' => match (characters.next(), quote) {
                    (Some((_, next)), _) if next == quote => text.push(next),
                    (Some((_, '\\')), '"') => text.push('\\'),
                    (Some((_, 'n')), '"') => text.push('\n'),
                    (Some((_, 't')), '"') => text.push('\t'),
                    (Some((_, next)), '/' | '|') => text.extend(['\\', next]),
                    _ => return Err(self.error("unknown escape in the text")),
                },
                _ => text.push(c),
            }
        }
        Err(self.error("unterminated text"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::State;

    #[test]
    fn conditions() {
        let labels = [
            ("containerd.io/snapshot.ref", "sha256:ab"),
            ("empty", ""),
            ("quote\"d", "a,b"),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let record = Record::new("default/1/key", "base", State::Active, labels.into());
        for (filter, wanted) in [
            ("", true),
            ("name==default/1/key", true),
            ("name==default/1", false),
            ("kind==active,parent==base", true),
            ("kind==active,parent==other", false),
            ("kind!=committed", true),
            (r#"labels."containerd.io/snapshot.ref"==sha256:ab"#, true),
            (r#"labels."containerd.io/snapshot.ref"~=^sha256:"#, true),
            (
                r#"labels."containerd.io/snapshot.ref"~=/^sha256:\w+$/"#,
                true,
            ),
            (r#"labels."containerd.io/snapshot.ref"~=|b{2}|"#, false),
            (r#"labels."containerd.io/snapshot.ref""#, true),
            (r#"labels."quote\"d"=="a,b",kind"#, true),
            ("labels.empty", false),
            ("labels.none", false),
            ("labels.none!=x", true),
            ("labels.none==x", false),
            ("size==1", false),
        ] {
            assert_eq!(
                Filter::parse(filter).unwrap().matches(&record),
                wanted,
                "{filter}"
            );
        }
    }

    #[test]
    fn errors() {
        for filter in [
            "==a",
            "name==",
            "name==a b",
            "name,",
            "labels.\"a",
            "name~=(",
            "name=\"a\"",
            "name==\"\\q\"",
        ] {
            let error = Filter::parse(filter).unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument, "{filter}");
            assert!(error.to_string().contains("at byte"), "{error}");
        }
    }
}
