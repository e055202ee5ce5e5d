// SPDX-License-Identifier: GPL-2.0-only

//! `sign` and `verify`: signatures of images.

use crate::digest::digest_of;
use crate::error::{Error, Result};
use crate::source::{cannot_open, At, Opened};
use crate::text::shown_path;
use daxfs_check::digest::hex;
use daxfs_reader::Image;
use daxfs_signature::attach::{self, Signer};
use daxfs_signature::files::{self, FileError, Why};
use daxfs_signature::{Certificate, Signed};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// Means of making a signature.
pub enum By<'a> {
    /// The private key in a file, the file with its certificate, and those with certificates of
    /// authorities.
    Key(&'a Path, &'a Path, &'a [PathBuf]),
    /// Another program, which has put it into a file.
    Message(&'a Path),
}

/// The same, with the files' content.
enum Hand<'a> {
    /// The private key and its certificates, the first of which is in this file.
    Signer(Box<Signer>, &'a Path),
    /// The signature.
    Message(Signed),
}

impl From<FileError> for Error {
    fn from(FileError { path, why }: FileError) -> Self {
        let name = shown_path(&path);
        match why {
            Why::Open(error) => cannot_open(&name, error),
            Why::Read(error) => Error::system(name, "cannot read", "", error),
            Why::Content(error) => Error::refused(name, error.to_string()),
        }
    }
}

/// Sign the image in the file `path`, until the second `expires` if that is named. Return its
/// SHA-256.
pub fn sign(path: &Path, by: By<'_>, expires: Option<u64>) -> Result<String> {
    let hand = match by {
        By::Key(key, cert, chain) => {
            Hand::Signer(Box::new(files::signer(key, cert, chain, expires)?), cert)
        }
        By::Message(file) => Hand::Message(message(file, expires)?),
    };
    let image = Opened::open(path)?;
    let name = shown_path(path);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| cannot_open(&name, error))?;
    let size = match file.metadata() {
        Ok(status) if status.is_file() => status.len(),
        _ => {
            let why =
                "is not a regular file; sign the image in a file, then write it with daxfs write";
            return Err(Error::refused(name, why));
        }
    };
    let digest = digest_of(&image)?;
    let signed = match hand {
        Hand::Message(signed) => signed,
        Hand::Signer(signer, cert) => signer
            .sign(&digest)
            .map_err(|error| Error::refused(shown_path(cert), error.to_string()))?,
    };
    let padding = attach::usual_padding(&image.superblock, size);
    attach::write::<crate::source::Source>(&file, &image.superblock, &signed, padding)
        .map_err(|error| Error::system(name, "cannot write the signature", "", error))?;
    Ok(hex(&digest))
}

/// Verify the image at the place `at` in `path`: its signature by the owner of one of `certs`, or by somebody for
/// whom one of these vouches, and its content. Return its SHA-256.
pub fn verify(path: &Path, at: &At, certs: &[PathBuf]) -> Result<String> {
    let certs = certificates(certs)?;
    let image = Opened::open_at(path, at)?;
    let name = &image.name;
    let signed = attach::load(&Image::new(&image.source, &image.superblock))
        .map_err(|error| Error::image(name, b"", error))?
        .ok_or_else(|| Error::refused(name, "the image is not signed; sign it with daxfs sign"))?;
    let digest = &image.superblock.sha256;
    daxfs_signature::verify(&signed, digest, &certs, daxfs_signature::now())
        .map_err(|error| Error::refused(name, error.to_string()))?;
    Ok(hex(&digest_of(&image)?))
}

fn message(path: &Path, expires: Option<u64>) -> Result<Signed> {
    Signed::new(files::read(path)?, expires).ok_or_else(|| {
        let why = "no CMS message in DER as it is needed; \
                   use openssl cms -sign -binary -noattr -outform DER";
        Error::refused(shown_path(path), why)
    })
}

/// Load certificates from files.
pub fn certificates(paths: &[PathBuf]) -> Result<Vec<Certificate>> {
    let certificates = paths.iter().map(|path| files::certificate(path));
    Ok(certificates.collect::<files::Result<_>>()?)
}
