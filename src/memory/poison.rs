// SPDX-License-Identifier: GPL-2.0-only

//! Memory that is known to have failed.
//!
//! DAX devices announce failures to their holder, or list them as bad blocks, which readers of a
//! [`lease`](super::lease) notice. For other memory the kernel has no notifier, so
//! [`resources`](super::resources) watches a tracepoint.
//!
//! A reserved range has struct pages only while it is mounted. Its failed frames are recorded here
//! until the module is unloaded, so that the next mount refuses them too.

use crate::linux::global_mutex;
pub(super) use crate::linux::mm::poison::*;
use crate::linux::pagemap::OwnDax;
use kernel::prelude::*;

global_mutex! {
    static FRAMES: KVec<usize> = KVec::new();
}

/// Empties the record of failed frames.
pub(super) fn forget() {
    *FRAMES.lock() = KVec::new();
}

/// Records page frame `frame` as failed, because its struct page does not last.
pub(super) fn record(frame: usize) {
    let mut frames = FRAMES.lock();
    if !frames.contains(&frame) && frames.push(frame, GFP_KERNEL).is_err() {
        pr_warn!(
            "no memory to record that page frame {:#x} has failed\n",
            frame
        );
    }
}

/// Marks the recorded frames of `own`, whose struct pages are new.
pub(super) fn mark_recorded(own: &OwnDax) {
    for &frame in FRAMES.lock().iter() {
        if let Some(frame) = own.frame(frame) {
            frame.mark();
        }
    }
}
