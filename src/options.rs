// SPDX-License-Identifier: GPL-2.0

//! Mount options.

use crate::vfs::{Context, Param, Value};
use kernel::prelude::*;

/// Mount options, at first their defaults.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    /// How much of the image is compared with its checksums at mount.
    pub(crate) check: Check,
    /// The SHA-256 that the whole image must have.
    pub(crate) digest: Option<[u8; 32]>,
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
            digest: None,
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
            b"digest" => {
                self.digest = match &param.value {
                    Value::Text(text) => parse_digest(text.to_bytes()),
                    _ => None,
                };
                if self.digest.is_none() {
                    context.error(fmt!("digest= takes the 64 hexadecimal digits of a SHA-256"));
                    return Err(EINVAL);
                }
            }
            _ => return Err(ENOPARAM),
        }
        Ok(())
    }
}

/// The bytes that 64 hexadecimal digits stand for.
fn parse_digest(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut digest = [0; 32];
    if text.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(digest)
}
