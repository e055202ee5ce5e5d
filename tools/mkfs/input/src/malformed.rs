// SPDX-License-Identifier: GPL-2.0-only

//! Errors of members of an archive.

use daxfs_writer::Reason;

/// Something is wrong with the member that starts at byte `at` of an archive.
#[derive(Debug, thiserror::Error)]
#[error("{why} (member at byte {at})")]
pub(crate) struct AtMember {
    pub at: u64,
    #[source]
    pub why: Reason,
}
