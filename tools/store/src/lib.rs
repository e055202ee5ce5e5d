// SPDX-License-Identifier: GPL-2.0-only

//! A store keeps each file's content once, however many images contain it.
//!
//! * `STORE/packs/SHA256.daxfs` is a *pack*: an image of *objects*, files named by the SHA-256 of their content, in the
//!   order of the tree. The pack's name is the SHA-256 of the image. Documentation/store.rst has the rules for what is in one.
//! * `STORE/images/NAME.daxfs` is the *composed image* of a tree: its regular files that are not empty are in packs. Its
//!   table of packs has the SHA-256 of each. So the SHA-256 of the image, or its signature, covers all of its content.
//! * `STORE/active` is a link to the image that is mounted without a name.
//! * `STORE/lock` is locked by those who change the store.
//!
//! Files are complete when they appear, and an image appears after its packs. Their content
//! does not change afterwards; a signature may be added. [`Store::remove`] and [`Store::gc`] remove
//! whole files.
//!
//! [`Store`] has the files, [`mount()`] puts them into memory, each once in a machine. [`Device`] is a store on a device,
//! from which other kernels mount them; [`Place`] is either one.
//! [`Store::export`] writes an image into an OCI layout, and [`Store::import`] adds one from there.
//! [`Store::add_layer`] makes an image of a layer of a container, on top of another image.

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
