// SPDX-License-Identifier: GPL-2.0-only

//! DAX devices: memory that filesystems use without the block layer
//! (`include/linux/dax.h`, `include/linux/memremap.h`).

mod device;
mod holder;
mod memory;
mod node;

pub(crate) use device::{
    make_and_kill,
    Device, //
};
pub(crate) use holder::{
    Held,
    Holder,
    HolderId,
    Removed, //
};
pub(crate) use memory::DeviceMemory;
pub(crate) use node::Node;
