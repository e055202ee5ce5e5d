// SPDX-License-Identifier: GPL-2.0-only

//! Mount options.

use crate::linux::fs::{refusal, Param, Refusal, Value};
use crate::linux::{dma_buf::DmaBuf, memfd::Memfd};
use kernel::{fmt, prelude::*};

/// Mount options.
#[derive(Default)]
pub(crate) struct Options {
    /// The memory that holds the image. Without it, the mount's source is a device that does.
    pub(crate) source: Option<Source>,
    /// Length of the range that `phys=` starts, in bytes.
    pub(crate) size: Option<u64>,
    /// First byte of the image on the source.
    pub(crate) offset: Option<u64>,
    /// Bytes of the source from there on that the image may have.
    pub(crate) length: Option<u64>,
    /// The checks to make at mount.
    pub(crate) checks: Checks,
}

/// Memory that an option names.
pub(crate) enum Source {
    /// A range of physical memory that starts at this address.
    Phys(u64),
    /// A dma-buf.
    DmaBuf(DmaBuf),
    /// A sealed memfd.
    Memfd(Memfd),
}

/// How a mount names the memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// By its source, which is a device.
    Device,
    /// By `phys=` and `size=`: address and length in bytes.
    Phys(u64, u64),
    /// By an option with this name that takes a file descriptor.
    Descriptor(&'static str),
}

/// The checks to make at mount.
#[derive(Clone, Copy, Default)]
pub(crate) struct Checks {
    /// Compare all metadata, everything before the file data, with their checksum, or not. The
    /// default is to do so at the first mount.
    pub(crate) metadata: Option<bool>,
    /// The SHA-256 that the whole image must have.
    pub(crate) digest: Option<[u8; 32]>,
    /// The image must have a signature that the kernel trusts, and the SHA-256 that it signs.
    pub(crate) signature: bool,
    /// When to compare the image with the digest. The default is at mount.
    pub(crate) verify: Option<Verify>,
}

/// When to compare an image with its digest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verify {
    /// All of it at mount.
    Full,
    /// The metadata at mount, each piece of data before its first use.
    Lazy,
}

impl Checks {
    /// Returns these checks; demand a signature if `always`.
    pub(crate) fn demanding(&self, always: bool) -> Self {
        Checks {
            signature: self.signature || always,
            ..*self
        }
    }

    /// Refuses options that have no effect.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is nothing to verify.
    pub(crate) fn validate(&self) -> Result<(), Refusal> {
        if self.verify.is_some() && !self.has_digest() {
            return Err(refusal!(
                EINVAL,
                "verify= needs digest= or signature=required"
            ));
        }
        Ok(())
    }

    /// Returns true if the image is compared with a SHA-256: `digest=`, or the one that is signed.
    pub(crate) fn has_digest(&self) -> bool {
        self.digest.is_some() || self.signature
    }

    /// Returns true if the image is compared with a SHA-256 in this way.
    pub(crate) fn compares(&self, verify: Verify) -> bool {
        self.has_digest() && self.verify.unwrap_or(Verify::Full) == verify
    }
}

impl Options {
    /// Returns what names the memory. Without `size=`, the length after `phys=` is 0.
    pub(crate) fn named(&self) -> Named {
        match &self.source {
            None => Named::Device,
            Some(Source::Phys(start)) => Named::Phys(*start, self.size.unwrap_or(0)),
            Some(Source::DmaBuf(_)) => Named::Descriptor("dmabuf"),
            Some(Source::Memfd(_)) => Named::Descriptor("memfd"),
        }
    }

