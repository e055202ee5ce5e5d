// SPDX-License-Identifier: GPL-2.0

//! How the library tells how far it is.

/// Hears how far the work is, from any thread.
pub trait Progress: Sync {
    /// The step called `name` begins; it has `total` bytes to do.
    fn step(&self, name: &'static str, total: u64);

    /// `bytes` more are done.
    fn advance(&self, bytes: u64);
}

/// Nobody listens.
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _name: &'static str, _total: u64) {}

    fn advance(&self, _bytes: u64) {}
}
