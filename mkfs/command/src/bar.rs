// SPDX-License-Identifier: GPL-2.0-only

//! A progress bar on standard error, if that is a terminal, for operations that take longer than a
//! second.

use daxfs_check::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Show no bar for operations that take less than this.
const PATIENCE: Duration = Duration::from_secs(1);

/// Interval at which the bar is redrawn.
const TICK: Duration = Duration::from_millis(100);

/// A progress bar.
pub struct Bar {
    bar: ProgressBar,
    start: Instant,
    /// The bar is visible already, or must stay hidden.
    settled: AtomicBool,
}

impl Bar {
    /// Create a bar that is hidden before its first step. It stays hidden if `quiet`.
    pub fn new(quiet: bool) -> Self {
        Bar {
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            start: Instant::now(),
            settled: AtomicBool::new(quiet),
        }
    }

    /// Create a bar for the step `name` of `total` bytes.
    pub fn of(name: &'static str, total: u64) -> Self {
        let bar = Bar::new(false);
        bar.step(name, total);
        bar
    }

    /// Call `print` while the bar is hidden.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Remove the bar.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn show_in_time(&self) {
        if self.start.elapsed() > PATIENCE && !self.settled.swap(true, Ordering::Relaxed) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(TICK);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Progress for Bar {
    fn step(&self, name: &'static str, total: u64) {
        let template = if total == 0 {
            "{msg:>10} {spinner}"
        } else {
            "{msg:>10} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}"
        };
        self.bar.reset();
        self.bar.set_length(total);
        self.bar.set_message(name);
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.show_in_time();
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        self.show_in_time();
    }
}
