// SPDX-License-Identifier: GPL-2.0

//! The progress bar, on a terminal only.

use daxfs::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// How often the bar is drawn even if nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// A progress bar on standard error.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar that shows nothing before its first step, and nothing ever if `quiet` or if standard error is no
    /// terminal.
    pub fn new(quiet: bool) -> Self {
        let target = if quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        Bar(ProgressBar::with_draw_target(None, target))
    }

    /// Prints something without the bar in its way.
    pub fn suspend(&self, print: impl FnOnce()) {
        self.0.suspend(print);
    }

    /// Removes the bar.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Bar {
    fn step(&self, name: &'static str, total: u64) {
        if self.0.is_hidden() {
            return;
        }
        let template = if total == 0 {
            "{msg:>9} {spinner}"
        } else {
            "{msg:>9} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}"
        };
        self.0.reset();
        self.0.set_length(total);
        self.0.set_message(name);
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style.progress_chars("=> "));
        }
        self.0.enable_steady_tick(TICK);
    }

    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}
