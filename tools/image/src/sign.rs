// SPDX-License-Identifier: GPL-2.0-only

//! `sign` and `verify`: signatures of images.

use crate::error::{Error, Result};
use crate::source::{cannot_open, name_of, open_now, At, Opened, Source};
use crate::text::shown_path;
use daxfs_files::digest::hex;
use daxfs_reader::Image;
use daxfs_signature::{attach, certificate, now, Certificate, Key, Signed};
use rustix::fs::{fcntl_setfl, OFlags};
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Longest file that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// Means of making a signature.
pub enum By<'a> {
    /// The private key in a file, the file with its certificate, and those with certificates of
    /// authorities.
    Key(&'a Path, &'a Path, &'a [PathBuf]),
    /// Another program, which has put it into a file.
    Message(&'a Path),
}

/// Makes the signature of the image with this SHA-256.
type Sign<'a> = Box<dyn FnOnce(&[u8; 32]) -> Result<Signed> + 'a>;

/// Sign the image in the file `path`, until the second `expires` if that is named. Return its
/// SHA-256.
pub fn sign(path: &Path, by: By<'_>, expires: Option<u64>) -> Result<String> {
    let sign: Sign<'_> = match by {
        By::Key(key, cert, chain) => {
            let pair = parsed(key, Key::parse)?;
            let certificate = parsed(cert, certificate::parse)?;
            let others = certificates(chain)?;
            Box::new(move |digest| {
                let now = now();
                daxfs_signature::sign(digest, &pair, &certificate, &others, expires, now)
                    .map_err(|error| Error::refused(shown_path(cert), error.to_string()))
            })
        }
        By::Message(file) => {
            let signed = message(file, expires)?;
            Box::new(|_| Ok(signed))
        }
    };
    let name = name_of(path);
    if path.as_os_str() == "-" || path.metadata().is_ok_and(|found| !found.is_file()) {
        let why = "is not a regular file; sign the image in a file, then write it with daxfs write";
        return Err(Error::refused(name, why));
    }
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(|error| cannot_open(&name, error))?;
    let failed = |error| Error::system(&name, "cannot write the signature", "", error);
    let size = file.metadata().map_err(failed)?.len();
    let image = Source::file(file.try_clone().map_err(failed)?, 0, size);
    let image = Opened::of_source(image, name.clone())?;
    let digest = image.digest()?;
    let signed = sign(&digest)?;
    let padding = attach::usual_padding(&image.superblock, size);
    attach::write::<Source>(&file, &image.superblock, &signed, padding).map_err(failed)?;
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
    daxfs_signature::verify(&signed, digest, &certs, now())
        .map_err(|error| Error::refused(name, error.to_string()))?;
    Ok(hex(&image.digest()?))
}

fn message(path: &Path, expires: Option<u64>) -> Result<Signed> {
    Signed::new(read(path)?, expires).ok_or_else(|| {
        let why = "no CMS message in DER as it is needed; \
                   use openssl cms -sign -binary -noattr -outform DER";
        Error::refused(shown_path(path), why)
    })
}

/// Load certificates from files.
pub fn certificates(paths: &[PathBuf]) -> Result<Vec<Certificate>> {
    let certificates = paths.iter().map(|path| parsed(path, certificate::parse));
    certificates.collect()
}

/// Return what `parse` makes of the content of a file.
fn parsed<T>(path: &Path, parse: impl Fn(&[u8]) -> daxfs_signature::Result<T>) -> Result<T> {
    parse(&read(path)?).map_err(|error| Error::refused(shown_path(path), error.to_string()))
}

/// Return the first MiB of a file. Do not wait for the other end of a FIFO.
fn read(path: &Path) -> Result<Vec<u8>> {
    let name = shown_path(path);
    let file = open_now(path).map_err(|error| cannot_open(&name, error))?;
    let failed = |error: io::Error| Error::system(&name, "cannot read", "", error);
    // Wait for another program that writes into a pipe.
    fcntl_setfl(&file, OFlags::empty()).map_err(|error| failed(error.into()))?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}
