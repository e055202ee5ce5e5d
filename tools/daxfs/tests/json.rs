// SPDX-License-Identifier: GPL-2.0-only

//! The commands' JSON matches the schema in the documentation.

use crate::support::fixture;
use daxfs_testing::image_of;
use serde_json::{json, Value};
use std::collections::BTreeSet;

const SCHEMA: &str = include_str!("../../../Documentation/daxfs.schema.json");

/// Checks that `value` is valid and has this `schema`.
pub fn check(schema: &str, value: &Value) {
    assert_eq!(value["schema"], schema, "{value}");
    let all: Value = serde_json::from_str(SCHEMA).unwrap();
    members(&all, &all, value).unwrap();
    // An undescribed member is an error, and so is a missing one.
    let mut more = value.clone();
    more["surprise"] = json!(1);
    assert!(members(&all, &all, &more).is_err(), "{schema}");
    let mut less = value.clone();
    less.as_object_mut().unwrap().remove("schema");
    assert!(members(&all, &all, &less).is_err(), "{schema}");
}

/// Returns the members that `schema`, a part of `all`, describes, or why `value` does not match.
fn members<'a>(
    all: &'a Value,
    schema: &'a Value,
    value: &Value,
) -> Result<BTreeSet<&'a str>, String> {
    let mut described = BTreeSet::new();
    let mut closed = false;
    let regex = |rule: &Value| regex::Regex::new(rule.as_str().unwrap()).unwrap();
    let list = |rule: &'a Value| rule.as_array().unwrap();
    let matching = |rule| {
        list(rule)
            .iter()
            .filter(|rule| members(all, rule, value).is_ok())
            .count()
    };
    for (keyword, rule) in schema.as_object().unwrap() {
        let matches = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let at = rule.as_str().unwrap().trim_start_matches('#');
                described.extend(members(all, all.pointer(at).unwrap(), value)?);
                true
            }
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64() || value.is_u64(),
                other => panic!("type {other}"),
            },
            "const" => value == rule,
            "enum" => list(rule).contains(value),
            "minimum" => value.as_f64() >= rule.as_f64(),
            "maximum" => value.as_f64() <= rule.as_f64(),
            "minItems" => value.as_array().map(|items| items.len() as u64) >= rule.as_u64(),
            "pattern" => regex(rule).is_match(value.as_str().unwrap_or_default()),
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    members(all, rule, item)?;
                }
                true
            }
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    described.insert(name);
                    if let Some(member) = value.get(name) {
                        members(all, rule, member)?;
                    }
                }
                true
            }
            "required" => list(rule)
                .iter()
                .all(|name| value.get(name.as_str().unwrap()).is_some()),
            "oneOf" => matching(rule) == 1,
            "anyOf" => matching(rule) > 0,
            "additionalProperties" | "unevaluatedProperties" => {
                closed = *rule == json!(false);
                closed
            }
            other => panic!("keyword {other}"),
        };
        if !matches {
            return Err(format!("{value}: {keyword} {rule}"));
        }
    }
    let unknown = |name: &&String| !described.contains(name.as_str());
    match value
        .as_object()
        .and_then(|object| object.keys().find(unknown))
    {
        Some(name) if closed => Err(format!("{name} in {value}")),
        _ => Ok(described),
    }
}

#[test]
fn every_command() {
    let place = fixture();
    place.shell("printf x >source/$'odd\\xff'");
    let flags = rustix::fs::XattrFlags::empty();
    // Without it, there is one member less.
    let _ = rustix::fs::lsetxattr(place.path("source/file"), "user.name", b"\xff", flags);
    image_of(&place.path("source"), &place.path("image")).unwrap();
    for (schema, line) in [
        ("daxfs-info-1", "daxfs info --json image"),
        ("daxfs-dump-1", "daxfs dump image"),
        ("daxfs-dump-1", "daxfs dump --sums image"),
        (
            "daxfs-store-1",
            "daxfs store init --size 8M disk; daxfs store list --json disk",
        ),
    ] {
        println!("{line}");
        check(schema, &place.ok(line).json());
    }
}
