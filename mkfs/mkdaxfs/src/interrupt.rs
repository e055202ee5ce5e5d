// SPDX-License-Identifier: GPL-2.0

//! Leaves no temporary file behind when a signal ends the program.

use daxfs::{Error, Output, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Signals that end the program.
const SIGNALS: [i32; 5] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ];

/// Knows what must be removed.
pub struct Cleanup(Arc<Mutex<Option<PathBuf>>>);

impl Cleanup {
    /// From now on the signals remove what [`Cleanup::guard`] made; then they do what they always do.
    pub fn new() -> Result<Self> {
        let cleanup = Cleanup(Arc::default());
        let ignored = ignored();
        // Who starts a program with a signal ignored, like nohup, wants it to live on.
        let wanted = SIGNALS
            .iter()
            .filter(|&&signal| (ignored >> (signal - 1)) & 1 == 0);
        let mut signals = Signals::new(wanted)
            .map_err(|error| Error::io(Path::new("mkdaxfs"), "handle signals", error))?;
        let file = Arc::clone(&cleanup.0);
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                // The lock stays taken, so that no new file appears.
                let file = lock(&file);
                if let Some(path) = &*file {
                    let _ = std::fs::remove_file(path);
                }
                let _ = emulate_default_handler(signal);
                std::process::exit(1);
            }
        });
        Ok(cleanup)
    }

    /// Creates the output, which a signal will remove.
    pub fn guard(&self, create: impl FnOnce() -> Result<Output>) -> Result<Output> {
        let mut file = lock(&self.0);
        let output = create()?;
        *file = output.temporary().map(PathBuf::from);
        Ok(output)
    }

    /// The output is complete, there is nothing to remove any more.
    pub fn done(&self) {
        *lock(&self.0) = None;
    }
}

fn lock(file: &Mutex<Option<PathBuf>>) -> MutexGuard<'_, Option<PathBuf>> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The set of ignored signals; none if the system does not tell.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
