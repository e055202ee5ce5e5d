// SPDX-License-Identifier: GPL-2.0

//! Where the bytes of an image live.
//!
//! A region is mapped once, at mount. To read it, take hold of it with [`DaxRegion::access`], which keeps
//! the device from going away; metadata is then loaded by copy through [`crate::image::Memory`], and file
//! content is copied straight to its reader. Both survive a machine check.

mod dax;

pub(crate) use dax::{Access, DaxRegion, OpenError};
