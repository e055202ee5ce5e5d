// SPDX-License-Identifier: GPL-2.0

//! Mount options.

use crate::vfs::{Context, Param, Value};
use kernel::prelude::*;

/// Mount options, at first their defaults.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    /// How much of the image is compared with its checksums at mount.
    pub(crate) check: Check,
}

/// How much of an image is compared with its checksums at mount; its superblock always is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// All metadata: everything in front of the file data.
    Metadata,
    /// Nothing further.
    None,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            check: Check::Metadata,
        }
    }
}

impl Options {
    /// Takes one option.
    ///
    /// # Errors
    ///
    /// `ENOPARAM` for one that is unknown, `EINVAL` for a wrong value.
    pub(crate) fn parse(&mut self, param: &Param<'_>, context: &Context) -> Result {
        match param.key.to_bytes() {
            b"check" => {
                self.check = match &param.value {
                    Value::Text(text) if text.to_bytes() == b"metadata" => Check::Metadata,
                    Value::Text(text) if text.to_bytes() == b"none" => Check::None,
                    _ => {
                        context.error(fmt!("check= takes 'metadata' or 'none'"));
                        return Err(EINVAL);
                    }
                }
            }
            _ => return Err(ENOPARAM),
        }
        Ok(())
    }
}
