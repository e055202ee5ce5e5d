// SPDX-License-Identifier: GPL-2.0-only

//! Warnings of the libraries. The program chooses where they go; without a choice they go nowhere.

use std::fmt::Display;
use std::sync::OnceLock;

static SINK: OnceLock<fn(&dyn Display)> = OnceLock::new();

/// Sends all warnings from now on to `sink`. Later calls have no effect.
pub fn send_to(sink: fn(&dyn Display)) {
    let _ = SINK.set(sink);
}

/// Sends a warning to the program.
pub fn warn(warning: impl Display) {
    if let Some(sink) = SINK.get() {
        sink(&warning);
    }
}
