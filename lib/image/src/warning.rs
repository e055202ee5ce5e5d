// SPDX-License-Identifier: GPL-2.0-only

//! Warnings of the libraries. The program chooses where they go; by default they are dropped.

use std::fmt::Display;
use std::sync::OnceLock;

static SINK: OnceLock<fn(&dyn Display)> = OnceLock::new();

/// Sends all later warnings to `sink`. Only the first call has an effect.
pub fn send_to(sink: fn(&dyn Display)) {
    let _ = SINK.set(sink);
}

/// Sends a warning to the program.
pub fn warn(warning: impl Display) {
    if let Some(sink) = SINK.get() {
        sink(&warning);
    }
}
