// SPDX-License-Identifier: GPL-2.0-only

//! Progress reports.

/// Receives progress reports, from any thread.
pub trait Progress: Sync {
    /// Starts the step `name` of `total` bytes, 0 if the number is unknown.
    fn step(&self, name: &'static str, total: u64);

    /// Adds `bytes` to the finished bytes of the step.
    fn advance(&self, bytes: u64);
}

/// Ignores all reports.
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _name: &'static str, _total: u64) {}

    fn advance(&self, _bytes: u64) {}
}
