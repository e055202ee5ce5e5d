// SPDX-License-Identifier: GPL-2.0-only

//! Parse any CMS message, and read it as the signature of an image. A panic is a bug, and so is a
//! run that does not end.

#![no_main]

use daxfs_testing::signing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| signing::read(input));
