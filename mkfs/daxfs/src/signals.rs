// SPDX-License-Identifier: GPL-2.0

//! Which signals a program should handle.

/// Those of `signals` that are not ignored: who starts a program with a signal ignored, like nohup, wants it to live on.
/// All of them if the system does not tell.
pub fn not_ignored(signals: &[i32]) -> Vec<i32> {
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
