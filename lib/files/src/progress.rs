// SPDX-License-Identifier: GPL-2.0-only

//! Progress reports.

/// Receives reports of how far an operation is, from any thread.
pub trait Progress: Sync {
    /// The step `name` of `total` bytes starts. 0 means that the number is not known.
    fn step(&self, name: &'static str, total: u64);

    /// `bytes` more are done.
    fn advance(&self, bytes: u64);
}

/// Ignores all reports.
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _name: &'static str, _total: u64) {}

    fn advance(&self, _bytes: u64) {}
}
