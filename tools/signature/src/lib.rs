// SPDX-License-Identifier: GPL-2.0-only

//! Signs images, and verifies their signatures as the kernel does.
//!
//! * [`Key`], [`Certificate`]: who signs, in PEM or DER
//! * [`sign`]: make the CMS message that follows an image
//! * [`verify`]: verify such a message
//! * [`attach`]: put it into the image's file

mod algorithm;
pub mod attach;
pub mod certificate;
pub mod cms;
mod error;
mod pem;
mod signed;

pub use certificate::Certificate;
pub use error::{Error, Result};
pub use signed::{now, sign, verify, Key, Signed};
