// SPDX-License-Identifier: GPL-2.0-only

//! The messages and services of containerd.services: `snapshots.v1` and `diff.v1`.

use std::collections::HashMap;

#[allow(clippy::too_many_lines, missing_docs)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/api.rs"));
}

pub use generated::containerd::services::diff::v1::{
    diff_client, diff_server, ApplyRequest, ApplyResponse, DiffRequest, DiffResponse,
};
pub use generated::containerd::services::snapshots::v1::*;
pub use generated::containerd::types::{Descriptor, Mount};

/// Labels of a snapshot.
pub type Labels = HashMap<String, String>;
