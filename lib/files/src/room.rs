// SPDX-License-Identifier: GPL-2.0-only

//! The limit on open files.

use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};

/// Maximum number of files open besides the counted ones.
const OTHER_FILES: usize = 64;

/// Raises the limit on open files so that `count` more fit, as far as the process may.
pub fn make_room(count: usize) {
    let limits = getrlimit(Resource::Nofile);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let wanted = (open + count + OTHER_FILES) as u64;
    let current = match limits.current {
        Some(current) if current < wanted => {
            Some(limits.maximum.map_or(wanted, |maximum| maximum.min(wanted)))
        }
        _ => return,
    };
    let maximum = limits.maximum;
    // If this fails, opening a file reports it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
}
