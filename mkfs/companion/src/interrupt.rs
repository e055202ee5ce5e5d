// SPDX-License-Identifier: GPL-2.0

//! Signals that end the program, seen where there is something to clean up first.

use crate::text::cause;
use crate::Result;
use daxfs::signals::not_ignored;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::emulate_default_handler;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

const SIGNALS: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// Remembers the signal that came.
pub struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// From now on signals are remembered instead of ending the program.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn new() -> Result<Self> {
        let interrupt = Interrupt(Arc::default());
        for signal in not_ignored(&SIGNALS) {
            signal_hook::flag::register_usize(signal, Arc::clone(&interrupt.0), signal as usize)
                .map_err(|error| format!("cannot handle signals: {}", cause(&error)))?;
        }
        Ok(interrupt)
    }

    /// None, which nothing interrupts.
    pub fn none() -> Self {
        Interrupt(Arc::default())
    }

    /// Fails if a signal has come.
    ///
    /// # Errors
    ///
    /// That it has.
    pub fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err("interrupted".into()),
        }
    }

    /// Everything is cleaned up: does what the signal that came, if any, does by itself.
    pub fn obey(&self) {
        let signal = self.0.load(Ordering::Relaxed);
        if signal != 0 {
            let _ = emulate_default_handler(signal as i32);
        }
    }
}
