// SPDX-License-Identifier: GPL-2.0-only

#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

// A link to the directory from which the kernel module is built. A package holds a copy of the
// files.
mod image;
mod slice;

pub use image::*;

impl core::error::Error for Error {}
