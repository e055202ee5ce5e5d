// SPDX-License-Identifier: GPL-2.0-only

//! Names for most files above [`linux`](crate::linux).

pub(crate) use crate::image::{
    self,
    layout,
    Image,
    Problem, //
};
pub(crate) use crate::linux::{
    fs::*,
    global_mutex,
    prelude::*,
    security::User,
    Hex, //
};
pub(crate) use kernel::page::PAGE_SIZE;
