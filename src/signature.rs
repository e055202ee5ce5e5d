// SPDX-License-Identifier: GPL-2.0-only

//! Signatures of images: who may have made an image that is mounted.

#![deny(unsafe_code)]

use crate::image::{self, signature, Image, Problem};
use crate::memory::Region;
use crate::options::Checks;
use crate::support::{keyring, Errno, Keyring, Sha256};
use crate::vfs::Context;
use kernel::prelude::*;

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
    verify(image, &digest, keyring).map_err(|failure| refuse(failure, context))?;
    Ok(Checks {
        digest: Some(digest),
        ..*checks
    })
}

/// Reasons to refuse a signature.
enum Failure {
    /// There is none.
    Unsigned,
    /// It is malformed or cannot be read, or the time of a certificate is wrong.
    Image(image::Error),
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

/// Verify the signature of the image with this `digest`.
fn verify(image: &Image<'_, Region>, digest: &[u8; 32], keyring: &Keyring) -> Result<(), Failure> {
    let section = signature::Section::find(image.memory(), image.superblock())?;
    let section = section.ok_or(Failure::Unsigned)?;
    // At most SIGNATURE_MAX, and a copy that nobody changes.
    let mut cms = KVVec::from_elem(0, section.table.length as usize, GFP_KERNEL)?;
    section.load(image.memory(), &mut cms)?;
    let parsed = signature::Signature::parse(&cms)
        .ok_or_else(|| section.error(Problem::Signature, section.table.length))?;
    // The kernel does not look at the clock.
    parsed
        .check_times(keyring::now())
        .map_err(|(problem, limit)| section.error(problem, limit as u64))?;
    let mut signer = Sha256::new();
    signer.update(parsed.signer.whole);
    keyring
        .verify(&signature::message(digest, &signer.finish()), &cms)
        .map_err(Failure::Other)
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
                Problem::Expired => Errno::KeyExpired.into(),
                Problem::NotYetValid => Errno::KeyRejected.into(),
                _ => Errno::BadMessage.into(),
            };
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
