// SPDX-License-Identifier: GPL-2.0-only

//! Signals that end a program, handled if the program must clean up first.
//!
//! * [`Cleanup`] removes the unfinished output immediately
//! * [`Interrupt`] remembers the signal, for code that checks for it and cleans up itself
//! * [`on_signal`] runs any code in a thread
//! * [`survive_limits`] turns exceeding the file size limit into an error

use crate::Output;
use signal_hook::consts::SIGXFSZ;
pub use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM};
use signal_hook::flag::{register, register_usize};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Returns the signals in `signals` that are not ignored.
///
/// A program started with a signal ignored, for example by nohup(1), must not react to it. If the
/// ignored signals are unknown, returns all.
fn not_ignored(signals: &[i32]) -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let mut signals = signals.to_vec();
    signals.retain(|signal| (ignored >> (signal - 1)) & 1 == 0);
    signals
}

/// Takes the default action of `signal`, which usually ends the process.
pub fn obey(signal: i32) {
    let _ = emulate_default_handler(signal);
}

/// Makes a write beyond the file size limit (`ulimit -f`) fail with `EFBIG` instead of ending the
/// program with SIGXFSZ. Unlike ignoring the signal, this does not affect child processes.
pub fn survive_limits() {
    // Without the handler the signal ends the program, as before.
    let _ = register(SIGXFSZ, Arc::default());
}

/// Calls `action` for each of `signals` that arrives, in a separate thread.
pub fn on_signal(signals: &[i32], mut action: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new(signals)?;
    thread::spawn(move || signals.forever().for_each(&mut action));
    Ok(())
}

/// Removes the unfinished outputs of a program when a signal ends it.
pub struct Cleanup(Arc<Mutex<Vec<PathBuf>>>);

impl Cleanup {
    /// Handles the signals that end a program: they first remove what [`Cleanup::guard`] created.
    pub fn new() -> io::Result<Self> {
        let cleanup = Cleanup(Arc::default());
        let files = Arc::clone(&cleanup.0);
        let ending = not_ignored(&[SIGHUP, SIGINT, SIGQUIT, SIGTERM]);
        on_signal(&ending, move |signal| {
            // Hold the lock until the end, so that no new file appears.
            let files = lock(&files);
            for path in &*files {
                let _ = std::fs::remove_file(path);
            }
            obey(signal);
            std::process::exit(1);
        })?;
        Ok(cleanup)
    }

    /// Calls `create` and, when a signal arrives, removes the output's temporary file.
    pub fn guard<E>(&self, create: impl FnOnce() -> Result<Output, E>) -> Result<Output, E> {
        let mut files = lock(&self.0);
        let output = create()?;
        files.extend(output.temporary().map(PathBuf::from));
        Ok(output)
    }

    /// Forgets the outputs, because they are complete.
    pub fn done(&self) {
        lock(&self.0).clear();
    }
}

fn lock(files: &Mutex<Vec<PathBuf>>) -> MutexGuard<'_, Vec<PathBuf>> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A signal arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Remembers the signal that arrived.
#[derive(Default)]
pub struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Remembers signals that end a program, instead of ending it.
    pub fn new() -> io::Result<Self> {
        let interrupt = Interrupt::default();
        for signal in not_ignored(&[SIGHUP, SIGINT, SIGQUIT, SIGTERM]) {
            register_usize(signal, Arc::clone(&interrupt.0), signal as usize)?;
        }
        Ok(interrupt)
    }

    /// Returns an instance that no signal interrupts.
    pub fn none() -> Self {
        Interrupt::default()
    }

    /// Fails if a signal has arrived.
    pub fn check(&self) -> Result<(), Interrupted> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err(Interrupted),
        }
    }

    /// Ends the process with the signal that arrived, if any. Call this after cleaning up.
    pub fn obey(&self) {
        let signal = self.0.load(Ordering::Relaxed);
        if signal != 0 {
            obey(signal as i32);
        }
    }
}
