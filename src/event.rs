// SPDX-License-Identifier: GPL-2.0-only

//! Events of a mounted image that are counted.

/// An event that is counted.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    /// A read.
    Read,
    /// A byte that was read.
    ReadByte,
    /// A page fault that mapped one page.
    PteFault,
    /// A page fault that mapped a page and pages around it.
    AroundFault,
    /// A page fault that set a PMD entry.
    PmdFault,
    /// A page fault that failed, but not because of failed memory.
    FailedFault,
    /// A page fault on memory that has failed.
    PoisonedFault,
    /// A record or data that cannot be read.
    IoError,
    /// A record that is invalid.
    InvalidRecord,
    /// A piece that was verified before its first use.
    VerifiedPiece,
    /// A piece that does not match its SHA-256.
    BadPiece,
}
