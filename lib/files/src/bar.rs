// SPDX-License-Identifier: GPL-2.0-only

//! A progress bar on standard error, shown on a terminal when an operation takes longer than a
//! second.

use crate::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::mpsc::{channel, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Shorter operations show no bar.
const PATIENCE: Duration = Duration::from_secs(1);

const TICK: Duration = Duration::from_millis(100);

/// A progress bar.
pub struct Bar {
    bar: ProgressBar,
    /// Shows the bar in time, even while nothing is reported. Ends when the sender is dropped.
    timer: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Bar {
    /// Creates a bar that is hidden until its first step, or for good if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let mut timer = None;
        if !quiet && std::io::stderr().is_terminal() {
            let (sender, receiver) = channel();
            let shown = bar.clone();
            let show = move || {
                if receiver.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                    shown.set_draw_target(ProgressDrawTarget::stderr());
                    shown.enable_steady_tick(TICK);
                }
            };
            // If the thread cannot start, there is no bar.
            let thread = thread::Builder::new().spawn(show);
            timer = thread.ok().map(|thread| (sender, thread));
        }
        Bar { bar, timer }
    }

    /// Creates a bar for the step `name` of `total` bytes.
    pub fn of(name: &'static str, total: u64) -> Self {
        let bar = Bar::new(false);
        bar.step(name, total);
        bar
    }

    /// Calls `print` while the bar is hidden.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Removes the bar.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.timer.take() {
            drop(sender);
            let _ = thread.join();
        }
        self.clear();
    }
}

impl Progress for Bar {
    fn step(&self, name: &'static str, total: u64) {
        let template = match (total, name) {
            (0, "reading") => "{msg:>10} {spinner} {bytes} {elapsed}",
            (0, _) => "{msg:>10} {spinner} {elapsed}",
            _ => "{msg:>10} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec}",
        };
        self.bar.reset();
        self.bar.set_length(total);
        self.bar.set_message(name);
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }
}
