// SPDX-License-Identifier: GPL-2.0-only

//! Memory that ordinary users' mounts keep pinned.

use crate::linux::security::user_memory;
use crate::prelude::*;

/// The least to charge for an image or a pack, in bytes: each costs the kernel memory, too.
const LEAST: u64 = 64 << 10;

global_mutex! {
    // Protects the bytes that each user is charged for, by number. Only memory is waited for under
    // it.
    static CHARGED: KVec<(u32, u64)> = KVec::new();
}

/// A part of the memory that a user may keep pinned.
pub(super) struct Charge {
    uid: u32,
    bytes: u64,
}

impl Charge {
    /// Charges `user` for `bytes` of memory.
    ///
    /// Errors: `EDQUOT` if that is more than the module's parameter `user_memory` allows, `ENOMEM`.
    pub(super) fn new(user: User, bytes: u64) -> Result<Self, Refusal> {
        let (uid, bytes, most) = (user.uid, bytes.max(LEAST), user_memory());
        let mut charged = CHARGED.lock();
        let place = charged.iter().position(|entry| entry.0 == uid);
        let before = place.map_or(0, |place| charged[place].1);
        let after = before.saturating_add(bytes);
        if after > most {
            refuse!(Errno::Quota =>
                "your mounts keep {before} bytes of memory pinned, and {bytes} more are more than \
                 {most}";
                "unmount other images, or ask root to raise daxfs.user_memory");
        }
        match place {
            Some(place) => charged[place].1 = after,
            None => charged.push((uid, after), GFP_KERNEL)?,
        }
        Ok(Charge { uid, bytes })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut charged = CHARGED.lock();
        for entry in charged.iter_mut().filter(|entry| entry.0 == self.uid) {
            entry.1 -= self.bytes;
        }
        charged.retain(|entry| entry.1 > 0);
        if charged.is_empty() {
            // The module may be unloaded next.
            *charged = KVec::new();
        }
    }
}
