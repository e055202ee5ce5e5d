// SPDX-License-Identifier: GPL-2.0-only

//! A store: images of trees, in which the content of each file is once, whatever images have it.
//!
//! * `STORE/images/NAME.daxfs` is the *metadata image* of a tree: its regular files that are not
//!   empty have a size and no data. overlayfs finds the data by the attribute
//!   `trusted.overlay.redirect`, `/ID/SHA256`.
//! * `STORE/packs/ID.daxfs` is a *pack*: an image of *objects*, files `/ID/SHA256`, named by
//!   the SHA-256 of their content. An addition makes a pack of the objects that no pack has, one of
//!   the objects in packs of which it needs little, and one of each object that has a quarter of what
//!   is new. The ID is a hash of the names of the objects in their order, which is the tree's. It comes first in the paths, so that one
//!   failed look-up is enough for a pack without the object.
//! * `STORE/lock` is locked by those who change the store.
//!
//! The root of a metadata image has the attribute [`PACKS`]: the packs that the image needs, with
//! their SHA-256. So the SHA-256 of a metadata image, or its signature, covers all of its content.
//!
//! Files are complete when they appear, and a metadata image appears after its packs. Their content
//! does not change afterwards; a signature may be added. [`Store::remove`] and [`Store::gc`] remove
//! whole files.
//!
//! [`Store`] has the files, [`mount()`] puts them into memory, each once in a machine. [`copy`] puts them on a device, from
//! which other kernels mount them.
//! [`Store::add_layer`] makes an image of a layer of a container, on top of another image.

mod add;
mod device;
mod files;
mod layer;
mod machine;
mod metadata;
mod origin;
mod pack;
mod run;
mod store;
mod verify;

pub use add::{Added, Guard, Total};
pub use device::{copy, gc};
pub use files::{lock, sync_parent};
pub use machine::{lower, mount, tidy, unmount, Layers, Room};
pub use metadata::PACKS;
pub use origin::{Demands, Origin};
pub use pack::PackRef;
pub use store::{Freed, Listed, Loaded, Store};
pub use verify::Verified;
