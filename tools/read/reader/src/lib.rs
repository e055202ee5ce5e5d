// SPDX-License-Identifier: GPL-2.0-only OR MIT

#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "std")]
#[macro_use]
extern crate std;

#[cfg(feature = "std")]
mod entries;
mod extra;
pub mod hash;
// A link to the directory from which the kernel module is built. A package holds a copy of the
// files.
#[cfg(feature = "std")]
pub mod catalog;
mod image;
#[cfg(feature = "std")]
mod path;
mod slice;

#[cfg(feature = "std")]
pub use entries::Entries;
pub use image::*;
#[cfg(feature = "std")]
pub use path::FindError;

impl core::error::Error for Error {}
