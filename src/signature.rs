// SPDX-License-Identifier: GPL-2.0-only

//! Signatures of images: who may have made an image that is mounted.

#![deny(unsafe_code)]

use crate::image::{self, signature::Section, Image, Problem};
use crate::linux::fs::Context;
use crate::linux::{keyring, Errno, Keyring};
use crate::memory::Region;
use crate::options::Checks;
use kernel::{prelude::*, str::CString};

/// Name of the keyring.
pub(crate) const KEYRING: &CStr = c".daxfs";

/// Return the checks to make of `image`: if they demand a signature, verify it, and compare the
/// image with the digest that it signs.
///
/// # Errors
///
/// `ENODATA` if the image has no signature, `ENOKEY`, `EKEYREJECTED`, `EKEYEXPIRED` and
/// `EKEYREVOKED` if the signature does not count, `EBADMSG` if it is malformed or `digest=` is
/// another one, `EOPNOTSUPP` and `ENOPKG` if the kernel cannot verify it, `EIO`, `ENOMEM`.
pub(crate) fn resolve(
    checks: &Checks,
    image: &Image<'_, Region>,
    keyring: &Keyring,
    context: &Context,
) -> Result<Checks> {
    if !checks.signature {
        return Ok(*checks);
    }
    let digest = image.superblock().sha256;
    if checks.digest.is_some_and(|expected| expected != digest) {
        context.error(fmt!(
            "{}: the image's SHA-256 is not digest=",
            context.source()
        ));
        return Err(Errno::BadMessage.into());
    }
    verify(image, keyring).map_err(|failure| refuse(failure, context))?;
    Ok(Checks {
        digest: Some(digest),
        ..*checks
    })
}

/// Reasons to refuse a signature.
enum Failure {
    /// There is none.
    Unsigned,
    /// It is malformed or cannot be read.
    Image(image::Error),
    /// It counted until this second, since 1970.
    Expired(u64),
    /// The kernel refuses it, or there is not enough memory.
    Other(Error),
}

impl From<image::Error> for Failure {
    fn from(error: image::Error) -> Self {
        Failure::Image(error)
    }
}

impl From<kernel::alloc::AllocError> for Failure {
    fn from(_: kernel::alloc::AllocError) -> Self {
        Failure::Other(ENOMEM)
    }
}

/// Verify the signature of `image`.
fn verify(image: &Image<'_, Region>, keyring: &Keyring) -> Result<(), Failure> {
    let section = Section::find(image.memory(), image.superblock())?.ok_or(Failure::Unsigned)?;
    // At most SIGNATURE_MAX, and a copy that nobody changes.
    let mut cms = KVVec::from_elem(0, section.table.length as usize, GFP_KERNEL)?;
    section.load(image.memory(), &mut cms)?;
    let line = section.line();
    let text = CString::try_from_fmt(format_args!("{line}")).map_err(Failure::Other)?;
    keyring
        .verify(text.to_bytes(), &cms)
        .map_err(Failure::Other)?;
    // Only now is the time known to be the signer's.
    match keyring::now() as u64 > line.expires {
        true => Err(Failure::Expired(line.expires)),
        false => Ok(()),
    }
}

/// Log why a signature does not count. Return the error code for it.
fn refuse(failure: Failure, context: &Context) -> Error {
    let source = context.source();
    let (why, error) = match failure {
        Failure::Unsigned => (
            "the image is not signed; sign it with daxfs sign",
            Errno::NoData.into(),
        ),
        Failure::Image(error) => {
            context.error(fmt!("{}: {}", source, error));
            return match error.problem {
                Problem::Unreadable => EIO,
                _ => Errno::BadMessage.into(),
            };
        }
        Failure::Expired(second) => {
            context.error(fmt!(
                "{}: the signature has expired, at {} seconds since 1970; sign the image again",
                source,
                second
            ));
            return Errno::KeyExpired.into();
        }
        Failure::Other(error) => (reason(error), error),
    };
    context.error(fmt!("{}: {}: {:?}", source, why, error));
    error
}

/// Return what an `error` of [`Keyring::verify`] means.
fn reason(error: Error) -> &'static str {
    let is = |errno: Errno| error == errno.into();
    if is(Errno::NoKey) {
        "the certificate of the signature is not trusted; \
         add it, or its issuer's, to the keyring .daxfs"
    } else if is(Errno::KeyRejected) {
        "the signature is wrong, or the kernel's .blacklist has its key or certificate; \
         sign the image again, in the second case with another key"
    } else if is(Errno::KeyExpired) {
        "the key of the signature has expired in the keyring; add a new one, and sign again"
    } else if is(Errno::KeyRevoked) {
        "the certificate of the signature is not trusted, and a key in the keyring .daxfs has been \
         revoked; if it is that of the signature, sign it with another key"
    } else if is(Errno::BadMessage) {
        "the kernel cannot parse the signature; sign the image again"
    } else if is(Errno::NoPackage) {
        "the kernel lacks an algorithm of the signature; use another kind of key"
    } else if is(Errno::NotSupported) {
        "the kernel cannot verify signatures; it needs SYSTEM_DATA_VERIFICATION, \
         and DAXFS_FS_SIGNATURES if daxfs is part of it"
    } else {
        "the signature cannot be verified"
    }
}
