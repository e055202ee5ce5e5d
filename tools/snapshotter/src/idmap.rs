// SPDX-License-Identifier: GPL-2.0-only

//! Containers' user namespaces. containerd labels snapshots with their mappings if its
//! configuration gives the plugin the capability `remap-ids`.

use crate::error::{Error, Result};
use crate::record::{Record, State};

/// The labels with the mappings of users and groups.
const LABELS: [&str; 2] = [
    "containerd.io/snapshot/uidmapping",
    "containerd.io/snapshot/gidmapping",
];

/// Mappings of users and groups: first ID in the container, first ID on the host, and their number.
pub struct IdMap<'a> {
    texts: [&'a str; 2],
    ranges: [Vec<[u32; 3]>; 2],
}

impl<'a> IdMap<'a> {
    /// Returns the mappings of an active snapshot, or `None` without such labels.
    ///
    /// Returns [`Error::Invalid`] if a label is missing or is not a mapping.
    pub fn of(record: &'a Record) -> Result<Option<Self>> {
        let texts = LABELS.map(|label| record.labels.get(label).map_or("", String::as_str));
        if record.state != State::Active || texts == ["", ""] {
            return Ok(None);
        }
        let [users, groups] = [0, 1].map(|kind| {
            ranges(texts[kind]).ok_or_else(|| {
                Error::Invalid(format!(
                    "{}: the label {} is '{}'; expected a mapping such as 0:100000:65536",
                    record.name, LABELS[kind], texts[kind]
                ))
            })
        });
        let ranges = [users?, groups?];
        Ok(Some(IdMap { texts, ranges }))
    }

    /// Returns the options that containerd uses for idmapped mounts of lower layers.
    pub fn options(&self) -> [String; 2] {
        let [users, groups] = self.texts;
        [format!("uidmap={users}"), format!("gidmap={groups}")]
    }

    /// Converts a user and a group in the container to those on the host.
    ///
    /// Returns [`Error::Invalid`] if an ID is not mapped.
    pub fn owner(&self, uid: u32, gid: u32) -> Result<(u32, u32)> {
        let [users, groups] = &self.ranges;
        Ok((on_host(users, uid)?, on_host(groups, gid)?))
    }
}

/// Returns the ranges of a mapping, or `None` if it is invalid.
fn ranges(text: &str) -> Option<Vec<[u32; 3]>> {
    let range = |text: &str| {
        let numbers: Option<Vec<u32>> = text.split(':').map(|number| number.parse().ok()).collect();
        let range: [u32; 3] = numbers?.try_into().ok()?;
        let [inside, outside, count] = range;
        (count > 0 && inside.checked_add(count).is_some() && outside.checked_add(count).is_some())
            .then_some(range)
    };
    let mut ranges: Vec<[u32; 3]> = text.split(',').map(range).collect::<Option<_>>()?;
    for side in [1, 0] {
        ranges.sort_unstable_by_key(|range| range[side]);
        let mut neighbours = ranges.windows(2);
        if neighbours.any(|pair| pair[0][side] + pair[0][2] > pair[1][side]) {
            return None;
        }
    }
    Some(ranges)
}

/// Converts an ID in the container to that on the host.
fn on_host(ranges: &[[u32; 3]], id: u32) -> Result<u32> {
    let in_range = |&[inside, outside, count]: &[u32; 3]| {
        let offset = id.checked_sub(inside).filter(|offset| *offset < count)?;
        Some(outside + offset)
    };
    ranges.iter().find_map(in_range).ok_or_else(|| {
        Error::Invalid(format!(
            "the root directory belongs to the ID {id}, which the user namespace does not map; map it"
        ))
    })
}
