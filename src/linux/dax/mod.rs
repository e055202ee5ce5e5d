// SPDX-License-Identifier: GPL-2.0-only

//! DAX devices: memory that filesystems use without the block layer.
//!
//! * [`Device`]: a device, and where its memory is
//! * [`Held`]: a device with a [`Holder`], to which it announces failures and its removal
//! * [`Node`]: an open DAX character device, and its bus
//! * [`DeviceMemory`]: memory of a device that is mapped into the kernel
//!
//! C headers: `include/linux/dax.h`, `include/linux/memremap.h`.

mod device;
mod holder;
mod memory;
mod node;

pub(crate) use device::{make_and_kill, Device};
pub(crate) use holder::{Held, Holder, HolderId};
pub(crate) use memory::{DeviceMemory, MapError};
pub(crate) use node::Node;
