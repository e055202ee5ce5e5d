// SPDX-License-Identifier: GPL-2.0-only

//! A store keeps each file's content once, however many images contain it.
//!
//! * `STORE/packs/SHA256.daxfs` is a *pack*: an image of *objects*, files named by the SHA-256 of
//!   their content, in the order of the tree. The pack's name is the image's SHA-256.
//!   Documentation/store.rst describes what goes into a pack.
//! * `STORE/images/NAME.daxfs` is the *composed image* of a tree: its non-empty regular files are
//!   in packs, whose SHA-256 is in the image's table. So the image's SHA-256 or signature covers
//!   everything.
//! * `STORE/active` is a link to the image that is mounted if no name is given.
//! * `STORE/lock` is locked by processes that change the store.
//!
//! Files are complete when they appear, and an image appears after its packs. Their content never
//! changes, but a signature may be added. [`Store::remove`] and [`Store::gc`] remove whole files.
//!
//! [`Store`] manages the files, and [`mount()`] loads them, each once per machine. [`Device`] is a
//! store on a device, from which other kernels mount images; [`Place`] is either. [`Store::export`]
//! writes an image to an OCI layout, [`Store::import`] adds one from there. [`Store::add_layer`]
//! adds an image with a container's layer on top of another image.

mod add;
mod demand;
mod device;
mod escape;
mod export;
mod files;
mod group;
mod import;
mod layer;
mod layout;
mod listing;
mod mount;
mod pack;
mod place;
mod store;
mod verify;

pub use add::{Added, Guard, Total};
pub use demand::{AskRoom, Server};
pub use device::{Copied, Device};
pub use export::{Published, PACKS};
pub use files::{lock, sync_parent, wait_for_others};
pub use import::Exported;
pub use layer::merge_upper;
pub use layout::IMAGE;
pub use listing::{Listed, Listing};
pub use mount::{mount, Demands};
pub use pack::PackRef;
pub use place::Place;
pub use store::{Freed, Store};
pub use verify::Verified;
