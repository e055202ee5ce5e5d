// SPDX-License-Identifier: GPL-2.0-only

//! `push` and `pull`: images as artifacts in an OCI image layout.

mod blob;
mod layout;
mod manifest;
mod pull;
mod push;
mod reference;

pub use pull::{pull, Demands};
pub use push::{push, Options};
