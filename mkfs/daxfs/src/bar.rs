// SPDX-License-Identifier: GPL-2.0

//! The progress bar of the programs, on a terminal only, of what takes longer than a second.

use crate::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What takes no longer is done without a bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the bar is drawn even if nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// A progress bar on standard error.
pub struct Bar {
    bar: ProgressBar,
    start: Instant,
    /// Whether it will not be shown any more: because it is, or because nobody wants it.
    settled: AtomicBool,
}

impl Bar {
    /// A bar that shows nothing before its first step, and nothing ever if `quiet` or if standard error is no terminal.
    pub fn new(quiet: bool) -> Self {
        Bar {
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            start: Instant::now(),
            settled: AtomicBool::new(quiet),
        }
    }

    /// A bar for the step `name`, of `total` bytes.
    pub fn of(name: &'static str, total: u64) -> Self {
        let bar = Bar::new(false);
        bar.step(name, total);
        bar
    }

    /// Prints something without the bar in its way.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Removes the bar.
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
