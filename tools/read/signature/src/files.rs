// SPDX-License-Identifier: GPL-2.0-only

//! Keys and certificates in files.

use crate::attach::Signer;
use crate::certificate::{self, Certificate};
use crate::error::Error;
use crate::signed::Key;
use rustix::fs::OFlags;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longest file that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// Why a file cannot be used.
#[derive(Debug)]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The error in it.
    pub why: Why,
}

/// The error in a file.
#[derive(Debug)]
pub enum Why {
    /// It cannot be opened.
    Open(io::Error),
    /// It cannot be read.
    Read(io::Error),
    /// It holds something else, or does not go with the others.
    Content(Error),
}

/// The result of using a file.
pub type Result<T> = std::result::Result<T, FileError>;

fn refuse(path: &Path, why: Why) -> FileError {
    let path = path.into();
    FileError { path, why }
}

/// Return the first MiB of a file. Do not wait for the other end of a FIFO.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|error| refuse(path, Why::Open(error)))?;
    // Wait for another program that writes into a pipe.
    rustix::fs::fcntl_setfl(&file, OFlags::empty())
        .map_err(|error| refuse(path, Why::Read(error.into())))?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse(path, Why::Read(error)))?;
    Ok(bytes)
}

/// Return the certificate in a file.
pub fn certificate(path: &Path) -> Result<Certificate> {
    certificate::parse(&read(path)?).map_err(|error| refuse(path, Why::Content(error)))
}

/// Return who signs: with the private key in the file `key`, its certificate in `cert`, and the
/// certificates of authorities in `chain`. The signature counts until the second `expires`.
pub fn signer(key: &Path, cert: &Path, chain: &[PathBuf], expires: Option<u64>) -> Result<Signer> {
    let pair = Key::parse(&read(key)?);
    let others = chain.iter().map(|cert| certificate(cert));
    Ok(Signer {
        key: pair.map_err(|error| refuse(key, Why::Content(error)))?,
        certificate: certificate(cert)?,
        others: others.collect::<Result<_>>()?,
        expires,
    })
}