    /// Parses one option.
    ///
    /// # Errors
    ///
    /// `ENOPARAM` if it is unknown, `EINVAL` if its value is invalid.
    pub(crate) fn parse(&mut self, param: &Param<'_>, is_remount: bool) -> Result<(), Refusal> {
        let refuse = |reason: fmt::Arguments<'_>| Err(Refusal::new(EINVAL, reason));
        if is_remount {
            match (param.key.to_bytes(), &param.value) {
                // mount(8) repeats what /proc/mounts shows, which hides addresses and descriptors.
                (b"phys" | b"dmabuf" | b"memfd", Value::Flag) => return Ok(()),
                (b"dmabuf" | b"memfd", _) => {
                    return refuse(fmt!("a remount cannot change the image's memory"))
                }
                _ => {}
            }
        }
        let text = match &param.value {
            Value::Text(text) => text.to_bytes(),
            _ => b"",
        };
        let takes = |what: &str| refusal!(EINVAL, "{}= takes {what}", param.key);
        let number = |what| parse_bytes(text).ok_or_else(|| takes(what));
        match param.key.to_bytes() {
            b"check" => {
                self.checks.metadata = Some(match text {
                    b"metadata" => true,
                    b"none" => false,
                    _ => return Err(takes("'metadata' or 'none'")),
                });
            }
            b"digest" => {
                let digest = parse_digest(text);
                let what = "the 64 hexadecimal digits of a SHA-256";
                self.checks.digest = Some(digest.ok_or_else(|| takes(what))?);
            }
            b"signature" => match text {
                b"required" => self.checks.signature = true,
                _ => return Err(takes("'required'")),
            },
            b"verify" => {
                self.checks.verify = Some(match text {
                    b"full" => Verify::Full,
                    b"lazy" => Verify::Lazy,
                    _ => return Err(takes("'full' or 'lazy'")),
                });
            }
            b"fsoffset" => self.offset = Some(number("a number of bytes, such as 0x200000 or 2M")?),
            b"fslength" => self.length = Some(number("a number of bytes, such as 0x200000 or 2M")?),
            b"size" => self.size = Some(number("a length in bytes, such as 0x4000000 or 64M")?),
            b"phys" => {
                let start = number("an address in bytes, such as 0x100000000 or 4G")?;
                self.set_source(Source::Phys(start))?;
            }
            b"image" => {
                return refuse(fmt!(
                    "image= is an option of mount.daxfs, which looks the image up in the \
                     catalogue; the kernel takes fsoffset= and fslength="
                ))
            }
            key @ (b"dmabuf" | b"memfd") => {
                let name = param.key;
                let Value::Descriptor(fd, file) = &param.value else {
                    return refuse(fmt!("{name} takes a file descriptor (FSCONFIG_SET_FD)"));
                };
                let (source, kind) = match key {
                    b"dmabuf" => (DmaBuf::get(*fd).ok().map(Source::DmaBuf), "a dma-buf"),
                    _ => {
                        let memfd = Memfd::new(file).map(Source::Memfd);
                        (memfd, "a memfd that is open for reading")
                    }
                };
                match source {
                    Some(source) => self.set_source(source)?,
                    None => return refuse(fmt!("{name}: file descriptor {fd} is not {kind}")),
                }
            }
            _ => return Err(ENOPARAM.into()),
        }
        Ok(())
    }

    fn set_source(&mut self, source: Source) -> Result<(), Refusal> {
        if self.source.is_some() {
            return Err(refusal!(
                EINVAL,
                "phys=, dmabuf and memfd exclude one another"
            ));
        }
        self.source = Some(source);
        Ok(())
    }
}

/// Parses a number of bytes: decimal, or hexadecimal after `0x`, with an optional suffix K, M, G or
/// T for a power of 1024.
fn parse_bytes(text: &[u8]) -> Option<u64> {
    let (number, shift) = match text.split_last()? {
        (b'k' | b'K', number) => (number, 10),
        (b'm' | b'M', number) => (number, 20),
        (b'g' | b'G', number) => (number, 30),
        (b't' | b'T', number) => (number, 40),
        _ => (text, 0),
    };
    let (digits, radix) = match number {
        [b'0', b'x' | b'X', digits @ ..] => (digits, 16),
        _ => (number, 10),
    };
    let digits = core::str::from_utf8(digits).ok()?;
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, radix)
        .ok()?
        .checked_mul(1 << shift)
}

/// Parses 64 hexadecimal digits.
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
