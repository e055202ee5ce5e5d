// SPDX-License-Identifier: GPL-2.0-only

//! Image signatures, which determine whose images we mount.

use crate::image::{
    signature::Section,
    Memory, //
};
use crate::linux::keyring;
use crate::prelude::*;

pub(crate) use crate::linux::keyring::Keyring;

/// Verifies the signature of `image`. It signs the SHA-256 in the superblock.
///
/// Errors: `ENODATA` if the image has no signature, `ENOKEY`, `EKEYREJECTED`, `EKEYEXPIRED` and
/// `EKEYREVOKED` if the signature does not count, `EBADMSG` if it is malformed, `EOPNOTSUPP` and
/// `ENOPKG` if the kernel cannot verify it, `EIO`, `ENOMEM`.
pub(crate) fn verify(image: &Image<'_, impl Memory>, keyring: &Keyring) -> Result<(), Refusal> {
    let malformed = |error: image::Error| match error.problem {
        Problem::Unreadable => refusal!(EIO => "{error}"),
        _ => refusal!(Errno::BadMessage => "{error}"),
    };
    let section = Section::find(image.memory(), image.superblock()).map_err(malformed)?;
    let section = section.ok_or_else(
        || refusal!(Errno::NoData => "the image is not signed"; "sign it with daxfs sign"),
    )?;
    // At most SIGNATURE_MAX, and a private copy.
    let mut cms = KVVec::from_elem(0, section.table.length as usize, GFP_KERNEL)?;
    section.load(image.memory(), &mut cms).map_err(malformed)?;
    let line = section.line();
    let text = CString::try_from_fmt(format_args!("{line}"))?;
    keyring
        .verify(text.to_bytes(), &cms)
        .map_err(|error| refusal!(error => "{}: {error:?}", reason(error)))?;
    // The time can be trusted only now that the signature is verified.
    let expires = line.expires;
    if keyring::now() as u64 > expires {
        refuse!(Errno::KeyExpired => "the signature has expired, at {expires} seconds since 1970";
            "sign the image again");
    }
    Ok(())
}

/// Explains an `error` from [`Keyring::verify`], with a remedy.
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
    } else {
        "the signature cannot be verified"
    }
}
