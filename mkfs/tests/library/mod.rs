// SPDX-License-Identifier: GPL-2.0-only

//! The library's tests.

mod archives;
mod changes;
mod composed;
mod documentation;
mod golden;
mod packing;
