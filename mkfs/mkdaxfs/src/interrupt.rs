// SPDX-License-Identifier: GPL-2.0

//! Leaves no temporary file behind when a signal ends the program.

use daxfs::signals::not_ignored;
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
        let mut signals = Signals::new(not_ignored(&SIGNALS))
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
