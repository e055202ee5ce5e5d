// SPDX-License-Identifier: GPL-2.0-only

//! Limits the memory that ordinary users' mounts keep pinned.

use crate::linux::security::user_memory;
use crate::prelude::*;

/// Minimum charge for an image or a pack, in bytes, because each also uses kernel memory.
const LEAST: u64 = 64 << 10;

global_mutex! {
    // Protects the bytes charged to each user, by user number. Do not wait under it, even for
    // memory: a user at the limit would block others.
    static CHARGED: Option<RBTree<u32, u64>> = None;
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
        let node = RBTreeNode::new(uid, bytes, GFP_KERNEL_ACCOUNT)?;
        let mut charged = CHARGED.lock();
        let all = charged.get_or_insert_with(RBTree::new);
        let before = all.get(&uid).copied().unwrap_or(0);
        let after = before.saturating_add(bytes);
        if after > most {
            drop(charged);
            refuse!(Errno::Quota =>
                "your mounts keep {before} bytes of memory pinned, and {bytes} more are more than \
                 {most}";
                "unmount other images, or ask root to raise daxfs.user_memory");
        }
        match all.get_mut(&uid) {
            Some(sum) => *sum = after,
            None => drop(all.insert(node)),
        }
        Ok(Charge { uid, bytes })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut charged = CHARGED.lock();
        let Some(all) = charged.as_mut() else {
            return;
        };
        if let Some(sum) = all.get_mut(&self.uid) {
            *sum -= self.bytes;
            if *sum == 0 {
                all.remove(&self.uid);
            }
        }
    }
}
